package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// Tiers of the block of rules, as offsets from its base. Rules of one tier
// never overlap, so their order is of no account.
const (
	tierDirect = iota // from P to D lookup main
	// from P oif X lookup main: sockets bound to another uplink, with
	// fail_closed
	tierBound
	tierMain  // from P lookup main, but not through an uplink
	tierTable // from P lookup TABLE
	tiers
)

// wide is the length of the longest prefixes in main that do not count as
// specific: VPN clients split the Internet into prefixes this short (0.0.0.0/1,
// 128.0.0.0/2, 2000::/3), and nobody's LAN is a /7.
func wide(f Family) int {
	if f == IPv4 {
		return 7
	}
	return 15
}

// failClosedMetric is that of `unreachable default`: the last resort of a
// table.
const failClosedMetric = 4294967295

// layout is a State in the making, and what was noticed on the way.
type layout struct {
	state    State
	base     map[Family]int // where the block of rules begins; 0: it fits nowhere
	findings []Finding
}

// layOut returns the state in which the given paths work.
func (b *builder) layOut(paths []*path) layout {
	l := layout{base: map[Family]int{}}
	if len(paths) == 0 {
		return l
	}
	group := b.layGroups(&l)
	for _, f := range Families {
		ours := slices.DeleteFunc(slices.Clone(paths), func(p *path) bool {
			return p.family != f || p.table == 0
		})
		if len(ours) == 0 {
			continue
		}
		l.base[f] = b.base(&l, f)
		if l.base[f] == 0 {
			continue
		}
		reject := b.mainRejects(f)
		for _, p := range ours {
			b.layTable(&l, p, reject)
			b.layRules(&l, p, group, reject)
		}
	}
	if !slices.ContainsFunc(l.state.Rules,
		func(r Rule) bool { return r.SuppressGroup == b.policy.Numbers.Group }) {
		l.state.Groups = nil
	}
	l.state.Sort()
	return l
}

// layGroups puts the uplinks into our link group and returns the group that the
// rules name: theirs, if all uplinks and nobody else share one already.
func (b *builder) layGroups(l *layout) int {
	ups := map[string]bool{}
	for key := range b.uplinks {
		ups[key.link] = true
	}
	shared := map[int]bool{}
	for _, link := range b.host.Links {
		if ups[link.Name] {
			shared[link.Group] = true
		}
	}
	for _, link := range b.host.Links {
		if !ups[link.Name] && link.Group != 0 && shared[link.Group] {
			shared[0] = true // not exclusively theirs
		}
	}
	if len(shared) == 1 && !shared[0] {
		for group := range shared {
			return group
		}
	}
	n := b.policy.Numbers
	for _, link := range b.sortedLinks() {
		switch {
		case !ups[link.Name]:
		case link.Group == 0:
			l.state.Groups = append(l.state.Groups, LinkGroup{link.Name, n.Group})
		default:
			l.findings = append(l.findings, Finding{Code: "link-group-taken",
				Severity: Warning, Subject: link.Name,
				Message: fmt.Sprintf("%s is in link group %d already: main's "+
					"specific routes through it win over the "+
					"paths, as with main-first", link.Name, link.Group),
				Hint: fmt.Sprintf("free it, if nothing uses it: ip "+
					"link set %s group default", link.Name)})
		}
	}
	return n.Group
}

// layTable writes a path's table: what main knows of the link itself, and the
// default.
func (b *builder) layTable(l *layout, p *path, reject bool) {
	seen := map[RouteKey]bool{}
	var add func(r Route)
	add = func(r Route) {
		r.Table, r.Protocol, r.Src = p.table, b.policy.Numbers.Protocol, netip.Addr{}
		for i, h := range r.Hops {
			if b.elsewhere(h) {
				r.Hops[i].OnLink = false
				add(hostRoute(h))
			}
		}
		if !seen[r.RouteKey] {
			seen[r.RouteKey] = true
			l.state.Routes = append(l.state.Routes, r)
		}
	}
	def := Route{RouteKey: RouteKey{Dst: p.family.All(), Metric: defaultMetric(p.family)},
		Type: Unicast, Hops: slices.Clone(p.hops), MTU: p.mtu, AdvMSS: p.advmss}
	if !def.Hops[0].Via.IsValid() && p.family == IPv4 {
		def.Scope = ScopeLink
	}
	add(def)
	if b.policy.failClosed(p.link) {
		add(Route{RouteKey: RouteKey{Dst: p.family.All(), Metric: failClosedMetric},
			Type: Unreachable})
	}
	for _, r := range b.host.Routes {
		if r.Table != TableMain || r.Family() != p.family || r.IsDefault() {
			continue
		}
		if c, ok := b.ownRoute(l, r, p); ok {
			add(c)
		} else if reject && r.Dst.Bits() > wide(p.family) && !r.steers() &&
			!b.usesUplink(r) {
			add(copyRoute(r, r.Hops))
		}
	}
}

// elsewhere says whether main knows an IPv6 gateway behind another link. The
// kernel then refuses it with `onlink` (it looks into main alone,
// ip6_route_check_nh_onlink), but takes it without, if the table itself holds
// an on-link route to it.
func (b *builder) elsewhere(h Hop) bool {
	if !h.Via.Is6() || h.Via.IsLinkLocalUnicast() {
		return false
	}
	route, _ := b.fib.search(TableMain, Query{Dst: h.Via})
	if route == nil || route.IsDefault() || route.Type.Rejects() {
		return false
	}
	same := b.fib.tables[tableID{IPv6, TableMain}].routes[route.Dst]
	return !slices.ContainsFunc(same, func(r Route) bool {
		return slices.ContainsFunc(r.Hops, func(x Hop) bool { return x.Link == h.Link })
	})
}

// hostRoute is the on-link route to a gateway.
func hostRoute(h Hop) Route {
	return Route{RouteKey: RouteKey{Dst: netip.PrefixFrom(h.Via, h.Via.BitLen()),
		Metric: defaultMetric(FamilyOf(h.Via))},
		Type: Unicast, Hops: []Hop{{Link: h.Link, Weight: 1}}}
}

// defaultMetric is what the kernel makes of metric 0.
func defaultMetric(f Family) uint32 {
	if f == IPv4 {
		return 0
	}
	return 1024
}

// ownRoute returns the copy of a route of main that belongs to the path's link.
func (b *builder) ownRoute(l *layout, r Route, p *path) (Route, bool) {
	on := func(h Hop) bool { return h.Link == p.link }
	if r.Type != Unicast || !slices.ContainsFunc(r.Hops, on) {
		return Route{}, false
	}
	if r.steers() {
		l.findings = append(l.findings, Finding{Code: "opaque-route", Severity: Warning,
			Subject: p.link, Origin: r.String(),
			Message: fmt.Sprintf("the route to %s has %s, which is not copied into "+
				"the table of %s: replies there take the gateway", r.Dst,
				r.Opaque, p.link),
			Hint: fmt.Sprintf("keep main's way for it: --direct %s", r.Dst)})
		return Route{}, false
	}
	return copyRoute(r,
		slices.DeleteFunc(slices.Clone(r.Hops), func(h Hop) bool { return !on(h) })), true
}

// copyRoute drops what is volatile or would be wrong in another table: flags,
// prefsrc, router preference.
func copyRoute(r Route, hops []Hop) Route {
	c := Route{RouteKey: r.RouteKey, Type: r.Type, Scope: r.Scope, MTU: r.MTU, AdvMSS: r.AdvMSS}
	for _, h := range hops {
		c.Hops = append(c.Hops,
			Hop{Link: h.Link, Via: h.Via, Weight: h.Weight, OnLink: h.Via.IsValid()})
	}
	if len(c.Hops) == 1 {
		c.Hops[0].Weight = 1
	}
	slices.SortFunc(c.Hops, compareHop)
	return c
}

func (b *builder) usesUplink(r Route) bool {
	return slices.ContainsFunc(r.Hops, func(h Hop) bool { return b.isUplink(h.Link) })
}

func (b *builder) isUplink(link string) bool {
	return len(b.uplinks[linkFamily{link, IPv4}])+len(b.uplinks[linkFamily{link, IPv6}]) > 0
}

// layRules writes the rules of a path.
func (b *builder) layRules(l *layout, p *path, group int, reject bool) {
	for _, c := range p.covers {
		for _, prefix := range c.prefixes {
			rule := func(tier int, table uint32) Rule {
				r := NewRule(p.family, l.base[p.family]+tier, table)
				r.From, r.IIF, r.Protocol = prefix, "lo", b.policy.Numbers.Protocol
				return r
			}
			rules := b.exceptions(p, rule)
			if !reject {
				main := rule(tierMain, TableMain)
				main.SuppressPrefix = wide(p.family)
				if c.mode == Strict {
					main.SuppressGroup = group
				}
				rules = append(rules, main)
			}
			l.state.Rules = append(append(l.state.Rules, rules...),
				rule(tierTable, p.table))
		}
	}
}

// exceptions returns the rules in front: for what the user wants to go main's
// way, and with fail_closed for sockets that are bound to another uplink, which
// main alone can serve.
func (b *builder) exceptions(p *path, rule func(tier int, table uint32) Rule) []Rule {
	var rules []Rule
	for _, d := range b.policy.Direct {
		if FamilyOf(d.Addr()) == p.family {
			r := rule(tierDirect, TableMain)
			r.To = d.Masked()
			if !slices.Contains(rules, r) {
				rules = append(rules, r)
			}
		}
	}
	for _, link := range b.sortedLinks() {
		if b.policy.failClosed(p.link) && link.Name != p.link &&
			len(b.uplinks[linkFamily{link.Name, p.family}]) > 0 {
			r := rule(tierBound, TableMain)
			r.OIF = link.Name
			rules = append(rules, r)
		}
	}
	return rules
}

// mainRejects says whether a reject route as wide as a default wins in main. A
// lookup that ends at one is not suppressed (fib_rules_lookup suppresses only
// success), so a rule `lookup main suppress_prefixlength` would end every reply
// there.
func (b *builder) mainRejects(f Family) bool {
	best := map[netip.Prefix]Route{}
	for _, r := range b.host.Routes {
		if r.Table != TableMain || r.Family() != f || r.Dst.Bits() > wide(f) || r.steers() {
			continue
		}
		if old, ok := best[r.Dst]; !ok || r.Metric < old.Metric {
			best[r.Dst] = r
		}
	}
	for _, r := range best {
		if r.Type.Rejects() {
			return true
		}
	}
	return false
}

// base returns where the block of rules begins: the highest place behind
// `local` and l3mdev and in front of every catch-all of others that would
// answer a reply. The kernel gives a rule without priority the place before the
// second rule of the list, so no fixed number is safe.
func (b *builder) base(l *layout, f Family) int {
	r := b.room(f)
	for _, size := range []int{b.policy.Numbers.Block, tiers} {
		for base := min(b.policy.Numbers.Base, r.high-size); base >= r.low; base-- {
			in := max(b.highestRule(f, base, base+size-1), r.leapt(base, base+size-1))
			if in < 0 {
				return base
			}
			base = in - size + 1 // go on below what is in the way
		}
	}
	finding := Finding{Code: "shadowed", Severity: Error, Subject: f.String(),
		Message: fmt.Sprintf("%s rules find no place: `local` or l3mdev stands at %d",
			f, r.low-1),
		Hint: fmt.Sprintf("give `lookup local` the priority 0, as the kernel does; "+
			"the block goes to %d at most", b.policy.Numbers.Base)}
	if r.first.Family != 0 {
		finding.Origin = r.first.String()
		finding.Message = fmt.Sprintf("%s rules find no place in front of a rule "+
			"that answers every reply", f)
		finding.Hint = fmt.Sprintf("give that rule a priority above %d",
			b.policy.Numbers.Base+b.policy.Numbers.Block)
	}
	l.findings = append(l.findings, finding)
	return 0
}

// room is where the block of rules may stand: at low or higher, below high, and
// not where a goto leaps over it.
type room struct {
	low, high int
	first     Rule     // the catch-all at high
	leaps     [][2]int // priorities of a goto and of its target
}

// room walks the rules as the kernel does for a reply, as far as a catch-all
// that answers.
func (b *builder) room(f Family) room {
	r := room{low: 1, high: b.policy.Numbers.Base + b.policy.Numbers.Block}
	rules := b.fib.rules[f]
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
		case b.answers(x):
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

// answers says whether a rule that matches would answer, or end, the lookup of
// some reply.
func (b *builder) answers(r Rule) bool {
	if r.Action != ToTable {
		return r.Action != Nop
	}
	return slices.ContainsFunc(b.host.Routes, func(x Route) bool {
		return x.Table == r.Table && x.Family() == r.Family && x.Type != Throw &&
			x.Dst.Bits() > r.SuppressPrefix
	})
}

// highestRule returns the highest priority of others' rules between first and
// last, or -1.
func (b *builder) highestRule(f Family, first, last int) int {
	highest := -1
	for _, r := range b.host.Rules {
		if r.Family == f && first <= r.Priority && r.Priority <= last {
			highest = max(highest, r.Priority)
		}
	}
	return highest
}
