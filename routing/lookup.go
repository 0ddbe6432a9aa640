package routing

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Query is one packet that the host itself sends.
type Query struct {
	Src  netip.Addr // zero: not chosen yet, matches no `from`
	Dst  netip.Addr
	OIF  string // the device that the socket is bound to
	Mark uint32
}

// Step is one rule that Lookup tried.
type Step struct {
	Rule    Rule
	Matched bool
	Route   *Route // what its table answered; nil if nothing
	Note    string // why the rule did not match, or why its answer does not count
}

// Trace is a lookup, step by step, and its end.
type Trace struct {
	Query Query
	Steps []Step
	Way   Way
	Route *Route // the answer; nil if there is none
	Hops  []Hop  // the next hops it may take: more than one for a multipath route
}

// Lookup walks the host's rules and tables as the kernel does for a packet of its own (fib_rules_lookup in
// net/core/fib_rules.c, fib_table_lookup in net/ipv4/fib_trie.c, ip6_pol_route in net/ipv6/route.c). For many queries of one
// host use NewFIB. It knows no neighbours, exceptions (PMTU, redirects), VRFs and source-specific IPv6 routes, and a
// rule with selectors that are not modelled (Rule.Opaque) is taken not to match. An IPv4 source that is not assigned to the
// host is looked up like any other, where the kernel's `ip route get` refuses it.
func Lookup(h Host, q Query) Trace { return NewFIB(h).Lookup(q) }

// FIB is a host's rules and routes, indexed for Lookup. It is safe for concurrent use.
type FIB struct {
	rules   map[Family][]Rule
	tables  map[tableID]*table
	groups  map[string]int
	ignored map[string]bool // links whose routes do not count without carrier, "family link"
}

type tableID struct {
	family Family
	number uint32
}

// table holds the routes of one table by destination, and the lengths that occur, longest first.
type table struct {
	routes  map[netip.Prefix][]Route
	lengths []int
}

// NewFIB indexes a host.
func NewFIB(h Host) *FIB {
	f := &FIB{rules: map[Family][]Rule{}, tables: map[tableID]*table{}, groups: map[string]int{}, ignored: map[string]bool{}}
	for _, r := range h.Rules {
		f.rules[r.Family] = append(f.rules[r.Family], r)
	}
	for _, rules := range f.rules {
		slices.SortStableFunc(rules, func(a, b Rule) int { return a.Priority - b.Priority })
	}
	for _, r := range h.Routes {
		f.addRoute(r)
	}
	for _, t := range f.tables {
		t.finish()
	}
	for _, l := range h.Links {
		f.groups[l.Name] = l.Group
		for _, family := range Families {
			key := strings.ToLower(family.String()) + ".conf." + l.Name + ".ignore_routes_with_linkdown"
			f.ignored[family.String()+" "+l.Name] = h.Sysctls[key] == "1"
		}
	}
	return f
}

func (f *FIB) addRoute(r Route) {
	if r.opaqueHas("tos", "from") {
		return // answers other packets than ours
	}
	id := tableID{r.Family(), r.Table}
	t := f.tables[id]
	if t == nil {
		t = &table{routes: map[netip.Prefix][]Route{}}
		f.tables[id] = t
	}
	t.routes[r.Dst] = append(t.routes[r.Dst], r)
}

// finish sorts routes of one destination as the kernel tries them: by metric, IPv6 then by router preference.
func (t *table) finish() {
	seen := [129]bool{}
	for dst, routes := range t.routes {
		seen[dst.Bits()] = true
		slices.SortStableFunc(routes, func(a, b Route) int {
			if a.Metric != b.Metric {
				return int(int64(a.Metric) - int64(b.Metric))
			}
			return int(b.Pref) - int(a.Pref)
		})
	}
	for bits := 128; bits >= 0; bits-- {
		if seen[bits] {
			t.lengths = append(t.lengths, bits)
		}
	}
}

// Lookup answers one query; see the function of the same name.
func (f *FIB) Lookup(q Query) Trace { return f.walk(q, true) }

// Way answers one query without saying why.
func (f *FIB) Way(q Query) Way { return f.walk(q, false).Way }

func (f *FIB) walk(q Query, explain bool) Trace {
	t := Trace{Query: q}
	rules := f.rules[FamilyOf(q.Dst)]
	for i := 0; i < len(rules); i++ {
		step := Step{Rule: rules[i], Matched: matches(rules[i], q)}
		next, done := i, false
		switch {
		case !step.Matched && explain:
			step.Note = cmp.Or(mismatch(rules[i], q), "inverted")
		case !step.Matched:
			continue
		case rules[i].Action == Goto:
			next = target(rules, i, &step)
		default:
			done = f.act(&t, &step, q)
		}
		if explain {
			t.Steps = append(t.Steps, step)
		}
		if done {
			break
		}
		i = next
	}
	return t.finish(q)
}

// target returns the index before that of the rule that a goto leads to; without such a rule the goto does nothing.
func target(rules []Rule, i int, step *Step) int {
	to := slices.IndexFunc(rules, func(r Rule) bool { return r.Priority == rules[i].Goto })
	if to <= i {
		step.Note = "no rule to go to"
		return i
	}
	return to - 1
}

// act carries out a matching rule and says whether the lookup is over.
func (f *FIB) act(t *Trace, step *Step, q Query) bool {
	switch step.Rule.Action {
	case RejectBlackhole, RejectUnreachable, RejectProhibit:
		t.Way = Way{Type: RouteType(step.Rule.Action)} // FR_ACT_* and RTN_* share these numbers
		return true
	case ToTable:
	default:
		return false
	}
	route, hops := f.search(step.Rule.Table, q)
	if route == nil {
		step.Note = "no route in the table"
		return false
	}
	step.Route = route
	if route.Type == Throw {
		step.Note = "throw route"
		return false
	}
	if route.Type.Rejects() {
		t.answer(route, nil)
		return true
	}
	left, note := f.suppress(step.Rule, route, hops)
	step.Note = note
	if len(left) > 0 || len(hops) == 0 && note == "" {
		t.answer(route, left)
	}
	return note == ""
}

// suppress returns the hops that the rule lets pass and why it does not let pass the others. IPv4 looks at the first next
// hop whichever is used then (fib4_rule_suppress); IPv6 at the one that the hash has chosen (fib6_rule_suppress).
func (f *FIB) suppress(r Rule, route *Route, hops []Hop) (left []Hop, note string) {
	if r.SuppressPrefix != None && route.Dst.Bits() <= r.SuppressPrefix {
		return nil, "suppressed: prefix too short"
	}
	if r.SuppressGroup == None || len(route.Hops) == 0 {
		return hops, ""
	}
	in := func(h Hop) bool { return f.groups[h.Link] == r.SuppressGroup }
	if r.Family == IPv4 {
		if in(route.Hops[0]) {
			return nil, "suppressed: leaves by a link of the group"
		}
		return hops, ""
	}
	for _, h := range hops {
		if in(h) {
			note = "suppressed: leaves by a link of the group"
		} else {
			left = append(left, h)
		}
	}
	return left, note
}

// search finds the longest prefix with a usable route: a reject route, or one with a next hop that is alive and on the
// device asked for.
func (f *FIB) search(number uint32, q Query) (*Route, []Hop) {
	t := f.tables[tableID{FamilyOf(q.Dst), number}]
	if t == nil {
		return nil, nil
	}
	for _, bits := range t.lengths {
		dst, err := q.Dst.Prefix(bits)
		if err != nil {
			continue
		}
		routes := t.routes[dst]
		for i := range routes {
			if hops, ok := f.usable(&routes[i], q); ok {
				return &routes[i], hops
			}
		}
	}
	return nil, nil
}

func (f *FIB) usable(r *Route, q Query) ([]Hop, bool) {
	if len(r.Hops) == 0 {
		// IPv6 keeps reject routes on lo, so a socket bound to another device does not find them.
		return nil, r.Family() == IPv4 || q.OIF == "" || q.OIF == "lo"
	}
	if len(r.Hops) == 1 && q.OIF == "" && !r.Hops[0].Dead && !r.Hops[0].LinkDown {
		return r.Hops, true
	}
	var hops []Hop
	for _, h := range r.Hops {
		down := h.Dead || h.LinkDown && f.ignored[r.Family().String()+" "+h.Link]
		if !down && (q.OIF == "" || h.Link == q.OIF) {
			hops = append(hops, h)
		}
	}
	return hops, len(hops) > 0
}

// answer adds a route's next hops to the result. A further answer can only add next hops, where an IPv6 multipath route was
// suppressed in part.
func (t *Trace) answer(r *Route, hops []Hop) {
	if t.Route == nil {
		t.Route = r
		t.Way = Way{Type: r.Type, Table: r.Table}
	}
	for _, h := range hops {
		h = Hop{Link: h.Link, Via: h.Via}
		if !slices.Contains(t.Hops, h) {
			t.Hops = append(t.Hops, h)
		}
	}
}

func (t Trace) finish(q Query) Trace {
	switch {
	case t.Way.Type == Local:
		t.Way.Link = "lo"
	case len(t.Hops) > 0:
		t.Way.Link, t.Way.Via = t.Hops[0].Link, t.Hops[0].Via
		var more []string
		for _, h := range t.Hops[1:] {
			more = append(more, h.String())
		}
		t.Way.More = strings.Join(more, ", ")
	case t.Route == nil && t.Way.Type == 0 && q.OIF != "" && q.Dst.Is4():
		// "Apparently, routing tables are wrong. Assume, that the destination is on link": ip_route_output_key_hash_rcu.
		t.Way = Way{Type: Unicast, Link: q.OIF}
	}
	return t
}

// matches says whether the rule's selectors match.
func matches(r Rule, q Query) bool { return r.Opaque == "" && (mismatch(r, q) == "") != r.Not }

// mismatch names the first selector that does not match; it is empty if all do. Inversion is the caller's.
func mismatch(r Rule, q Query) string {
	switch {
	case r.Opaque != "":
		return "not modelled: " + r.Opaque
	case r.IIF != "" && r.IIF != "lo":
		return "other incoming device"
	case r.OIF != "" && r.OIF != q.OIF:
		return "other outgoing device"
	case (r.Mark^q.Mark)&r.Mask != 0:
		return "other mark"
	case r.From.IsValid() && r.From.Bits() > 0 && !r.From.Contains(q.Src):
		return "other source"
	case r.To.IsValid() && !r.To.Contains(q.Dst):
		return "other destination"
	}
	return ""
}

func (h Hop) String() string {
	if !h.Via.IsValid() {
		return h.Link
	}
	return h.Link + " via " + h.Via.String()
}
