package routing

import (
	"slices"
)

// foreignRules are the rules of other programs, as a layout meets them.
type foreignRules struct{ *layout }

// decides reports whether a rule does more to replies than the live rule of a
// block does: it looks up another table than main, or rejects them.
func (l foreignRules) decides(r Rule) bool {
	return r.Action != Nop && r.Action != Goto &&
		!(r.Action == ToTable && r.Table == TableMain) && !l.fib.delivers(r)
}

// needs are how many numbers a block needs for foreign rules, at most for one
// prefix.
type needs struct{ exceptions, evaded int }

// needs returns what a path needs, wherever the block stands.
func (l foreignRules) needs(p *path) (n needs) {
	for _, c := range p.covers {
		for _, prefix := range c.prefixes {
			b := l.behind(p, c, prefix)
			n.exceptions = max(n.exceptions, len(b.exceptions))
			n.evaded = max(n.evaded, len(b.evaded))
		}
	}
	return n
}

// fitting leaves out the paths for which the block cannot repeat all foreign
// rules: lasthop keeps its hands off them. It returns what the remaining paths
// need.
func (l foreignRules) fitting(paths []*path) (fit []*path, all needs) {
	for _, p := range paths {
		if n := l.needs(p); n.exceptions <= mostExceptions {
			fit = append(fit, p)
			all.exceptions = max(all.exceptions, n.exceptions)
			all.evaded = max(all.evaded, n.evaded)
			continue
		}
		l.keep(p, Warning.Finding("opaque-rule", p.name(), "other programs have more "+
			"than %d rules for some of the replies of %s: lasthop installs nothing "+
			"new for it",
			mostExceptions, p.name()).
			Advise("use fewer rules, or give them a priority smaller than lasthop's "+
				"(at most %d)", l.policy.Numbers.Base))
	}
	return fit, all
}

// inTheWay returns the first rule behind the block that may decide about
// replies of a path and that the block cannot repeat.
func (l foreignRules) inTheWay(p *path) *Rule {
	list := l.fib.rules[p.family].list
	for i, r := range list {
		if r.Priority <= l.base[p.family] || r.goesFirst() || !r.forReplies() ||
			catchesAll(r) ||
			!l.leapsOver(list, i) && (r.repeatable() || !l.decides(r)) {
			continue
		}
		if slices.ContainsFunc(p.covers, func(c cover) bool {
			return slices.ContainsFunc(c.members, r.mayMatch)
		}) {
			return &list[i]
		}
	}
	return nil
}

// leapsOver reports whether a rule is a goto over rules that decide about
// replies. The block's copies of those rules would then be effective for
// packets that the goto matches.
func (l foreignRules) leapsOver(list []Rule, i int) bool {
	if list[i].Action != Goto {
		return false
	}
	last, effect := target(list, i)
	return effect == Jumped && slices.ContainsFunc(list[i+1:last+1], func(r Rule) bool {
		return !catchesAll(r) && r.forReplies() && l.decides(r)
	})
}

// handsOff leaves out the paths that a foreign rule is in the way of: it
// installs nothing new for them, and keeps what is installed.
func (l foreignRules) handsOff(paths []*path) (fit []*path) {
	for _, p := range paths {
		r := l.inTheWay(p)
		if r == nil {
			fit = append(fit, p)
			continue
		}
		l.keep(p, Warning.Finding("opaque-rule", p.name(), "this rule may be meant for "+
			"some of the replies of %s, and lasthop cannot repeat it in front of "+
			"its own rules: it installs nothing new for that path", p.name()).
			Advise("give the rule a priority of at most %d, or write it without "+
				"`not` and with selectors that lasthop "+
				"knows", l.policy.Numbers.Base).
			At(r.String()))
	}
	return fit
}

// keepInPlace leaves paths as they are on the host if the block has no place
// any more and the installed rules still work.
func (l foreignRules) keepInPlace(f Family, paths []*path) {
	r := l.room(f)
	if !slices.ContainsFunc(l.own.Rules, func(x Rule) bool {
		return x.Family == f && (x.Priority < r.low || x.Priority >= r.high ||
			r.leapt(x.Priority, x.Priority) >= 0)
	}) {
		for _, p := range paths {
			l.keepInstalled(p)
		}
	}
}

// keep leaves a path as it is on the host, and reports the reason.
func (l foreignRules) keep(p *path, why Finding) {
	l.unfit = append(l.unfit, p)
	l.find(why)
	l.keepInstalled(p)
}

// keepInstalled puts what is installed for a path into the state.
func (l foreignRules) keepInstalled(p *path) {
	tables, prefixes := map[uint32]bool{}, p.prefixes()
	for _, r := range l.own.Rules {
		if r.Family == p.family && slices.ContainsFunc(prefixes, r.From.Overlaps) {
			l.state.Rules = appendOnce(l.state.Rules, r)
			tables[r.Table] = true
		}
	}
	there := map[routeID]bool{}
	for _, r := range l.state.Routes {
		there[r.id()] = true
	}
	for _, r := range l.own.Routes {
		if r.Family() == p.family && tables[r.Table] && !there[r.id()] {
			l.state.Routes = append(l.state.Routes, r)
		}
	}
}
