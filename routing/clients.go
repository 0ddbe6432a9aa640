package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// offLink are addresses of the documentation and benchmark ranges that stand for clients somewhere on the Internet.
var offLink = map[Family][]string{
	IPv4: {"198.51.100.1", "203.0.113.1", "192.0.2.1", "198.18.0.1", "8.8.8.8", "100.64.0.1", "45.45.45.45", "185.1.1.1"},
	IPv6: {"2001:db8:ffff::1", "3fff::1", "2001:db8:fffe::1", "2620:fe::fe", "2001:4860::1", "2a00::1", "2400::1", "2600::1"},
}

// OffLink returns an address that stands for a client behind the gateways: one that no specific route and no rule of the host
// knows. Where every candidate is known it is the first one.
func OffLink(h Host, f Family) netip.Addr {
	known := func(a netip.Addr) bool {
		return slices.ContainsFunc(h.Routes, func(r Route) bool { return r.Dst.Bits() > wide(f) && r.Dst.Contains(a) }) ||
			slices.ContainsFunc(h.Rules, func(r Rule) bool { return r.To.Bits() > 0 && r.To.Contains(a) })
	}
	for _, s := range offLink[f] {
		if a := netip.MustParseAddr(s); !known(a) {
			return a
		}
	}
	return netip.MustParseAddr(offLink[f][0])
}

// classSize limits how many destinations stand for routes of one kind, so that a host with a full BGP table can be planned.
const classSize = 16

// clients returns addresses that stand for every class of client of a family: off-link ones, and one in the destination of
// each route and each rule. Of many routes of one table with the same next hops a few stand for all.
func (b *builder) clients(f Family) []netip.Addr {
	out := []netip.Addr{OffLink(b.host, f)}
	count := map[string]int{}
	routes := slices.DeleteFunc(slices.Clone(b.host.Routes), func(r Route) bool {
		return r.Family() != f || r.Table == TableLocal || r.Type == Multicast || r.Type == Anycast || r.Dst.Addr().IsLinkLocalUnicast()
	})
	slices.SortStableFunc(routes, func(x, y Route) int {
		return cmp.Or(cmp.Compare(x.Dst.Bits(), y.Dst.Bits()), comparePrefix(x.Dst, y.Dst))
	})
	for _, r := range routes {
		class := fmt.Sprint(r.Table, r.Type, r.Hops, r.Dst.Bits() > wide(f))
		if count[class]++; count[class] <= classSize {
			out = append(out, b.inside(r.Dst))
		}
	}
	for _, r := range b.host.Rules {
		if r.Family == f && r.To.Bits() > 0 {
			out = append(out, b.inside(r.To))
		}
	}
	slices.SortFunc(out[1:], netip.Addr.Compare)
	return slices.Compact(out)
}

// inside returns an address in a prefix that is not the host's own and, where it is easy, in no narrower prefix.
func (b *builder) inside(p netip.Prefix) netip.Addr {
	first := p.Addr()
	if p.IsSingleIP() {
		return first
	}
	for a, i := first.Next(), 0; i < 8 && p.Contains(a); a, i = a.Next(), i+1 {
		if len(b.assigned[a]) == 0 {
			return a
		}
	}
	return first
}
