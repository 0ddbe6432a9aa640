package routing

import (
	"net/netip"
	"slices"
)

// This file is about what administrators have set up by hand: section 4.0 of
// docs/architecture.md.

// kept returns the rules that leave to the path what rules by hand send by it
// today, although main knows it behind another link.
func (l *layout) kept(p *path, prefix netip.Prefix, rule func(tier int, table uint32) Rule) []Rule {
	var rules []Rule
	for _, hand := range l.byHand {
		if hand.Family != p.family || hand.Table != p.named || !hand.From.Overlaps(prefix) {
			continue
		}
		for _, d := range l.keptByHand(p) {
			r := rule(tierBound, p.table)
			r.To = d
			if hand.From.Bits() > prefix.Bits() {
				r.From = hand.From
			}
			rules = appendOnce(rules, r)
		}
	}
	return rules
}

// keptByHand returns the destinations of main's routes by other links that the
// administrator's table for a path sends by the path's link. Containers,
// virtual machines and peers of tunnels are answered where they are, and LANs
// of uplinks by the path's gateway anyway.
func (l *layout) keptByHand(p *path) []netip.Prefix {
	if p.source != FromRule {
		return nil
	}
	var out []netip.Prefix
	for _, r := range l.host.Routes {
		if r.Table != TableMain || r.Family() != p.family || r.Type != Unicast ||
			r.Dst.Bits() <= wide(p.family) || r.Dst.Addr().IsLinkLocalUnicast() ||
			!l.near(r) && slices.ContainsFunc(r.Hops, func(h Hop) bool {
				return h.Link == p.link || l.isOutward(h.Link) ||
					!l.outside(l.links[h.Link]) ||
					r.Dst.IsSingleIP() && !h.Via.IsValid()
			}) {
			continue
		}
		if route, _ := l.fib.search(p.named, Query{Dst: r.Dst.Addr()}); route != nil &&
			route.uses(p.link) {
			out = appendOnce(out, r.Dst)
		}
	}
	return out
}

// firstByHand returns the priority of the first rule that sends replies of the
// paths by their links already. They are needed all the same, because some
// class is answered wrong. Where a rule that asks for more than a source stands
// behind it, the block stays behind, too, so as not to come before that one.
func (l *layout) firstByHand(f Family, paths []*path) int {
	first := l.policy.Numbers.Base + l.policy.Numbers.Block
	for _, r := range slices.Backward(l.fib.rules[f].list) {
		switch {
		case r.Priority >= l.policy.Numbers.Base+l.policy.Numbers.Block || r.goesFirst() ||
			catchesAll(r) || r.IIF != "" && r.IIF != "lo" || passesBy(r, paths):
		case r.byHand() && slices.ContainsFunc(paths, func(p *path) bool {
			d := defaults{table: r.Table, tunnel: true}
			return len(l.exits(d, l.links[p.link], f)) > 0 &&
				slices.ContainsFunc(p.covers, func(c cover) bool {
					return holds(r.From, c.members)
				})
		}):
			first = r.Priority
		default:
			return first
		}
	}
	return first
}

// passesBy reports whether a rule is for other sources than those of the paths.
func passesBy(r Rule, paths []*path) bool {
	return r.From.Bits() > 0 && !r.Not && !slices.ContainsFunc(paths, func(p *path) bool {
		return slices.ContainsFunc(p.prefixes(), r.From.Overlaps)
	})
}
