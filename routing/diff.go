package routing

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
)

// Op is one write to the kernel, or its taking back. Exactly one of Route, Rule
// and Group is set.
//
// Setting a route is RTM_NEWROUTE with CREATE|REPLACE, adding a rule is
// RTM_NEWRULE, setting a group is RTM_NEWLINK with IFLA_GROUP; Delete turns
// them into RTM_DELROUTE, RTM_DELRULE and group 0.
type Op struct {
	Delete bool
	Route  *Route
	Rule   *Rule
	Group  *LinkGroup
}

// Owned returns what is ours on the host: what agrees in protocol and in range,
// and the links in our group. It is sorted.
func Owned(h Host, n Numbers) State {
	var s State
	for _, r := range h.Routes {
		if n.OwnsRoute(r) {
			s.Routes = append(s.Routes, r)
		}
	}
	for _, r := range h.Rules {
		if n.OwnsRule(r) {
			s.Rules = append(s.Rules, r)
		}
	}
	for _, l := range h.Links {
		if l.Group == n.Group {
			s.Groups = append(s.Groups, LinkGroup{l.Name, l.Group})
		}
	}
	s.Sort()
	return s
}

// OwnsTable says whether the number is in our range of tables.
func (n Numbers) OwnsTable(table uint32) bool {
	return n.TableFirst <= table && table <= n.TableLast
}

// OwnsRoute says whether protocol and table are ours.
func (n Numbers) OwnsRoute(r Route) bool { return r.Protocol == n.Protocol && n.OwnsTable(r.Table) }

// OwnsRule says whether protocol, priority and table are ours. The block of
// rules may have stood anywhere up to Base.
func (n Numbers) OwnsRule(r Rule) bool {
	return r.Protocol == n.Protocol && 0 < r.Priority && r.Priority < n.Base+n.Block &&
		r.Action == ToTable && (r.Table == TableMain || n.OwnsTable(r.Table))
}

// Compare returns what turns have into want. Both are what we own, and nothing
// else; the result is empty if they are equal.
//
// A route whose key stays is replaced and never deleted: the kernel finds the
// route to delete by key alone, so deleting the old one after a replace would
// remove the new one.
func Compare(have, want State) Diff {
	var d Diff
	haveRoutes, wantRoutes := routesByKey(have.Routes), routesByKey(want.Routes)
	for _, r := range want.Routes {
		if old, ok := haveRoutes[r.RouteKey]; !ok || !sameRoute(old, r) {
			d.SetRoutes = append(d.SetRoutes, r)
		}
	}
	for _, r := range have.Routes {
		if _, ok := wantRoutes[r.RouteKey]; !ok {
			d.DelRoutes = append(d.DelRoutes, r)
		}
	}
	d.AddRules, d.DelRules = missing(want.Rules, have.Rules), missing(have.Rules, want.Rules)
	d.SetGroups = missing(want.Groups, have.Groups)
	for _, g := range have.Groups {
		if !slices.ContainsFunc(want.Groups,
			func(w LinkGroup) bool { return w.Link == g.Link }) {
			d.UnsetGroups = append(d.UnsetGroups, g)
		}
	}
	d.sort()
	return d
}

func routesByKey(routes []Route) map[RouteKey]Route {
	m := make(map[RouteKey]Route, len(routes))
	for _, r := range routes {
		if _, ok := m[r.RouteKey]; !ok {
			m[r.RouteKey] = r
		}
	}
	return m
}

// missing returns the elements of a that b lacks; a further copy of an element
// counts as one that b lacks.
func missing[T comparable](a, b []T) []T {
	left := make(map[T]int, len(b))
	for _, x := range b {
		left[x]++
	}
	var out []T
	for _, x := range a {
		if left[x]--; left[x] < 0 {
			out = append(out, x)
		}
	}
	return out
}

// sameRoute compares what we write of a route: volatile flags of next hops do
// not count.
func sameRoute(a, b Route) bool {
	return a.RouteKey == b.RouteKey && a.Type == b.Type && a.Scope == b.Scope &&
		a.Protocol == b.Protocol && a.Src == b.Src &&
		a.MTU == b.MTU && a.AdvMSS == b.AdvMSS && a.Pref == b.Pref &&
		a.Opaque == b.Opaque && slices.EqualFunc(a.Hops, b.Hops, sameHop)
}

func sameHop(a, b Hop) bool {
	a.Dead, a.LinkDown, b.Dead, b.LinkDown = false, false, false, false
	return a == b
}

// Sort puts a State into its canonical order: routes by table, destination and
// metric, rules by family and priority.
func (s State) Sort() {
	slices.SortStableFunc(s.Routes, compareRoute)
	slices.SortStableFunc(s.Rules, compareRule)
	slices.SortFunc(s.Groups, compareGroup)
}

// sort orders the writes. On-link routes come before those by a gateway, which
// the kernel may look up in the same table. Rules are deleted from the last to
// the first: exceptions come before the rule that they are exceptions from, and
// go after it.
func (d Diff) sort() {
	State{d.SetRoutes, d.AddRules, d.SetGroups}.Sort()
	slices.SortStableFunc(d.SetRoutes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table),
			cmp.Compare(byGateway(a), byGateway(b)))
	})
	State{d.DelRoutes, d.DelRules, d.UnsetGroups}.Sort()
	slices.Reverse(d.DelRules)
}

func byGateway(r Route) int {
	if len(r.Hops) > 0 && r.Hops[0].Via.IsValid() {
		return 1
	}
	return 0
}

func compareRoute(a, b Route) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Family(), b.Family()),
		comparePrefix(a.Dst, b.Dst), cmp.Compare(a.Metric, b.Metric))
}

func compareRule(a, b Rule) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority),
		comparePrefix(a.From, b.From), comparePrefix(a.To, b.To), cmp.Compare(a.OIF, b.OIF),
		cmp.Compare(a.Table, b.Table))
}

func compareGroup(a, b LinkGroup) int { return cmp.Compare(a.Link, b.Link) }

// Ops lists the writes of the diff in the order in which Execute makes them.
func (d Diff) Ops() []Op {
	var ops []Op
	for _, step := range d.steps() {
		ops = append(ops, step...)
	}
	return ops
}

// steps returns the six groups of writes: make, then break.
func (d Diff) steps() [6][]Op {
	return [6][]Op{
		opsOf(d.SetRoutes, func(r *Route) Op { return Op{Route: r} }),
		opsOf(d.SetGroups, func(g *LinkGroup) Op { return Op{Group: g} }),
		opsOf(d.AddRules, func(r *Rule) Op { return Op{Rule: r} }),
		opsOf(d.DelRules, func(r *Rule) Op { return Op{Rule: r, Delete: true} }),
		opsOf(d.DelRoutes, func(r *Route) Op { return Op{Route: r, Delete: true} }),
		opsOf(d.UnsetGroups, func(g *LinkGroup) Op { return Op{Group: g, Delete: true} }),
	}
}

func opsOf[T any](xs []T, op func(*T) Op) []Op {
	ops := make([]Op, len(xs))
	for i := range xs {
		ops[i] = op(&xs[i])
	}
	return ops
}

// Execute makes the writes of a diff by calling do for each, in an order in
// which every state between is safe: routes come before the rules that use them
// and go after them. It goes on after a failure, but makes no write that the
// failure makes unsafe, and returns the writes made and all errors joined; each
// error of do is wrapped once, with the write's text.
func Execute(d Diff, do func(Op) error) (done []Op, err error) {
	e := executor{do: do, failed: map[uint32]bool{}, bare: map[netip.Prefix]bool{}}
	for i, step := range d.steps() {
		for _, op := range step {
			e.try(i, op)
		}
	}
	return e.done, errors.Join(e.errs...)
}
