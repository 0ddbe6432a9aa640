package routing

import (
	"net/netip"
	"slices"
	"strings"
)

// repeatedSelectors are selectors that Rule does not model, but that a rule of
// ours may have as the rule that it repeats has them.
var repeatedSelectors = []string{"tos", "uidrange", "ipproto", "sport", "dport",
	"realms"}

// others are the rules of others, as a layout meets them.
type others struct{ *layout }

// Selectors takes apart what is not modelled of a rule: selectors that a rule
// of ours may have, too, each a key and its value ("dport", "80-90"), and the
// rest.
func (r Rule) Selectors() (known [][2]string, rest string) {
	words := strings.Fields(r.Opaque)
	var others []string
	for len(words) > 0 {
		if len(words) > 1 && slices.Contains(repeatedSelectors, words[0]) {
			known, words = append(known, [2]string{words[0], words[1]}), words[2:]
			continue
		}
		others, words = append(others, words[0]), words[1:]
	}
	return known, strings.Join(others, " ")
}

// forReplies reports whether a rule may match a reply of the host's own: not
// what comes in by a link, nor what a tunnel has unwrapped.
func (r Rule) forReplies() bool {
	return (r.IIF == "" || (r.IIF == "lo") != r.Not) && !strings.Contains(r.Opaque, "tun_id")
}

// repeatable reports whether a rule of ours can do the same for a narrower
// prefix of sources. An inverted one matches what fails any of its selectors,
// the prefix too.
func (r Rule) repeatable() bool {
	_, rest := r.Selectors()
	return !r.Not && rest == ""
}

// decides reports whether a rule does anything about replies that the live rule
// of a block does not do: it asks another table than main, or rejects them.
func (l others) decides(r Rule) bool {
	return r.Action != Nop && r.Action != Goto &&
		!(r.Action == ToTable && r.Table == TableMain) && !l.fib.delivers(r)
}

// inTheWay returns the first rule behind the block that may decide about
// replies of a path and cannot be repeated in front of it.
func (l others) inTheWay(p *path) *Rule {
	list := l.fib.rules[p.family].list
	i := slices.IndexFunc(list, func(r Rule) bool {
		return r.Priority > l.base[p.family] && !r.goesFirst() && r.forReplies() &&
			!catchesAll(r) && !r.repeatable() && l.decides(r) &&
			slices.ContainsFunc(p.covers, func(c cover) bool {
				return slices.ContainsFunc(c.members,
					func(a netip.Addr) bool { return r.mayMatch(a) })
			})
	})
	if i < 0 {
		return nil
	}
	return &list[i]
}

// mayMatch reports whether a rule's `from` lets replies of an address pass.
func (r Rule) mayMatch(a netip.Addr) bool {
	if !r.Not {
		return r.From.Bits() <= 0 || r.From.Contains(a)
	}
	only := Rule{Priority: r.Priority, Family: r.Family, Not: true, From: r.From,
		Table: r.Table, SuppressPrefix: r.SuppressPrefix, SuppressGroup: r.SuppressGroup,
		Goto: r.Goto, Action: r.Action, Protocol: r.Protocol}
	return r != only || !r.From.Contains(a) // with others it may fail one of them
}

// handsOff leaves out the paths that a rule of others is in the way of: nothing
// new is installed for them, and what is installed stays.
func (l others) handsOff(paths []*path) (fit []*path) {
	for _, p := range paths {
		r := l.inTheWay(p)
		if r == nil {
			fit = append(fit, p)
			continue
		}
		l.keep(p, Warning.Finding("opaque-rule", p.name(), "this rule may be meant for "+
			"some of the replies of %s, and ours cannot do the same in front of it: "+
			"nothing new is installed for it", p.name()).
			Advise("put the rule in front of ours (at most %d), or write it without "+
				"`not` and with selectors that are known", l.policy.Numbers.Base).
			At(r.String()))
	}
	return fit
}

// keep leaves a path as it is on the host, and says why.
func (l others) keep(p *path, why Finding) {
	l.unfit = append(l.unfit, p)
	l.find(why)
	tables := map[uint32]bool{}
	for _, r := range l.own.Rules {
		if r.Family == p.family && slices.ContainsFunc(p.prefixes(), r.From.Overlaps) {
			l.state.Rules = appendOnce(l.state.Rules, r)
			tables[r.Table] = true
		}
	}
	for _, r := range l.own.Routes {
		if r.Family() == p.family && tables[r.Table] &&
			!slices.ContainsFunc(l.state.Routes,
				func(x Route) bool { return x.RouteKey == r.RouteKey }) {
			l.state.Routes = append(l.state.Routes, r)
		}
	}
}
