package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// This file is about what lasthop's own tables and rules remember: a way that
// works stays although the route or rule that named it is gone.

// fromHeld returns the gateways that lasthop's own tables for the link still
// have, each for the prefixes that lasthop's rules lead to it, and the first
// one for all other addresses. It leaves out those that are known, and pinned
// ones: they come with their pin.
func (u ladder) fromHeld(l Link, f Family, known []gateway) []gateway {
	tables := map[uint32][]exit{}
	var order []uint32
	for i := range u.own.Routes { // sorted
		r := &u.own.Routes[i]
		if !r.isDefaultBy(l.Name, f) || r.Type != Unicast {
			continue
		}
		hops := hopsOn(r.Hops, l, true)
		if len(hops) == 0 || u.pinned(l.Name, hops[0].Via) ||
			slices.ContainsFunc(known, func(g gateway) bool {
				return slices.Equal(g.hops, hops) ||
					len(hops) == 1 && slices.Contains(g.standby, hops[0])
			}) {
			continue
		}
		tables[r.Table] = append(tables[r.Table], exit{r, hops})
		order = appendOnce(order, r.Table)
	}
	var out, rest []gateway
	for _, table := range order {
		g := serve(f.All(), tables[table], FromHeld, fmt.Sprintf("%d", table))
		rest = append(rest, g)
		for _, r := range u.own.Rules {
			if r.Table == table && r.Family == f && r.To.Bits() <= 0 {
				g.prefix = r.From
				out = append(out, g)
			}
		}
	}
	return append(out, rest[:min(1, len(rest))]...)
}

// hold gives an unresolved listener the path that lasthop's rules lead its
// replies to while the path's link is up. It reports whether there is such a
// path.
func (s *resolver) hold(r *row) bool {
	switch r.Reason {
	case "no-owner", "address-on-lo", "ambiguous":
	default: // its link is known
		return false
	}
	g, ok := s.remembered(r.Addr)
	if !ok || s.policy.none(g.link) {
		return false
	}
	reason, pin := r.Reason, fmt.Sprintf("%s=%s", r.Addr, g.link)
	if g.source == FromHeld { // the link itself has another, or none
		pin += fmt.Sprintf(",%s", g.hops[0].Via)
	}
	r.Link, r.Status, r.Reason = g.link, "", ""
	r.path = s.pathOf(g, r.Addr)
	s.find(Warning.Finding("held-path", r.Addr.String(), "lasthop no longer knows by which "+
		"uplink clients reach %s (%s) and keeps its path by %s", r.Addr, reason,
		r.path.name()).
		Advise("if that path is right: %s; if not: --return %s=off",
			Flag("address", pin), r.Addr).
		At(origin(r)))
	return true
}

// remembered returns the gateway of lasthop's table that lasthop's rules lead
// replies of an address to; as a gateway of its link if the link knows it.
func (s *resolver) remembered(addr netip.Addr) (g gateway, ok bool) {
	f := FamilyOf(addr)
	for _, r := range s.own.Rules { // sorted: the live rule, then the table's
		if r.Family != f || r.To.Bits() > 0 || !r.From.Contains(addr) {
			continue
		}
		var exits []exit
		for i := range s.own.Routes {
			x := &s.own.Routes[i]
			if x.Table != r.Table || !x.IsDefault() || x.Family() != f ||
				x.Type != Unicast || len(x.Hops) == 0 || x.candidate() {
				continue
			}
			l := s.links[x.Hops[0].Link]
			if hops := hopsOn(x.Hops, l, true); l.Up && len(hops) > 0 {
				exits = append(exits, exit{x, hops})
			}
		}
		if len(exits) == 0 {
			continue
		}
		g = serve(netip.PrefixFrom(addr, addr.BitLen()), exits, FromHeld,
			fmt.Sprint(r.Table))
		g.link, g.family = exits[0].hops[0].Link, f
		for _, known := range s.uplinks[linkFamily{g.link, f}] {
			if slices.Equal(known.hops, g.hops) {
				return known, true
			}
		}
		return g, true
	}
	return g, false
}

// needlessHeld returns the links whose gateway is held and whose paths no
// listener needs. Their tables are about to be deleted, and without them the
// next sync would not see an uplink there.
func (d *draft) needlessHeld() map[linkFamily]bool {
	unused := map[linkFamily]bool{}
	for key, gateways := range d.uplinks {
		if slices.ContainsFunc(gateways,
			func(g gateway) bool { return g.source == FromHeld }) {
			unused[key] = true
		}
	}
	for _, p := range d.paths {
		if p.needed && p.source == FromHeld {
			delete(unused, linkFamily{p.link, p.family})
		}
	}
	return unused
}
