// Package lasthop answers each connection by the router that its request came
// from, whatever the routes say: what a BIG-IP calls Auto-Last-Hop. See
// docs/last-hop.md.
//
// Two BPF programs share nine maps (lasthop.c). The first is a filter at the
// ingress of a link and notes the router of each connection to a listener. The
// second is the `encap bpf xmit` of a route by a gateway, and sends the replies
// of such a connection back to its router. Where it knows none, the packet goes
// on by the route: so whatever is missing, program, entry or daemon, replies go
// as they would without it.
//
// Attaching both is for package host: this one loads them, keeps the maps
// across processes and reads and writes their entries. It needs CAP_BPF and
// CAP_NET_ADMIN.
package lasthop

//go:generate sh generate.sh
