// Package routing decides how a host's replies are routed: values in, values
// out, no I/O.
//
// NGINX listens on addresses. An address belongs to an uplink: a link with a
// default gateway. A request that came in through that gateway must be answered
// through it, whatever the host's default route is. So each path (an uplink, a
// family and a gateway) gets a table of its own, with the link's own routes and
// a default. Each prefix that holds listeners (the cover of the path) gets two
// rules, in front of main:
//
//	from P iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76
//	from P iif lo lookup TABLE
//
// The first rule is a live view of main without the ways through uplinks:
// containers, VPN peers and bans answer as before. All other replies go to the
// path. `iif lo` keeps the rules off forwarded packets. All uplinks are in link
// group 76.
//
// Decide makes a Decision from Inputs in eight steps. It derives the topology
// of the host. It finds the path of each listener. It covers listeners by
// prefixes. It gives paths their tables. It lays out the state in which every
// path works. It judges which paths are needed. It lays out the state with
// those alone. It describes what that state does. The decision depends on its
// Inputs alone, and is used only for inputs that it Holds for.
//
// In the mode last-hop each reply goes to the router that its request came
// from. Filters on the links learn this router, and a program on the path's
// routes looks it up. If the program does not know the router, the packet takes
// the route that it is on.
//
// Compare returns the writes that turn the present state into the wanted one.
// Execute makes these writes in a safe order. Owned returns what lasthop owns:
// the objects with lasthop's protocol in lasthop's ranges. Lookup models the
// kernel's walk over rules and tables; it returns the way of a reply before and
// after. A Claim lets a kernel confirm that the model is right. Examine finds
// what is wrong with a host as it is.
package routing
