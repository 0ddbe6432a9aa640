// Package netlab is an oracle for lasthop: it asks the network, not the plan.
//
// It draws random networks (segments, routers, strict stateful firewalls,
// clients of every class) and, independently, a random host among them, written
// as the managers of Linux hosts would write it. It builds them in network
// namespaces, sends real requests over TCP, UDP and ping, runs a lasthop binary
// on the host, and asks again.
//
// The expected way of a reply comes from the description of the network alone:
// the link and the router that the request came in by. No package of lasthop
// takes part in it, and a test holds that. So whatever lasthop believes about a
// host, a client that gets no answer says otherwise.
//
// All of the package is in its tests:
//
//	network_test.go  what a network is
//	draw_test.go     a seed draws a network
//	host_test.go     how a manager writes the host
//	extra_test.go    what else may be on a host
//	wire_test.go     what routers and clients have in their kernels
//	build_test.go    a network becomes namespaces
//	ask_test.go      requests
//	trial_test.go    one network, from the build to the comparison after clear
//	judge_test.go    faults
//	cause_test.go    which ingredient a fault is of
//	shrink_test.go   the smallest set of ingredients that shows a fault
//	netlab_test.go   the tests and their flags, the summary
package netlab
