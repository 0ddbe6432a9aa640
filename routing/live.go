package routing

import (
	"net/netip"
	"slices"
)

// numbering says where the tiers of a block are, as offsets from its base.
type numbering struct{ bound, exception, evaded, main, table int }

// numberings are the ways to number the blocks of a family, the best first: by
// tiers; where room is scarce, without numbers that nothing has; and at last
// without what catch-alls say, so that none of it is kept.
func (l *layout) numberings(f Family, paths []*path) []numbering {
	exceptions, evaded := others{l}.most(paths)
	main := len(l.asksMain(f))
	direct := slices.ContainsFunc(l.policy.Direct,
		func(p netip.Prefix) bool { return FamilyOf(p.Addr()) == f })
	bound := slices.ContainsFunc(paths,
		func(p *path) bool { return l.policy.failClosed(p.link) })
	count := map[bool]int{true: 1}
	packed := func(evaded int) (n numbering) {
		n.bound = count[direct]
		n.exception = n.bound + count[bound]
		n.evaded = n.exception + exceptions
		n.main = n.evaded + evaded
		n.table = n.main + main
		return n
	}
	return []numbering{{tierBound, tierException, tierEvaded, tierTable - main, tierTable},
		packed(evaded), packed(0)}
}

// asksMain returns the live rules for main, without their sources.
func (l *layout) asksMain(f Family) []Rule {
	if l.host.rejects(f, TableMain) {
		return nil
	}
	w := behindBlock{others: others{l}, cover: cover{mode: Strict}}
	return w.asking(NewRule(f, 0, TableMain))
}

// takesAll reports whether one link takes all private IPv6 addresses of a table
// and a large part of the Internet: a VPN for everything.
func (h Host) takesAll(table uint32) bool {
	var ways []string // to a large part
	for _, r := range h.Routes {
		if r.Table == table && r.Family() == IPv6 && r.Type == Unicast &&
			len(r.Hops) > 0 && r.Dst.Bits() <= large.Bits() && r.Dst.Overlaps(large) {
			ways = append(ways, r.Hops[0].Link)
		}
	}
	return slices.ContainsFunc(h.Routes, func(r Route) bool {
		return r.Table == table && r.Dst == private && len(r.Hops) > 0 &&
			slices.Contains(ways, r.Hops[0].Link)
	})
}

var large = netip.MustParsePrefix("2000::/4")

// rejects reports whether a table has a reject route as wide as a default,
// whatever its metric: it would win as soon as the default beside it is gone. A
// lookup that ends at one is not suppressed (fib_rules_lookup suppresses only
// success), so a live rule would end every reply there.
func (h Host) rejects(f Family, table uint32) bool {
	return slices.ContainsFunc(h.Routes, func(r Route) bool {
		return r.Table == table && r.Family() == f && isWide(r.Dst) &&
			r.Type.Rejects() && !r.steers()
	})
}
