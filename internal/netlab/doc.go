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
// takes part in it; a test checks this. So a client that gets no answer
// contradicts whatever lasthop believes about a host.
//
// While it asks the second time `lasthop observe` looks at the host's packets.
// Its statement about a way must not contradict what the network has shown:
// whether a request was answered, the link and the MAC that it came by, and
// that an answer over TCP through a strict router has left by it. Requests over
// TCP without an answer are made several times then, until segments are
// repeated: before that the observer calls nothing dark. What it calls unknown
// contradicts nothing.
//
// `lasthop run` then guards the same networks. Events happen on the host and
// around it, drawn from the seed as well: a VIP moves, a router fails, a lease
// names another gateway, routers announce themselves, rules and VPNs come and
// go, managers write a link again or delete foreign objects, the first
// container starts. No reply may be lost after an event, nor during one that is
// not about the request: connections stay open, and datagrams go on. The daemon
// takes its listeners from nginx.conf; the oracle answers in the place of
// NGINX. In the chaos runs the daemon itself is killed, starved, has no room
// for its files, and users lie to it.
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
//	packets_test.go  what the observer sees, and whether that is possible
//	cause_test.go    which ingredient causes a fault
//	shrink_test.go   the smallest set of ingredients that shows a fault
//	netlab_test.go   the tests and their flags, the summary
//
// Of the daemon:
//
//	event_test.go    what an event is, and a seed draws a course of them
//	gateways_test.go VIPs, routers and leases
//	managers_test.go what programs do on the host
//	pulse_test.go    requests that go on while events happen
//	guard_test.go    one network, from the start of the daemon to a fault
//	events_test.go   the test and its flags, the summary
//	chaos_test.go    what happens to the daemon itself meanwhile
//	sabotage_test.go faults that must be seen
package netlab
