// Package flow looks at packets: which way requests come in to the listeners,
// and which way the replies leave. It is a witness beside the model of package
// routing, and finds what no question to the kernel shows: a router that sends
// requests by another link than the routes say, a next hop that does not
// answer, a firewall that drops.
//
//	kernel --filter--> ring --Parse--> Packet --table--> flows --> routing.Evidence
//
// One AF_PACKET socket sees every link of one network namespace, both ways. A
// classic BPF program drops in the kernel what is not wanted, samples the rest,
// and cuts each packet behind its ports and flags: no payload reaches this
// program. Parse, the table of flows and the evidence are pure: packets and
// times in, values out.
//
// The sampling is part of what may be concluded. Handshakes and leaving payload
// are taken by a salted hash of the flow, so that both directions of a
// connection are seen or neither; that alone lets "nothing left" mean anything.
// Payload that leaves is a class of its own: nobody outside can make this host
// send it without a handshake, so a flood of spoofed packets cannot hide
// genuine connections. Payload that comes in is another, since blind
// acknowledgements would drown it. Everything else is taken at random. Each
// class has a budget, and the sampling follows the traffic four times a second.
//
// An Observer sends nothing, writes nothing, and sets no link promiscuous. Only
// with Options.Probe it sends one echo to each router that has no name. Ask is
// for another question, and sends: who else has an address of this host? Not
// seen are paths past the tap: XDP, AF_XDP, DPDK, what a NIC forwards by
// itself; and links that come while it looks.
package flow
