package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// This file is about what administrators have set up by hand: section 4.0 of
// docs/architecture.md.

// keptByHand returns the destinations of main's routes by other links that the
// administrator's table for a path sends by the path's link. Those replies
// arrive today. Containers, virtual machines and peers of tunnels are answered
// where they are, and LANs of uplinks by the path's gateway anyway.
func (l others) keptByHand(p *path) map[netip.Prefix]bool {
	out := map[netip.Prefix]bool{}
	for _, r := range l.host.Routes {
		if r.Table != TableMain || r.Family() != p.family || r.Type != Unicast ||
			isWide(r.Dst) || r.Dst.Addr().IsLinkLocalUnicast() ||
			!l.near(r) && slices.ContainsFunc(r.Hops, func(h Hop) bool {
				return h.Link == p.link || l.isOutward(h.Link) ||
					!l.outside(l.links[h.Link]) ||
					r.Dst.IsSingleIP() && !h.Via.IsValid()
			}) {
			continue
		}
		if route, _ := l.fib.search(p.named, Query{Dst: r.Dst.Addr()}); route != nil &&
			route.uses(p.link) {
			out[r.Dst] = true
		}
	}
	return out
}

// destined is a table that answers for a destination in front of the live rule.
type destined struct {
	to    netip.Prefix
	table uint32
}

// byTable returns what a rule by hand decides for a path today and goes on to
// decide, the narrowest first: what it sends by the path although main knows it
// elsewhere; what its table rejects or sends by another link; and, within the
// former, what main alone answers.
func (l others) byTable(p *path) []destined {
	if p.source != FromRule {
		return nil
	}
	kept := l.keptByHand(p)
	var out []destined
	var outer prefixSet
	for d := range kept {
		out = append(out, destined{d, p.table})
		outer.add(d)
	}
	for _, r := range l.host.Routes {
		if r.Family() != p.family || r.IsDefault() {
			continue
		}
		switch {
		case r.Table == p.named && (r.Type.Rejects() || r.Type == Unicast &&
			!r.uses(p.link) && !slices.ContainsFunc(r.Hops, func(h Hop) bool {
			return !l.outside(l.links[h.Link]) // main knows it as well
		})):
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

// firstByHand returns the priority of the first rule by hand that the block is
// to stand in front of: one that a path replaces, or from an address whose link
// the user has named.
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

// replaces reports whether a path takes the place of a rule by hand: the rule
// sends replies of the path's listeners by the path's link.
func (l *layout) replaces(p *path, r Rule) bool {
	d := defaults{table: r.Table, tunnel: true}
	return r.Family == p.family && r.byHand() && slices.ContainsFunc(p.covers,
		func(c cover) bool { return holds(r.From, c.members) }) &&
		len(ladder{l.topology}.exits(d, l.links[p.link], p.family)) > 0
}

// decided reports whether the say of a rule by hand about replies of an address
// is over: the path replaces the rule, or the user has named the address's
// link, or the path's gateway, himself.
func (l others) decided(p *path, r Rule, a netip.Addr) bool {
	return r.byHand() && (l.pinned(a) || p.source == FromPin || p.source == FromStatic ||
		l.replaces(p, r))
}

// repeated returns the exceptions from a path's block: the rules of others
// behind it that were written for some packets, and would answer these replies
// if the block was not there. The live rule of the block is main, and what
// takes every packet is what the block is there to evade; so neither is
// repeated, nor what a goto leaps over. A rule by hand that the path replaces
// goes on to decide what byTable says, in its place among the others.
func (l others) repeated(p *path, c cover, prefix netip.Prefix) []Rule {
	base := l.base[p.family]
	var out, ended []Rule
	for i, r := range l.fib.rules[p.family].list {
		if r.Priority <= base || r.goesFirst() || !r.forReplies() || catchesAll(r) ||
			!r.repeatable() || r.From.IsValid() && !r.From.Overlaps(prefix) {
			continue
		}
		x := r
		x.IIF, x.Protocol = "lo", l.policy.Numbers.Protocol
		if x.From.Bits() < prefix.Bits() {
			x.From = prefix
		}
		named := r.Table == p.named && l.replaces(p, r)
		live := reached(x, within(prefix, c.members), func(a netip.Addr, one Rule) bool {
			return !named && l.decided(p, r, a) || slices.ContainsFunc(ended,
				func(e Rule) bool {
					return takes(e, one) &&
						(e.Action != Goto || r.Priority < e.Goto)
				})
		})
		if l.fib.ends(r) || l.leaps(p.family, i) {
			ended = append(ended, x)
		}
		switch {
		case named:
			for i := range live {
				if c.mode == Strict {
					out = append(out, forEach(live[i], l.exempt[p])...)
				}
			}
		case l.decides(r):
			out = append(out, live...)
		}
	}
	for i := range out {
		out[i].Priority = base + tierException + i
	}
	return out
}

// leaps reports whether the rule at an index is a goto with a target.
func (l others) leaps(f Family, i int) bool {
	list := l.fib.rules[f].list
	if list[i].Action != Goto {
		return false
	}
	_, effect := target(list, i)
	return effect == Jumped
}

// reached returns a rule for those of the listeners whose replies get as far as
// it, which over denies of an address and the rule for it alone. That is the
// rule itself where all do.
func reached(r Rule, listeners []netip.Addr, over func(netip.Addr, Rule) bool) []Rule {
	var out []Rule
	all := true
	for _, a := range listeners {
		if !r.From.Contains(a) {
			continue
		}
		one := r
		one.From = netip.PrefixFrom(a, a.BitLen())
		if over(a, one) {
			all = false
			continue
		}
		out = append(out, one)
	}
	if all && len(out) > 0 {
		return []Rule{r}
	}
	return out
}

// delivers reports whether a rule leads to local routes alone: the recipe for
// transparent proxies, which is for what comes in.
func (f *FIB) delivers(r Rule) bool {
	routes := f.routes(r)
	for _, same := range routes {
		if slices.ContainsFunc(same, func(x Route) bool { return x.Type != Local }) {
			return false
		}
	}
	return len(routes) > 0
}

// forEach returns a rule for each destination.
func forEach(r Rule, to []destined) []Rule {
	var out []Rule
	for _, d := range to {
		r.To, r.Table = d.to, d.table
		out = append(out, r)
	}
	return out
}

// ends reports whether no lookup that a rule matches goes on behind it.
func (f *FIB) ends(r Rule) bool {
	if r.Action != ToTable {
		return r.Action != Nop && r.Action != Goto
	}
	return r.SuppressPrefix == None && r.SuppressGroup == None &&
		slices.ContainsFunc(f.routes(r)[r.Family.All()],
			func(x Route) bool { return x.Type != Throw && !x.steers() })
}

// takes reports whether a rule matches at least the packets that another
// matches.
func takes(r, x Rule) bool {
	return (r.From.Bits() <= 0 || x.From.Bits() >= r.From.Bits() && r.From.Overlaps(x.From)) &&
		(r.To.Bits() <= 0 || x.To.Bits() >= r.To.Bits() && r.To.Overlaps(x.To)) &&
		(r.OIF == "" || r.OIF == x.OIF) && (r.Opaque == "" || r.Opaque == x.Opaque) &&
		(r.Mask == 0 || r.Mask&x.Mask == r.Mask && r.Mark == x.Mark&r.Mask)
}

// mostRepeated returns how many exceptions there are for one prefix of a path
// at most, wherever the block stands.
func (l others) mostRepeated(p *path) int {
	most := 0
	for _, c := range p.covers {
		for _, prefix := range c.prefixes {
			most = max(most, len(l.repeated(p, c, prefix)))
		}
	}
	return most
}

// fitting leaves out the paths for which the rules of others cannot all be
// repeated: hands off. It returns how many are for one prefix of the others.
func (l others) fitting(paths []*path) (fit []*path, exceptions int) {
	for _, p := range paths {
		most := l.mostRepeated(p)
		if most <= mostExceptions {
			fit, exceptions = append(fit, p), max(exceptions, most)
			continue
		}
		l.keep(p, Warning.Finding("opaque-rule", p.name(), "others have more than %d "+
			"rules for some of the replies of %s: nothing new is installed for it",
			mostExceptions, p.name()).
			Advise("let fewer rules say it, or put them in front of ours (at most "+
				"%d)", l.policy.Numbers.Base))
	}
	return fit, exceptions
}
