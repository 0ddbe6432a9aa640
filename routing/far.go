package routing

import (
	"net/netip"
	"slices"
)

// tellFar names pinned gateways that may have a typo: nothing on this host says
// that they are on their link, and lasthop's routes to them are onlink, so the
// kernel takes any number.
func (d *draft) tellFar() {
	for _, p := range d.paths {
		key, via := linkFamily{p.link, p.family}, p.hops[0].Via
		if !p.needed || !(ladder{d.topology}).pinned(p.link, via) || !d.far(key, via) {
			continue
		}
		subnets := mapped(d.connected[key], netip.Prefix.String)
		d.find(Warning.Finding("far-gateway", p.name(), "%s is in no subnet of %s (%s): "+
			"lasthop sends replies to it as to a neighbour", via, p.link,
			Some(subnets, 3)).
			Advise("check the number; it is right if the router is on this link " +
				"nevertheless, as some providers have it"))
	}
}

// far reports whether a link has a subnet for more than two hosts, and no
// subnet, route or lease of the host says that an address is on that link.
func (d *draft) far(key linkFamily, a netip.Addr) bool {
	wide := slices.ContainsFunc(d.addrs[key.link], func(x Addr) bool {
		p := x.Connected()
		return FamilyOf(p.Addr()) == key.family && !p.Addr().IsLinkLocalUnicast() &&
			p.Bits() < p.Addr().BitLen()-1
	})
	if !wide || everywhere(a) || d.subnetOf(key.link, a).IsValid() {
		return false
	}
	onLink := func(r Route) bool { return r.Table == TableMain && r.Dst.Contains(a) }
	return !slices.ContainsFunc(d.host.Routes, func(r Route) bool {
		return r.Type == Unicast && slices.ContainsFunc(r.Hops, func(h Hop) bool {
			return h.Link == key.link && (h.Via == a || !h.Via.IsValid() && onLink(r))
		})
	}) && !slices.ContainsFunc(d.host.Leases, func(l Lease) bool {
		return l.Link == key.link && l.Gateway == a
	})
}
