package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// offLink are addresses that stand for clients somewhere on the Internet: those
// of the documentation and benchmark ranges first.
var offLink = map[Family][]string{
	IPv4: {"198.51.100.1", "203.0.113.1", "192.0.2.1", "198.18.0.1", "8.8.8.8", "100.64.0.1",
		"45.45.45.45", "185.1.1.1"},
	IPv6: {"2001:db8:ffff::1", "3fff::1", "2001:db8:fffe::1", "2620:fe::fe", "2001:4860::1",
		"2a00::1", "2400::1", "2600::1"},
}

// OffLink returns an address that stands for a client behind the gateways: one
// that no specific route and no rule of the host knows. If all candidates are
// known, it returns the first one.
func OffLink(h Host, f Family) netip.Addr {
	known := func(a netip.Addr) bool {
		return slices.ContainsFunc(h.Routes, func(r Route) bool {
			return !isWide(r.Dst) && r.Dst.Contains(a)
		}) ||
			slices.ContainsFunc(h.Rules, func(r Rule) bool {
				return r.To.Bits() > 0 && r.To.Contains(a)
			})
	}
	for _, s := range offLink[f] {
		if a := netip.MustParseAddr(s); !known(a) {
			return a
		}
	}
	return netip.MustParseAddr(offLink[f][0])
}

// Class says where a client is, as main sees it.
type Class string

// The classes in the order in which they are reported.
const (
	ClassOffLink  Class = "off-link"     // behind the gateways
	ClassOnLink   Class = "on-link"      // on the LAN of the address itself
	ClassOtherLAN Class = "other LAN"    // on the LAN of another uplink
	ClassStatic   Class = "static route" // behind a router that a specific route names
	// on a link that is no uplink: a container, a VM, a VPN peer, a server
	// LAN
	ClassHostLocal Class = "host-local"
	ClassBanned    Class = "banned" // a blackhole, unreachable or prohibit route is for it
	ClassRule      Class = "rule"   // a rule is for it
	ClassSelf      Class = "this host"
	ClassRouter    Class = "router"    // a gateway of the path itself: ARP, ICMP errors
	ClassHalfOpen  Class = "half-open" // it waits for an answer now
)

var classes = []Class{ClassOffLink, ClassOnLink, ClassOtherLAN, ClassStatic, ClassHostLocal,
	ClassBanned, ClassRule, ClassSelf, ClassRouter, ClassHalfOpen}

// Client is an address that stands for a class of clients.
type Client struct {
	Addr  netip.Addr `json:"address"`
	Class Class      `json:"class"`
	// the route or rule that makes the class, in short `ip` syntax; "" for
	// a client that is off-link because nothing names it
	Of string `json:"of,omitempty"`
	// what the class is in, if the address only stands for others there
	In netip.Prefix `json:"-"`
}

// String returns the address, or the clients that it stands for: "clients in
// 10.0.1.0/24 (tried with 10.0.1.50)".
func (c Client) String() string {
	if !c.In.IsValid() || c.In.IsSingleIP() {
		return c.Addr.String()
	}
	return fmt.Sprintf("clients in %s (tried with %s)", c.In, c.Addr)
}

// classSize limits how many destinations stand for routes of one kind, so that
// a host with a full BGP table can be planned.
const classSize = 16

// standIn is an address that stands for a class of clients, and what makes the
// class: a route, a rule, or nothing for clients behind the gateways.
type standIn struct {
	addr  netip.Addr
	route *Route
	rule  *Rule
}

// to is the prefix that the class is in.
func (s standIn) to() netip.Prefix {
	switch {
	case s.route != nil:
		return s.route.Dst
	case s.rule != nil:
		return s.rule.To
	}
	return FamilyOf(s.addr).All()
}

// routable reports whether a kernel can be asked for the way to the address.
func (s standIn) routable() bool {
	return s.addr.IsGlobalUnicast() && (s.addr.Is6() || s.addr.As4()[0] != 0)
}

// standIns returns addresses that stand for every class of client of a family:
// first an off-link one, then one in the destination of each route and each
// rule. Of many routes of one table with the same next hops a few stand for
// all.
func standIns(h Host, f Family, own map[netip.Addr][]Addr) []standIn {
	out := []standIn{{addr: OffLink(h, f)}}
	var told prefixSet // that routes or rules are for
	for _, r := range h.Routes {
		if r.Family() == f && r.Table != TableLocal {
			told.add(r.Dst)
		}
	}
	for _, r := range h.Rules {
		if r.Family == f {
			told.add(r.To)
		}
	}
	routes := classRoutes(h, f)
	for i := range routes {
		addr := clientIn(routes[i].Dst, told, own)
		out = append(out, standIn{addr: addr, route: &routes[i]})
	}
	for i := range h.Rules {
		if r := &h.Rules[i]; r.Family == f && r.To.Bits() > 0 {
			addr := clientIn(r.To, told, own)
			out = append(out, standIn{addr: addr, rule: r})
		}
	}
	// an address of the host is no client
	return slices.DeleteFunc(out, func(s standIn) bool { return len(own[s.addr]) > 0 })
}

// clientIn returns an address in a prefix that no narrower route or rule is
// for: one host that is banned must not stand for its LAN. It avoids the first
// and last addresses, which routers often have: traffic through the gateway is
// on-link for the gateway itself. It tries several parts of the prefix.
func clientIn(p netip.Prefix, told prefixSet, own map[netip.Addr][]Addr) netip.Addr {
	free := func(a netip.Addr) bool {
		return len(own[a]) == 0 && told.longest(a).Bits() <= p.Bits()
	}
	const parts = 16
	host := p.Addr().BitLen() - p.Bits()
	if host < 8 {
		for a := p.Addr().Next(); p.Contains(a); a = a.Next() {
			if free(a) {
				return a
			}
		}
		return inside(p, p.Addr().Next(), own)
	}
	first := p.Addr().AsSlice()
	first[len(first)-1] = 50
	for i := range parts {
		// the part's number is in the first bits behind the prefix
		a, bit := slices.Clone(first), p.Bits()
		for shift := 3; shift >= 0; shift-- {
			if i>>shift&1 == 1 {
				a[bit/8] ^= 1 << (7 - bit%8)
			}
			bit++
		}
		if addr, _ := netip.AddrFromSlice(a); p.Contains(addr) && free(addr) {
			return addr
		}
	}
	addr, _ := netip.AddrFromSlice(first)
	return inside(p, addr, own)
}

// eachOnce returns the stand-ins with each address once, sorted after the
// first. Of several stand-ins with one address it keeps the narrowest, main's
// route before those of other tables.
func eachOnce(all []standIn) []standIn {
	other := func(s standIn) int {
		if s.route != nil && s.route.Table == TableMain {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all[1:], func(a, b standIn) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(b.to().Bits(), a.to().Bits()),
			cmp.Compare(other(a), other(b)))
	})
	return slices.CompactFunc(all, func(a, b standIn) bool { return a.addr == b.addr })
}

// audience are the clients of a family that a plan is judged by. If there are
// many uplinks, a few of their LANs stand for all, so that the work does not
// grow with the square of their number.
type audience struct {
	lans map[string][]standIn // of each uplink, on-link there
	few  []standIn            // of the LANs
	rest []standIn
}

// audienceOf returns the clients of a family, found once.
func (d *draft) audienceOf(f Family) audience {
	a, ok := d.audience[f]
	if !ok {
		a = d.newAudience(f)
		d.audience[f] = a
	}
	return a
}

func (d *draft) newAudience(f Family) audience {
	a := audience{lans: map[string][]standIn{}}
	for _, s := range eachOnce(standIns(d.host, f, d.assigned)) {
		r := s.route
		if r == nil || r.Type != Unicast || len(r.Hops) != 1 || r.Hops[0].Via.IsValid() ||
			!d.isOutward(r.Hops[0].Link) {
			a.rest = append(a.rest, s)
			continue
		}
		link := r.Hops[0].Link
		a.lans[link] = append(a.lans[link], s)
		if len(a.few) < classSize {
			a.few = append(a.few, s)
		}
	}
	return a
}

// of returns the clients that the path of a link is judged by.
func (a audience) of(link string) []standIn {
	return slices.Concat(a.rest, a.lans[link], without(a.few, func(s standIn) bool {
		return s.route.Hops[0].Link == link
	}))
}

// classRoutes returns the routes whose destinations stand for classes of
// clients.
func classRoutes(h Host, f Family) []Route {
	routes := filter(h.Routes, func(r Route) bool { // a few of many
		return r.Family() == f && r.Table != TableLocal && r.Type != Multicast &&
			r.Type != Anycast && !r.Dst.Addr().IsLinkLocalUnicast()
	})
	slices.SortStableFunc(routes, func(x, y Route) int {
		return cmp.Or(cmp.Compare(x.Dst.Bits(), y.Dst.Bits()), comparePrefix(x.Dst, y.Dst))
	})
	elsewhere := map[netip.Prefix][]uint32{} // what tables other than main distinguish
	for _, r := range routes {
		if r.Table != TableMain {
			elsewhere[r.Dst] = append(elsewhere[r.Dst], r.Table)
		}
	}
	count := map[string]int{}
	return slices.DeleteFunc(routes, func(r Route) bool {
		class := fmt.Sprint(r.Table, r.Type, r.Hops, isWide(r.Dst), elsewhere[r.Dst])
		count[class]++
		return count[class] > classSize
	})
}

// clientsOf returns the clients of an address that belongs to a link, by class.
// If several classes have one address, the first class counts.
func (t *topology) clientsOf(addr netip.Addr, link string) []Client {
	var out []Client
	for _, s := range standIns(t.host, FamilyOf(addr), t.assigned) {
		if s.route == nil || !s.route.IsDefault() {
			out = append(out, t.classify(s, link))
		}
	}
	slices.SortStableFunc(out, func(x, y Client) int {
		return cmp.Compare(slices.Index(classes, x.Class), slices.Index(classes, y.Class))
	})
	seen := map[netip.Addr]bool{addr: true}
	return slices.DeleteFunc(out, func(c Client) bool {
		again := seen[c.Addr]
		seen[c.Addr] = true
		return again
	})
}

// classify says which class of client an address stands for, of a listener that
// belongs to a link.
func (t *topology) classify(s standIn, link string) Client {
	c := Client{Addr: s.addr, Class: ClassOffLink}
	switch {
	case s.route != nil:
		c = t.client(s.addr, link, *s.route)
		c.In = s.route.Dst
	case s.rule != nil:
		c.Class, c.Of, c.In = ClassRule, "to "+destination(s.rule.To), s.rule.To
	}
	return c
}

// named returns the client that the user names, with the class that main gives
// it.
func (t *topology) named(client netip.Addr, link string) Client {
	if len(t.assigned[client]) > 0 || client.IsLoopback() {
		return Client{Addr: client, Class: ClassSelf}
	}
	route, _ := t.fib.search(TableMain, Query{Dst: client})
	if route == nil || route.IsDefault() {
		return Client{Addr: client, Class: ClassOffLink}
	}
	return t.client(client, link, *route)
}

// client is an address in the destination of a route.
func (t *topology) client(addr netip.Addr, link string, r Route) Client {
	c := Client{Addr: addr, Class: ClassStatic, Of: r.brief()}
	if r.Table != TableMain {
		c.Of += " table " + tableNames.print(r.Table)
	}
	switch {
	case r.Type.Rejects():
		c.Class = ClassBanned
	case isWide(r.Dst):
		c.Class = ClassOffLink
	case len(r.Hops) == 0 || r.Hops[0].Via.IsValid():
	case r.Hops[0].Link == link:
		c.Class = ClassOnLink
	case t.isOutward(r.Hops[0].Link):
		c.Class = ClassOtherLAN
	default:
		c.Class = ClassHostLocal
	}
	return c
}

// inside returns the first address of a prefix, from one on, that is not the
// host's own, if there is one near.
func inside(p netip.Prefix, from netip.Addr, own map[netip.Addr][]Addr) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	for a, i := from, 0; i < 8 && p.Contains(a); a, i = a.Next(), i+1 {
		if len(own[a]) == 0 {
			return a
		}
	}
	return p.Addr()
}

// Clients returns addresses that stand for every group of clients of a family:
// first one behind the gateways (OffLink), then one in the destination of each
// narrower route and rule of the host.
func Clients(h Host, f Family) []netip.Addr {
	h.Routes = without(h.Routes, Route.IsDefault)
	var out []netip.Addr
	for _, s := range eachOnce(standIns(h, f, Assigned(h))) {
		if s.routable() {
			out = append(out, s.addr)
		}
	}
	return out
}
