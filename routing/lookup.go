package routing

import (
	"cmp"
	"maps"
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
	// IPPROTO_* and ports; 0: not known; then a rule that asks for them
	// does not match
	Proto        uint8
	Sport, Dport uint16
}

// Way is where the kernel sends a packet: the end of a Trace. The zero Way
// means that no route was found.
type Way struct {
	Type  RouteType // Unicast, Local, or the reject type that ended the lookup; 0: no route
	Table uint32
	Link  string
	Via   netip.Addr // zero: on-link
	// further next hops of a multipath route, "eth2 via 10.0.2.1, …"; the
	// kernel chooses by hash
	More string
	// the packet goes to the router that its connection came from, if that
	// is known: the route has lasthop's answer program
	LastHop bool
}

// String returns the way in a few words: "eth1 via 10.0.1.1", "eth0, on-link",
// "unreachable", "no route", "per connection, else eth1 via 10.0.1.1".
func (w Way) String() string {
	if w.LastHop {
		return "per connection, else " + w.fallback().String()
	}
	switch {
	case w.Type == 0:
		return "no route"
	case w.Type == Local:
		return "this host"
	case w.Type != Unicast:
		return typeNames.print(w.Type)
	case w.More != "":
		return w.brief() + ", " + w.More
	case w.Via.IsValid():
		return w.brief()
	}
	return w.Link + ", on-link"
}

// fallback is the way of a connection that is not known. A connection that this
// host makes is never known.
func (w Way) fallback() Way {
	w.LastHop = false
	return w
}

// fallback is a lookup for such a connection.
func (t Trace) fallback() Trace {
	t.Way, t.Ends = t.Way.fallback(), slices.Clone(t.Ends)
	for i := range t.Ends {
		t.Ends[i].LastHop = false
	}
	return t
}

// brief is String without the word on-link and without More.
func (w Way) brief() string {
	if w.Type == Unicast {
		return Hop{Link: w.Link, Via: w.Via}.String()
	}
	return w.String()
}

// Step is one rule that Lookup tried.
type Step struct {
	Rule   Rule
	Effect Effect
	Route  *Route // what its table answered; nil if nothing
}

// Effect is what a rule did to a lookup. The lookup goes on after every effect
// except Answered, Rejected and, for some flows, Suppressed.
type Effect string

const (
	NotMatched Effect = "not-matched"
	NoRoute    Effect = "no-route" // its table knows none
	Thrown     Effect = "throw"
	// the route does not count; of an IPv6 multipath route some next hops
	// may count
	Suppressed Effect = "suppressed"
	Answered   Effect = "answered"
	Rejected   Effect = "rejected" // by the rule, or by a route if there is one
	Jumped     Effect = "goto"
	NoTarget   Effect = "no-target" // a goto to a priority that no rule has
	Idle       Effect = "nop"
)

// Matched reports whether the rule's selectors matched.
func (s Step) Matched() bool { return s.Effect != NotMatched }

// Trace is a lookup, step by step, and its end.
type Trace struct {
	Query Query
	Steps []Step
	Way   Way    // Ends in one
	Route *Route // the first answer; nil if there is none
	// where it may end, without More: several ends for a multipath route,
	// and for IPv4 default routes of one metric
	Ends []Way

	ended  *Rule           // the rule that ended it; nil if none did
	jumped *Rule           // the first goto on the way; nil if there was none
	bare   map[string]bool // FIB.bare
}

// Lookup walks the host's rules and tables as the kernel does for a packet of
// its own (fib_rules_lookup in net/core/fib_rules.c, fib_table_lookup in
// net/ipv4/fib_trie.c, ip6_pol_route in net/ipv6/route.c). For many queries of
// one host use NewFIB. Lookup knows no neighbours, exceptions (PMTU, redirects)
// and VRFs. It assumes that a rule with selectors that are not modelled
// (Rule.Opaque) does not match. It looks up an IPv4 source that is not assigned
// to the host like any other, although the kernel's `ip route get` refuses it.
func Lookup(h Host, q Query) Trace { return NewFIB(h).Lookup(q) }

// FIB is a host's rules and routes, indexed for Lookup. It is safe for
// concurrent use.
type FIB struct {
	rules   map[Family]*rules
	tables  map[tableID]*table
	sources prefixSet // that routes tell sources apart by
	froms   prefixSet // that rules and routes do
	groups  map[string]int
	ignored map[linkFamily]bool // those whose routes do not count without carrier
	bare    map[string]bool     // links without neighbours: tunnels
}

// rules are those of one family in the kernel's order. By index it finds those
// that may match a source.
type rules struct {
	list []Rule
	any  []int                  // that name no source, or invert
	from map[netip.Prefix][]int // that name this source
}

func newRules(list []Rule) *rules {
	r := &rules{list: list, from: map[netip.Prefix][]int{}}
	for i, x := range list {
		if x.From.Bits() <= 0 || x.Not {
			r.any = append(r.any, i)
		} else {
			r.from[x.From.Masked()] = append(r.from[x.From.Masked()], i)
		}
	}
	return r
}

// of returns lists of the rules that may match a source; longest is the longest
// prefix around it that any rule or route asks for.
func (r *rules) of(longest netip.Prefix) [][]int {
	lists := [][]int{r.any}
	for bits := longest.Bits(); bits >= 0; bits-- {
		p, _ := longest.Addr().Prefix(bits)
		if list := r.from[p]; len(list) > 0 {
			lists = append(lists, list)
		}
	}
	return lists
}

// first returns the lowest index in sorted lists that is not below i, or end.
func first(lists [][]int, i, end int) int {
	for _, list := range lists {
		if n, _ := slices.BinarySearch(list, i); n < len(list) {
			end = min(end, list[n])
		}
	}
	return end
}

type tableID struct {
	family Family
	number uint32
}

// table holds the routes of one table by destination, and the lengths that
// occur, longest first.
type table struct {
	routes  map[netip.Prefix][]Route
	lengths []int
}

// NewFIB indexes a host. It keeps parts of its list of routes.
func NewFIB(h Host) *FIB { return new(FIB).and(h) }

// with indexes the host of f, or one that differs from it in rules, with a
// state added: see With.
func (f *FIB) with(h Host, s State) *FIB {
	h.Routes = nil
	return f.and(With(h, s))
}

// and indexes a host with the routes of f in front of its own. It shares tables
// with f where the host has no route for them.
func (f *FIB) and(h Host) *FIB {
	n := &FIB{rules: map[Family]*rules{}, tables: map[tableID]*table{},
		sources: f.sources.clone(), groups: map[string]int{},
		ignored: map[linkFamily]bool{}, bare: map[string]bool{}}
	maps.Copy(n.tables, f.tables)
	n.addRoutes(h.Routes)
	n.froms = n.sources.clone()
	lists := map[Family][]Rule{}
	for _, r := range h.Rules {
		lists[r.Family] = append(lists[r.Family], r)
		n.froms.add(r.From)
	}
	for _, family := range Families {
		list := lists[family]
		slices.SortStableFunc(list, func(a, b Rule) int { return a.Priority - b.Priority })
		n.rules[family] = newRules(list)
	}
	n.addLinks(h)
	return n
}

func (f *FIB) addLinks(h Host) {
	for _, l := range h.Links {
		f.groups[l.Name], f.bare[l.Name] = l.Group, l.PointToPoint
		for _, family := range Families {
			key := strings.ToLower(family.String()) + ".conf." + l.Name +
				".ignore_routes_with_linkdown"
			f.ignored[linkFamily{l.Name, family}] = h.Sysctls[key] == "1"
		}
	}
}

// addRoutes adds routes to copies of their tables.
func (f *FIB) addRoutes(routes []Route) {
	mine := map[tableID]*table{}
	for i := range routes {
		r := &routes[i]
		if r.opaqueHas("tos") {
			continue // matches only packets that the model does not look up
		}
		f.sources.add(r.Source())
		id := tableID{r.Family(), r.Table}
		t := mine[id]
		if t == nil {
			t = f.tables[id].clone()
			mine[id] = t
		}
		if same := t.routes[r.Dst]; same != nil {
			t.routes[r.Dst] = append(slices.Clip(same), *r)
		} else { // as most are: a host with many addresses has a route for each
			t.routes[r.Dst] = routes[i : i+1 : i+1]
		}
	}
	for id, t := range mine {
		t.finish()
		f.tables[id] = t
	}
}

// clone returns a table with the same routes; of none an empty one.
func (t *table) clone() *table {
	if t == nil {
		return &table{routes: map[netip.Prefix][]Route{}}
	}
	return &table{routes: maps.Clone(t.routes)}
}

// routes returns the routes of a rule's table by destination.
func (f *FIB) routes(r Rule) map[netip.Prefix][]Route {
	if t := f.tables[tableID{r.Family, r.Table}]; t != nil && r.Action == ToTable {
		return t.routes
	}
	return nil
}

// finish sorts routes of one destination as the kernel tries them:
// source-specific ones first, the narrowest in front; then by metric; IPv6 ones
// then by router preference.
func (t *table) finish() {
	seen := [129]bool{}
	for dst, routes := range t.routes {
		seen[dst.Bits()] = true
		slices.SortStableFunc(routes, func(a, b Route) int {
			return cmp.Or(cmp.Compare(b.Source().Bits(), a.Source().Bits()),
				cmp.Compare(a.Metric, b.Metric), cmp.Compare(b.Pref, a.Pref))
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

// Way answers one query without the steps.
func (f *FIB) Way(q Query) Way { return f.walk(q, false).Way }

// class is the same for source addresses of a family that every rule and every
// source-specific route matches alike, whatever the destination. The prefixes
// that hold an address are nested, so the longest one identifies the class.
func (f *FIB) class(src netip.Addr) netip.Prefix { return f.froms.longest(src) }

// Classes groups source addresses by class: it returns for each address the
// first one of its class.
func (f *FIB) Classes(sources []netip.Addr) map[netip.Addr]netip.Addr {
	type class struct {
		family Family
		from   netip.Prefix
	}
	first := map[class]netip.Addr{}
	out := make(map[netip.Addr]netip.Addr, len(sources))
	for _, a := range sources {
		c := class{FamilyOf(a), f.class(a)}
		if _, ok := first[c]; !ok {
			first[c] = a
		}
		out[a] = first[c]
	}
	return out
}

// answer is Lookup without the steps.
func (f *FIB) answer(q Query) Trace { return f.walk(q, false) }

// walk tries the rules one after the other. If the caller wants no explanation,
// it tries only those that may match the source.
func (f *FIB) walk(q Query, explain bool) Trace {
	t := Trace{Query: q, bare: f.bare}
	all := f.rules[FamilyOf(q.Dst)]
	var some [][]int
	if !explain {
		some = all.of(f.class(q.Src))
	}
	for i := 0; ; i++ {
		if !explain {
			i = first(some, i, len(all.list))
		}
		if i >= len(all.list) {
			break
		}
		var over bool
		if i, over = f.try(&t, all.list, i, explain); over {
			return t.finish()
		}
	}
	if len(t.Ends) > 0 {
		t.Ends = append(t.Ends, Way{}) // the flows that every route was suppressed for
	}
	return t.finish()
}

// try tries a rule. It returns the index before the rule to go on with, and
// whether the lookup is over.
func (f *FIB) try(t *Trace, rules []Rule, i int, explain bool) (before int, over bool) {
	step := Step{Rule: rules[i], Effect: NotMatched}
	switch {
	case !matches(rules[i], t.Query):
	case rules[i].Action == Goto:
		at := i
		if i, step.Effect = target(rules, i); step.Effect == Jumped && t.jumped == nil {
			t.jumped = &rules[at]
		}
	default:
		if over = f.act(t, &step, t.Query); over {
			t.ended = &rules[i]
		}
	}
	if explain {
		t.Steps = append(t.Steps, step)
	}
	return i, over
}

// target returns the index before the rule that a goto leads to. Without such a
// rule the goto has no effect.
func target(rules []Rule, i int) (int, Effect) {
	to := slices.IndexFunc(rules, func(r Rule) bool { return r.Priority == rules[i].Goto })
	if to <= i {
		return i, NoTarget
	}
	return to - 1, Jumped
}

// act carries out a matching rule and reports whether the lookup is over.
func (f *FIB) act(t *Trace, step *Step, q Query) bool {
	switch step.Rule.Action {
	case RejectBlackhole, RejectUnreachable, RejectProhibit:
		step.Effect = Rejected
		// FR_ACT_* and RTN_* share these numbers
		t.Ends = append(t.Ends, Way{Type: RouteType(step.Rule.Action)})
		return true
	case ToTable:
	default:
		step.Effect = Idle
		return false
	}
	route, hops := f.search(step.Rule.Table, q)
	step.Route = route
	switch {
	case route == nil:
		step.Effect = NoRoute
		return false
	case route.Type == Throw:
		step.Effect = Thrown
		return false
	}
	if len(hops) == 0 {
		hops = []Hop{{}} // of a reject route, or of a next hop that is not resolved
	}
	if route.Type.Rejects() {
		step.Effect = Rejected
		t.answer(route, hops)
		return true
	}
	left := f.suppress(step.Rule, route, hops)
	t.answer(route, left)
	if len(left) < len(hops) {
		step.Effect = Suppressed
		return false
	}
	step.Effect = Answered
	f.otherDefaults(t, route, q)
	return true
}

// otherDefaults adds what the kernel may take in place of an IPv4 default
// route: other defaults of the same metric. The kernel changes between them by
// the neighbour state of their gateways (fib_select_default).
func (f *FIB) otherDefaults(t *Trace, route *Route, q Query) {
	routed := func(r *Route) bool {
		return r.Type == Unicast && len(r.Hops) > 0 && r.Hops[0].Via.IsValid()
	}
	if !route.IsDefault() || route.Family() == IPv6 || q.OIF != "" || len(route.Hops) > 1 ||
		!routed(route) {
		return
	}
	all := f.tables[tableID{IPv4, route.Table}].routes[route.Dst]
	for i := range all {
		if r := &all[i]; r.Metric == route.Metric && routed(r) && !r.Hops[0].Dead {
			t.answer(r, r.Hops[:1])
		}
	}
}

// suppress returns the hops that the rule lets pass. IPv4 judges by the first
// next hop, whichever is used later (fib4_rule_suppress); IPv6 judges by the
// one that the hash has chosen (fib6_rule_suppress).
func (f *FIB) suppress(r Rule, route *Route, hops []Hop) []Hop {
	if r.SuppressPrefix != None && route.Dst.Bits() <= r.SuppressPrefix {
		return nil
	}
	if r.SuppressGroup == None || len(route.Hops) == 0 {
		return hops
	}
	in := func(h Hop) bool { return f.groups[h.Link] == r.SuppressGroup }
	if r.Family == IPv6 {
		return without(hops, in)
	}
	if in(route.Hops[0]) {
		return nil
	}
	return hops
}

// search finds the longest prefix with a usable route: a reject route, or one
// with a next hop that is alive and on the device asked for.
func (f *FIB) search(number uint32, q Query) (*Route, []Hop) {
	t := f.tables[tableID{FamilyOf(q.Dst), number}]
	if t == nil {
		return nil, nil
	}
	met := false // a route for the source, though with no usable next hop
	for _, bits := range t.lengths {
		dst, err := q.Dst.Prefix(bits)
		if err != nil {
			continue
		}
		routes := t.routes[dst]
		if !met && hides(routes, q.Src) {
			continue
		}
		for i := range routes {
			met = met || routes[i].forSource(q.Src)
			if hops, ok := f.usable(&routes[i], q); ok {
				return &routes[i], hops
			}
		}
	}
	return nil, nil
}

// hides reports whether IPv6 skips some of the sorted routes of one
// destination: a source-specific route that is not a default hides the routes
// for every source from all other packets (fib6_node_lookup_1 goes back to a
// shorter prefix).
func hides(routes []Route, src netip.Addr) bool {
	return len(routes) > 0 && routes[0].Source().IsValid() && !routes[0].IsDefault() &&
		!slices.ContainsFunc(routes, func(r Route) bool {
			return r.Source().IsValid() && r.forSource(src)
		})
}

// finds reports whether a lookup from a prefix reaches a destination in a
// route's table. IPv6 routes may be source-specific, or hidden by such routes.
func (f *FIB) finds(r Route, from netip.Prefix) bool {
	src := from.Addr()
	if own := r.Source(); own.Bits() > from.Bits() && own.Overlaps(from) {
		src = own.Addr()
	}
	same := f.tables[tableID{r.Family(), r.Table}].routes[r.Dst]
	return r.forSource(src) && !hides(same, src)
}

// forSource reports whether a route is for packets of a source.
func (r Route) forSource(src netip.Addr) bool {
	from := r.Source()
	return !from.IsValid() || from.Contains(src)
}

func (f *FIB) usable(r *Route, q Query) ([]Hop, bool) {
	if !r.forSource(q.Src) {
		return nil, false
	}
	if len(r.Hops) == 0 {
		// IPv6 keeps reject routes on lo, so a socket bound to another
		// device does not find them.
		return nil, r.Family() == IPv4 || q.OIF == "" || q.OIF == "lo"
	}
	if len(r.Hops) == 1 && q.OIF == "" && !r.Hops[0].Dead && !r.Hops[0].LinkDown {
		return r.Hops, true
	}
	var hops []Hop
	for _, h := range r.Hops {
		down := h.Dead || h.LinkDown && f.ignored[linkFamily{h.Link, r.Family()}]
		if !down && (q.OIF == "" || h.Link == q.OIF) {
			hops = append(hops, h)
		}
	}
	return hops, len(hops) > 0
}

// answer adds where a route's next hops lead. Several routes answer in two
// cases: an IPv6 multipath route was suppressed in part, or IPv4 has several
// defaults of one metric.
func (t *Trace) answer(r *Route, hops []Hop) {
	if t.Route == nil && len(hops) > 0 {
		t.Route = r
	}
	for _, h := range hops {
		end := Way{Type: r.Type, Table: r.Table, Link: h.Link, Via: h.Via,
			LastHop: r.Encap != ""}
		if r.Type == Local {
			end.Link, end.Via = "lo", netip.Addr{}
		}
		t.Ends = appendOnce(t.Ends, end)
	}
}

func (t Trace) finish() Trace {
	if t.Query.OIF != "" && t.Query.Dst.Is4() &&
		(len(t.Ends) == 0 || t.Ends[0].Type.Rejects()) {
		// "Apparently, routing tables are wrong. Assume, that the
		// destination is on link": ip_route_output_key_hash_rcu,
		// whatever error the lookup returned.
		t.Route, t.Ends = nil, []Way{{Type: Unicast, Link: t.Query.OIF}}
	}
	if len(t.Ends) == 0 {
		return t
	}
	t.Way = t.Ends[0]
	var more []string
	for i, end := range t.Ends[1:] {
		if !slices.ContainsFunc(t.Ends[:i+1], func(w Way) bool { return sameWay(w, end) }) {
			more = append(more, end.brief())
		}
	}
	t.Way.More = strings.Join(more, ", ")
	return t
}

// sameAnswer compares the ends of two lookups: types and next hops, but not
// tables.
func sameAnswer(a, b Trace) bool { return leadsTo(a, b.Ends) && leadsTo(b, a.Ends) }

// leadsTo reports whether a lookup may end in each of the ways.
func leadsTo(t Trace, ways []Way) bool {
	return !slices.ContainsFunc(ways, func(w Way) bool {
		return !slices.ContainsFunc(t.Ends, func(end Way) bool {
			return t.alike(w, end)
		})
	})
}

// alike reports whether two ways are the same for the packet that was looked
// up. A next hop that is the packet's destination is the same as on-link, and a
// link without neighbours does not use a next hop.
func (t Trace) alike(a, b Way) bool {
	for _, w := range []*Way{&a, &b} {
		if w.Via == t.Query.Dst || t.bare[w.Link] {
			w.Via = netip.Addr{}
		}
	}
	return sameWay(a, b)
}

// sameWay compares all but the table.
func sameWay(a, b Way) bool {
	a.Table = b.Table
	return a == b
}
