package routing

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// repeatedSelectors are selectors that Rule does not model, but that a rule of
// ours may have as the rule that it repeats has them.
var repeatedSelectors = []string{"tos", "uidrange", "ipproto", "sport", "dport",
	"realms"}

// portSelectors are those of them that a Query may answer.
var portSelectors = []string{"ipproto", "sport", "dport"}

// Replies makes the queries for replies of listeners.
type Replies struct {
	far   map[Family]netip.Addr
	ports map[Family]bool // some rule tells packets apart by protocol or port
}

// RepliesOn returns what makes the queries on a host.
func RepliesOn(h Host) Replies {
	r := Replies{map[Family]netip.Addr{}, map[Family]bool{}}
	for _, f := range Families {
		r.far[f] = OffLink(h, f)
	}
	for _, rule := range h.Rules {
		known, _ := rule.Selectors()
		r.ports[rule.Family] = r.ports[rule.Family] || slices.ContainsFunc(known,
			func(s [2]string) bool { return slices.Contains(portSelectors, s[0]) })
	}
	return r
}

// ephemeral is a port that a client may have.
const ephemeral = 40000

// To is the query for a listener's reply to a client, with protocol and ports
// where rules tell them apart.
func (r Replies) To(l Listener, client netip.Addr) Query {
	q := Query{Src: l.Addr, Dst: client}
	if r.ports[FamilyOf(l.Addr)] {
		q.Proto, q.Sport, q.Dport = protocolOf(string(l.Transport)), l.Ports.First,
			ephemeral
	}
	return q
}

// Far is To for an off-link client.
func (r Replies) Far(l Listener) Query { return r.To(l, r.far[FamilyOf(l.Addr)]) }

// allows reports whether a rule's protocol and ports are those of a query.
func (r Rule) allows(q Query) bool {
	known, _ := r.Selectors()
	for _, s := range known {
		switch s[0] {
		case "ipproto":
			if protocolOf(s[1]) != q.Proto {
				return false
			}
		case "sport", "dport":
			first, last, span := strings.Cut(s[1], "-")
			if !span {
				last = first
			}
			low, _ := strconv.Atoi(first)
			high, _ := strconv.Atoi(last)
			port := map[string]uint16{"sport": q.Sport, "dport": q.Dport}[s[0]]
			if int(port) < low || high < int(port) {
				return false
			}
		}
	}
	return true
}

// protocolOf is the number of a protocol that `ip rule` names.
func protocolOf(s string) uint8 {
	if n, ok := map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58,
		"sctp": 132}[s]; ok {
		return n
	}
	n, _ := strconv.ParseUint(s, 10, 8)
	return uint8(n)
}

// others are the rules of others, as a layout meets them.
type others struct{ *layout }

// Selectors takes apart what is not modelled of a rule: selectors that a rule
// of ours may have, too, each a key and its value ("dport", "80-90"), and the
// rest.
func (r Rule) Selectors() (known [][2]string, rest string) {
	if r.Opaque == "" {
		return nil, "" // most of them
	}
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

// leapsOver reports whether a rule is a goto over some that decide about
// replies: those would come alive by being repeated for the packets that it
// matches.
func (l others) leapsOver(list []Rule, i int) bool {
	if list[i].Action != Goto {
		return false
	}
	last, effect := target(list, i)
	return effect == Jumped && slices.ContainsFunc(list[i+1:last+1], func(r Rule) bool {
		return !catchesAll(r) && r.forReplies() && l.decides(r)
	})
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

// keepInPlace leaves paths as they are on the host where the block has no place
// any more, as long as their rules are where they work.
func (l others) keepInPlace(f Family, paths []*path) {
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

// keep leaves a path as it is on the host, and says why.
func (l others) keep(p *path, why Finding) {
	l.unfit = append(l.unfit, p)
	l.find(why)
	l.keepInstalled(p)
}

// keepInstalled puts what is installed for a path into the state.
func (l others) keepInstalled(p *path) {
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
