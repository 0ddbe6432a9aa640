package routing

import (
	"maps"
	"net/netip"
	"slices"
)

// tellRouters names the clients whose replies a path leads to its gateway while
// the host knows another router for them on the same link: a route names a
// router of their own, or the link has another router because the path's is
// that of a narrower prefix. Replies to requests that come by the other router
// go to the wrong one: a table cannot tell them apart.
func (j *judge) tellRouters(p *path, sources []netip.Addr, clients []standIn) {
	if p.source == FromPin {
		return
	}
	wider := j.wider(p)
	to := map[netip.Addr][]string{}
	for _, c := range clients {
		if c.to().Bits() == 0 || c.route != nil && isWide(c.route.Dst) {
			continue
		}
		other := wider
		if via := j.ownRouter(p, c); via.IsValid() {
			other = via
		}
		if !other.IsValid() || p.has(other) {
			continue
		}
		for _, src := range sources {
			way := j.after.answer(Query{Src: src, Dst: c.addr}).Way
			if way.Link == p.link && p.has(way.Via) {
				to[other] = appendOnce(to[other], destination(c.to()))
			}
		}
	}
	for _, other := range slices.SortedFunc(maps.Keys(to), netip.Addr.Compare) {
		j.find(Warning.Finding("two-routers", p.name(), "replies of %s to %s leave by "+
			"its gateway, and %s has another router that requests of these clients "+
			"may come by: %s",
			p.name(), Some(to[other], 8), p.link, other).
			Advise("if they do, add a rule of your own for their replies (ip rule "+
				"add pref 1000 from ADDR to PREFIX lookup TABLE); if not: "+
				"%s", Flag("address",
				"ADDR="+p.link+","+p.hops[0].Via.String())))
	}
}

// wider returns the router of a path's link that serves more than the path's
// own gateway does, in the same subnet; the zero Addr if there is none.
func (j *judge) wider(p *path) netip.Addr {
	home := j.subnetOf(p.link, p.hops[0].Via)
	for _, g := range j.uplinks[linkFamily{p.link, p.family}] {
		if via := g.hops[0].Via; g.prefix.Bits() < p.prefix.Bits() && !p.has(via) &&
			(everywhere(via) || j.subnetOf(p.link, via) == home) {
			return via
		}
	}
	return netip.Addr{}
}

// has reports whether a router is one of the path's.
func (p *path) has(via netip.Addr) bool {
	return slices.ContainsFunc(slices.Concat(p.hops, p.standby),
		func(h Hop) bool { return h.Via == via })
}

// ownRouter returns the next hop, on a path's link, of the route for exactly
// the clients' destination, from a table for packets of all sources; the zero
// Addr if there is none.
func (j *judge) ownRouter(p *path, c standIn) (via netip.Addr) {
	for _, table := range slices.Sorted(maps.Keys(j.general[p.family])) {
		r, _ := j.fib.search(table, Query{Dst: c.addr})
		if r != nil && r.Dst == c.to() && r.Type == Unicast && len(r.Hops) == 1 &&
			r.Hops[0].Link == p.link {
			return r.Hops[0].Via
		}
	}
	return via
}
