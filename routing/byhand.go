package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// This file is about hand-written rules of the administrator: section 4.0 of
// docs/architecture.md.

// keptByHand returns the destinations of main's routes by other links that the
// administrator's table for a path sends by the path's link. Those replies
// arrive today. It leaves out containers, virtual machines and peers of
// tunnels, which are answered on their own links, and the LANs of uplinks,
// which the path's gateway answers anyway.
func (l foreignRules) keptByHand(p *path) map[netip.Prefix]bool {
	out, from := map[netip.Prefix]bool{}, p.prefixes()
	for _, r := range l.host.Routes {
		if r.Table != TableMain || r.Family() != p.family || r.Type != Unicast ||
			isWide(r.Dst) || r.Dst.Addr().IsLinkLocalUnicast() ||
			!l.near(r) && slices.ContainsFunc(r.Hops, func(h Hop) bool {
				return h.Link == p.link || l.isOutward(h.Link) ||
					!l.outside(l.links[h.Link]) ||
					r.Dst.IsSingleIP() && !h.Via.IsValid()
			}) || !l.meets(from, r) {
			continue
		}
		if route, _ := l.fib.search(p.named, Query{Dst: r.Dst.Addr()}); route != nil &&
			route.uses(p.link) {
			out[r.Dst] = true
		}
	}
	return out
}

// meets reports whether a reply from some prefixes may come to a route's
// destination.
func (l *layout) meets(from []netip.Prefix, r Route) bool {
	return slices.ContainsFunc(from, func(p netip.Prefix) bool { return l.fib.finds(r, p) })
}

// destined is a table that answers for a destination in front of the live rule.
type destined struct {
	to    netip.Prefix
	table uint32
}

// byTable returns what a hand-written rule decides for a path today and goes on
// to decide, the narrowest first. It keeps what the rule sends by the path
// although main knows it elsewhere; what its table rejects or sends by another
// link; and, within the former, what main alone answers.
func (l foreignRules) byTable(p *path) []destined {
	if p.source != FromRule {
		return nil
	}
	kept, from := l.keptByHand(p), p.prefixes()
	var out []destined
	var outer prefixSet
	for d := range kept {
		out = append(out, destined{d, p.table})
		outer.add(d)
	}
	for _, r := range l.host.Routes {
		if r.Family() != p.family || r.IsDefault() || !l.meets(from, r) {
			continue
		}
		switch {
		case r.Table == p.named && (r.Type.Rejects() || r.Type == Unicast &&
			!r.uses(p.link) && !l.inMain(r)):
			out = append(out, destined{r.Dst, p.named})
		case r.Table == TableMain && !kept[r.Dst] && !r.uses(p.link) &&
			outer.longest(r.Dst.Addr()).IsValid():
			out = append(out, destined{r.Dst, TableMain})
		}
	}
	return sortOnce(out, func(a, b destined) int {
		return cmp.Or(narrowest(a.to, b.to), cmp.Compare(a.table, b.table))
	})
}

// inMain reports whether main, too, sends a destination by a route's link, if
// no network is behind that link.
func (l *layout) inMain(r Route) bool {
	main, _ := l.fib.search(TableMain, Query{Dst: r.Dst.Addr()})
	return main != nil && !isWide(main.Dst) && slices.ContainsFunc(r.Hops, func(h Hop) bool {
		return !l.outside(l.links[h.Link]) && main.uses(h.Link)
	})
}

// firstByHand returns the priority of the first hand-written rule that the
// block must stand in front of: a rule that a path replaces, or a rule from an
// address whose link the user has named.
func (l *layout) firstByHand(f Family, paths []*path) int {
	for _, r := range l.fib.rules[f].list {
		inFront := func(p *path) bool {
			return l.replaces(p, r) || slices.ContainsFunc(p.covers,
				func(c cover) bool {
					return slices.ContainsFunc(within(r.From, c.members),
						l.pinned)
				})
		}
		if r.byHand() && slices.ContainsFunc(paths, inFront) {
			return r.Priority
		}
	}
	return l.policy.Numbers.Base + l.policy.Numbers.Block
}

// pinned reports whether the user has named the link of an address.
func (l *layout) pinned(a netip.Addr) bool {
	_, ok := l.policy.address(a)
	return ok
}

// replaces reports whether a path takes the place of a hand-written rule: the
// rule sends replies of the path's listeners by the path's link.
func (l *layout) replaces(p *path, r Rule) bool {
	d := defaults{table: r.Table, tunnel: true}
	return r.Family == p.family && r.byHand() && slices.ContainsFunc(p.covers,
		func(c cover) bool { return holds(r.From, c.members) }) &&
		len(ladder{l.topology}.exits(d, l.links[p.link], p.family)) > 0
}
