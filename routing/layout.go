package routing

import (
	"net/netip"
	"slices"
)

// Tiers of the block of rules, as offsets from its base. Rules of one tier
// never overlap, so their order does not matter, except for exceptions: they
// keep the order of the rules that they repeat.
const (
	tierDirect = iota // from P to D lookup main
	// from P oif X lookup main: sockets bound to another uplink, with
	// fail_closed
	tierBound
	tierException // from P SELECTORS ACTION: repeated foreign rules behind the block
	// how many exceptions one P may have; the numbers up to that of main
	// are kept free
	mostExceptions = 80
	// from P lookup N, for each catch-all that the block evades, but not
	// through an outward link
	tierEvaded  = tierException + mostExceptions
	mostEvaded  = 15
	tierPrivate = tierEvaded + mostEvaded // IPv6: from P to fc00::/7 lookup main, as tierMain
	tierMain    = tierPrivate + 1         // from P lookup main, but not through an outward link
	tierTable   = tierMain + 1            // from P lookup TABLE
)

// wide is the length of the longest prefixes in main that do not count as
// specific. VPN clients split the Internet into prefixes this short (0.0.0.0/1,
// 128.0.0.0/2, 2000::/3), and no LAN is a /7.
func wide(f Family) int {
	if f == IPv4 {
		return 7
	}
	return 15
}

// private are IPv6's addresses for sites, as 10.0.0.0/8 is IPv4's: no route
// within them is a way to the Internet.
var private = netip.MustParsePrefix("fc00::/7")

// isWide reports whether a route to a prefix may be a way to the Internet.
func isWide(p netip.Prefix) bool {
	return p.Bits() <= wide(FamilyOf(p.Addr())) &&
		(p.Bits() < private.Bits() || !private.Contains(p.Addr()))
}

// failClosedMetric is that of `unreachable default`: the last resort of a
// table.
const failClosedMetric = 4294967295

// layout is a State in the making, and what was found on the way.
type layout struct {
	*topology
	findings
	state State
	base  map[Family]int // where the block of rules begins; 0: it fits nowhere
	at    map[Family]numbering
	group int // that the rules name
	// the block cannot repeat all foreign rules for their replies
	unfit []*path
	// main has a reject route as wide as a default: FIB.rejects
	rejected map[Family]bool
	// what a hand-written rule goes on to decide for a path: byTable
	exempt map[*path][]destined
}

// layOut returns the state in which the given paths work.
func layOut(t *topology, paths []*path) *layout {
	l := &layout{topology: t, base: map[Family]int{}, at: map[Family]numbering{},
		rejected: map[Family]bool{}, exempt: map[*path][]destined{}}
	if len(paths) == 0 {
		return l
	}
	l.layGroups()
	var learners []*path
	for _, f := range Families {
		all := filter(paths, func(p *path) bool { return p.family == f && p.table != 0 })
		for _, p := range all {
			l.exempt[p] = foreignRules{l}.byTable(p)
		}
		l.rejected[f] = l.fib.rejects(f, TableMain)
		fit, needed := foreignRules{l}.fitting(all)
		if len(fit) == 0 {
			continue
		}
		if l.base[f] = l.place(f, fit, needed); l.base[f] == 0 {
			foreignRules{l}.keepInPlace(f, fit)
			continue
		}
		for _, p := range (foreignRules{l}).handsOff(fit) {
			l.layTable(p)
			l.layRules(p)
			if p.lastHop {
				learners = append(learners, p)
			}
		}
	}
	l.state.Filters, l.state.Wanted = returning{t}.learning(learners)
	if !slices.ContainsFunc(l.state.Rules,
		func(r Rule) bool { return r.SuppressGroup == l.policy.Numbers.Group }) {
		l.state.Groups = nil
	}
	l.state.Sort()
	return l
}

// standsAs reports whether the blocks of rules have the same places as in a
// layout of more paths.
func (l *layout) standsAs(more *layout) bool {
	for f, base := range l.base {
		if base != more.base[f] || l.at[f] != more.at[f] {
			return false
		}
	}
	return l.group == more.group
}

// complete reports whether the rules of all paths have found a place.
func (l *layout) complete(paths []*path) bool {
	return !slices.ContainsFunc(paths,
		func(p *path) bool {
			return p.table != 0 &&
				(l.base[p.family] == 0 || slices.Contains(l.unfit, p))
		})
}

// layGroups puts the outward links into lasthop's link group. If all of them
// and no other link share a group already, the rules name that group instead.
func (l *layout) layGroups() {
	n := l.policy.Numbers
	if l.group = l.sharedGroup(); l.group != 0 {
		return
	}
	l.group = n.Group
	zero := slices.IndexFunc(l.host.Rules, func(r Rule) bool { return r.SuppressGroup == 0 })
	for _, link := range l.sorted {
		switch {
		case !l.isOutward(link.Name):
			if link.Group == n.Group {
				l.find(Warning.Finding("link-group-taken", link.Name,
					"another program has put %s into link group %d, which "+
						"is lasthop's: replies to clients behind it "+
						"leave by the paths",
					link.Name, link.Group).Advise("if no other program uses "+
					"the group: %s", linkDefault(link.Name)))
			}
		case link.Group == n.Group: // by another program, and as lasthop wants it
		case link.Group == 0 && zero >= 0:
			l.find(Warning.Finding("link-group-taken", link.Name, "this rule tests "+
				"for link group 0, so lasthop leaves %s in it: main's specific "+
				"routes through it win over the paths, as with "+
				"main-first", link.Name).
				Advise("let the rule test for a group other than 0").
				At(l.host.Rules[zero].String()))
		case link.Group == 0:
			l.state.Groups = append(l.state.Groups, LinkGroup{link.Name, n.Group})
		default:
			l.find(Warning.Finding("link-group-taken", link.Name,
				"%s is in link group %d already: main's specific routes through "+
					"it win over the paths, as with main-first", link.Name,
				link.Group).Advise("if no other program uses the group: %s",
				linkDefault(link.Name)))
		}
	}
}

// sharedGroup returns the group that holds all outward links and no other; 0
// for none.
func (l *layout) sharedGroup() int {
	shared := 0
	for _, link := range l.sorted {
		if l.isOutward(link.Name) {
			shared = link.Group
		}
	}
	for _, link := range l.sorted {
		if (link.Group == shared) != l.isOutward(link.Name) {
			return 0
		}
	}
	return shared
}

// layRules writes the rules of a path.
func (l *layout) layRules(p *path) {
	at := l.at[p.family]
	for _, c := range p.covers {
		for _, prefix := range c.prefixes {
			put := func(offset int, rules ...Rule) {
				for i, r := range rules {
					r.Priority = l.base[p.family] + offset + i
					r.IIF, r.Protocol = "lo", l.policy.Numbers.Protocol
					l.state.Rules = append(l.state.Rules, r)
				}
			}
			from := func(table uint32) Rule {
				r := NewRule(p.family, 0, table)
				r.From = prefix
				return r
			}
			l.layFront(p, from, put)
			b := foreignRules{l}.behind(p, c, prefix)
			put(at.exception, b.exceptions...)
			if len(b.evaded) <= at.main-at.evaded {
				put(at.evaded, b.evaded...)
			}
			if !l.rejected[p.family] {
				w := behindBlock{foreignRules: foreignRules{l}, path: p, cover: c}
				put(at.main, w.asking(from(TableMain))...)
			}
			put(at.table, from(p.table))
		}
	}
}

// layFront writes the rules at the front of a block: for destinations that the
// user wants to go main's way, and with fail_closed for sockets that
// are bound to another uplink, which only main can serve.
func (l *layout) layFront(p *path, from func(uint32) Rule, put func(int, ...Rule)) {
	var direct []netip.Prefix
	for _, d := range l.policy.Direct {
		if FamilyOf(d.Addr()) == p.family {
			direct = appendOnce(direct, d.Masked())
		}
	}
	for _, d := range direct {
		r := from(TableMain)
		r.To = d
		put(tierDirect, r)
	}
	for _, link := range l.sorted {
		if l.policy.failClosed(p.link) && link.Name != p.link &&
			l.isUplink(link.Name, p.family) {
			r := from(TableMain)
			r.OIF = link.Name
			put(l.at[p.family].bound, r)
		}
	}
}
