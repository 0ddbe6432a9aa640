package routing

import (
	"net/netip"
	"slices"
)

// numbering says where the tiers of a block are, as offsets from its base.
type numbering struct{ bound, exception, evaded, main, table int }

// numberings are the ways to number the blocks of a family, the best first: by
// tiers; if room is scarce, without unused numbers; and at last without what
// catch-alls say, so that none of it is kept.
func (l *layout) numberings(f Family, paths []*path, needed needs) []numbering {
	main := len(l.asksMain(f))
	direct := slices.ContainsFunc(l.policy.Direct,
		func(p netip.Prefix) bool { return FamilyOf(p.Addr()) == f })
	bound := slices.ContainsFunc(paths,
		func(p *path) bool { return l.policy.failClosed(p.link) })
	count := map[bool]int{true: 1}
	packed := func(evaded int) (n numbering) {
		n.bound = count[direct]
		n.exception = n.bound + count[bound]
		n.evaded = n.exception + needed.exceptions
		n.main = n.evaded + evaded
		n.table = n.main + main
		return n
	}
	return []numbering{{tierBound, tierException, tierEvaded, tierTable - main, tierTable},
		packed(needed.evaded), packed(0)}
}

// place returns where the block of rules begins: the highest place behind
// `local` and l3mdev, and in front of every other catch-all that would answer a
// reply and of the hand-written rules that the paths replace. The kernel gives
// a rule without priority the place before the second rule of the list, so no
// fixed number is safe.
func (l *layout) place(f Family, paths []*path, needed needs) int {
	r, ways := l.room(f), l.numberings(f, paths, needed)
	if high := l.firstByHand(f, paths); high < r.high {
		inFront := r
		inFront.high = high
		inFront.low = max(r.low, l.lastBefore(f, high, paths)+1)
		if base := l.fit(f, inFront, ways); base != 0 {
			return base
		}
	}
	if base := l.fit(f, r, ways); base != 0 {
		return base
	}
	n := l.policy.Numbers
	if r.first.Family != 0 {
		l.find(Error.Finding("shadowed", f.String(), "lasthop's %s rules have no room "+
			"in front of a rule that answers every reply", f).
			Advise("give that rule a priority greater than %d", n.Base+n.Block).
			At(r.first.String()))
	} else {
		l.find(Error.Finding("shadowed", f.String(), "lasthop's %s rules have no room: "+
			"`lookup local` or l3mdev has priority "+
			"%d", f, r.low-1).Advise("give `lookup local` the priority 0, as the "+
			"kernel does; lasthop's rules begin at a priority of at most %d",
			n.Base))
	}
	return 0
}

// lastBefore returns the priority of the last rule in front of another one that
// may decide about replies of the paths and that the block does not repeat; 0
// if there is none. The block must stay behind it.
func (l *layout) lastBefore(f Family, priority int, paths []*path) int {
	last := 0
	for _, r := range l.fib.rules[f].list {
		once := !r.repeatable() ||
			r.Action == ToTable && r.Table == TableMain && r.SuppressPrefix == None
		if once && r.Priority < priority && !r.goesFirst() && !catchesAll(r) &&
			r.forReplies() && !passesBy(r, paths) {
			last = max(last, r.Priority)
		}
	}
	return last
}

// passesBy reports whether a rule is for other sources than those of the paths.
func passesBy(r Rule, paths []*path) bool {
	return r.From.Bits() > 0 && !r.Not && !slices.ContainsFunc(paths, func(p *path) bool {
		return slices.ContainsFunc(p.prefixes(), r.From.Overlaps)
	})
}

// fit returns the highest base for the block in a room, 0 for none, numbered in
// the first way that fits.
func (l *layout) fit(f Family, r room, ways []numbering) int {
	for _, way := range ways {
		size := way.table + 1
		l.at[f] = way
		for base := min(l.policy.Numbers.Base, r.high-size); base >= r.low; base-- {
			in := max(l.highestRule(f, base, base+size-1), r.leapt(base, base+size-1))
			if in < 0 {
				return base
			}
			base = in - size + 1 // go on in front of what is in the way
		}
	}
	return 0
}

// room is where the block of rules may stand: at low or higher, below high, and
// not in a range that a goto leaps over.
type room struct {
	low, high int
	first     Rule     // the catch-all at high
	leaps     [][2]int // priorities of a goto and of its target
}

// room walks the rules as the kernel does for a reply, as far as the first
// catch-all that answers.
func (l *layout) room(f Family) room {
	r := room{low: 1, high: l.policy.Numbers.Base + l.policy.Numbers.Block}
	rules := l.fib.rules[f].list
	for _, x := range rules {
		if x.goesFirst() {
			r.low = max(r.low, x.Priority+1)
		}
	}
	for i := 0; i < len(rules) && rules[i].Priority < r.high; i++ {
		x := rules[i]
		switch {
		case x.goesFirst() || !catchesAll(x):
		case x.Action == Goto:
			if next, effect := target(rules, i); effect == Jumped {
				r.leaps = append(r.leaps, [2]int{x.Priority, x.Goto})
				i = next
			}
		case l.answers(x):
			r.high, r.first = x.Priority, x
		}
	}
	return r
}

// leapt returns the priority of the goto that leaps over a part of the range,
// or -1.
func (r room) leapt(first, last int) int {
	in := -1
	for _, leap := range r.leaps {
		if first < leap[1] && leap[0] <= last {
			in = max(in, leap[0])
		}
	}
	return in
}

// answers reports whether a rule that matches would answer, or end, the lookup
// of some reply.
func (l *layout) answers(r Rule) bool {
	if r.Action != ToTable {
		return r.Action != Nop
	}
	return slices.ContainsFunc(l.host.Routes, func(x Route) bool {
		return x.Table == r.Table && x.Family() == r.Family && x.Type != Throw &&
			(x.Dst.Bits() > r.SuppressPrefix || x.Type.Rejects() && isWide(x.Dst))
	})
}

// highestRule returns the highest priority of other rules between first and
// last, or -1.
func (l *layout) highestRule(f Family, first, last int) int {
	highest := -1
	for _, r := range l.host.Rules {
		if r.Family == f && first <= r.Priority && r.Priority <= last {
			highest = max(highest, r.Priority)
		}
	}
	return highest
}
