// Package lasthop answers each connection by the router that its request came
// from, whatever the routes say. On a BIG-IP this is Auto-Last-Hop. See
// docs/last-hop.md.
//
// Two BPF programs share nine maps (lasthop.c). The first is a filter at the
// ingress of a link and records the router of each connection to a listener.
// The second is the `encap bpf xmit` of a route by a gateway, and sends the
// replies of such a connection back to its router. If it does not know the
// router, the packet goes on by the route. So if the program, an entry or the
// daemon is missing, replies go as they would without it.
//
// Package host attaches both programs. This package loads them, keeps the maps
// across processes and reads and writes their entries. It needs CAP_BPF and
// CAP_NET_ADMIN.
package lasthop

//go:generate sh generate.sh
