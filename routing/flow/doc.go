// Package flow observes packets: which way requests come in to the listeners,
// and which way the replies leave. It checks the model of package routing
// against packets. It also finds faults that no question to the kernel shows: a
// router that sends requests by another link than the routes say, a next hop
// that does not answer, a firewall that drops.
//
//	kernel --filter--> ring --Parse--> Packet --table--> flows --> routing.Evidence
//
// One AF_PACKET socket sees every link of one network namespace, both ways. A
// classic BPF program in the kernel drops unwanted packets, samples the other
// ones, and cuts each packet behind its ports and flags: no payload reaches
// this program. Parse, the table of flows and the evidence are pure: packets
// and times in, values out.
//
// The sampling limits what may be concluded. Handshakes and leaving payload are
// sampled by a salted hash of the flow, so that the observer sees both
// directions of a connection or neither; only then does "no packet left" mean
// anything. Leaving payload is a class of its own: no outside host can make
// this host send it without a handshake, so a flood of spoofed packets cannot
// hide genuine connections. Entering payload is another class, since blind
// acknowledgements would drown it. All other packets are sampled at random.
// Each class has a budget, and the sampling follows the traffic four times a
// second.
//
// An Observer sends nothing, writes nothing, and sets no link promiscuous. Only
// with Options.Probe it sends one echo to each router that has no name. Ask
// does send: it finds other owners of this host's addresses. The observer does
// not see paths that bypass the tap: XDP, AF_XDP, DPDK, what a NIC forwards by
// itself; nor links that come while it looks.
package flow
