// Package routing decides how a host's replies are routed: values in, values
// out, no I/O.
//
// NGINX listens on addresses. An address belongs to an uplink: a link with a
// default gateway. What a client sent through that gateway must be answered
// through it, whatever the host's default route is. So each path (an uplink, a
// family and a gateway) gets a table of its own, with the link's own routes and
// a default, and each prefix that holds listeners (the cover of the path) gets
// two rules, in front of main:
//
//	from P iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76
//	from P iif lo lookup TABLE
//
// The first is a live view of main without the ways through uplinks:
// containers, VPN peers and bans answer as ever. What is left goes to the path.
// `iif lo` keeps the rules off forwarded packets; all uplinks are in link
// group 76.
//
// Decide makes a Decision from Inputs in eight steps: it derives the topology
// of the host, finds the path of each listener, covers listeners by prefixes,
// gives paths their tables, lays out the state in which every path works,
// judges which paths are needed, lays out the state with those alone, and
// describes what that state does. The decision depends on its Inputs alone, and
// is used only for inputs that it Holds for.
//
// In the mode last-hop each reply goes to the router that its request came
// from. A program on the path's routes knows it, from what filters on the links
// have learned; where it does not, the packet takes the route it is on.
//
// Compare turns the state that is there into the one that is wanted; Execute
// carries that out in a safe order. Owned names what is ours: what agrees in
// protocol and range, and nothing else. Lookup is the kernel's own walk over
// rules and tables; it says what becomes of a reply before and after. A Claim
// lets a kernel say whether that is true. Examine finds what is wrong with a
// host as it is.
package routing
