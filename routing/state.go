package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// LinkGroup says that a link is in a group.
type LinkGroup struct {
	Link  string
	Group int
}

// State is what lasthop owns, or wants to own, in the kernel. Sorted by Sort it
// is canonical.
type State struct {
	Routes []Route
	Rules  []Rule
	Groups []LinkGroup
	// of the mode last-hop
	Filters []Filter
	Wanted  []Wanted
}

// Empty reports whether the state holds nothing.
func (s State) Empty() bool {
	return len(s.Routes)+len(s.Rules)+len(s.Groups)+len(s.Filters)+len(s.Wanted) == 0
}

// Sort puts a State into its canonical order: routes by table, destination and
// metric, rules by family and priority.
func (s State) Sort() {
	slices.SortStableFunc(s.Routes, compareRoute)
	slices.SortStableFunc(s.Rules, compareRule)
	slices.SortFunc(s.Groups, compareGroup)
	slices.SortFunc(s.Filters, compareFilter)
	slices.SortFunc(s.Wanted, compareWanted)
}

func compareGroup(a, b LinkGroup) int { return cmp.Compare(a.Link, b.Link) }

// Union returns the state with what it lacks of more. Of routes with one key,
// of groups of one link and of filters in one place, it keeps those of s.
func (s State) Union(more State) State {
	lacks := Compare(more, s) // it deletes what s does not have
	out := State{slices.Concat(s.Routes, lacks.DelRoutes),
		slices.Concat(s.Rules, lacks.DelRules),
		slices.Concat(s.Groups, lacks.UnsetGroups),
		slices.Concat(s.Filters, lacks.DelFilters),
		slices.Concat(s.Wanted, lacks.DelWanted)}
	out.Sort()
	return out
}

// Serving returns the part of the state that serves the paths of a link and
// family: the tables whose default leaves by the link, and the rules whose
// prefixes lead to them, those in front included. It holds no groups, filters
// and listeners.
func (s State) Serving(link string, f Family) State {
	tables, from := map[uint32]bool{}, map[netip.Prefix]bool{}
	for _, r := range s.Routes {
		if r.isDefaultBy(link, f) {
			tables[r.Table] = true
		}
	}
	for _, r := range s.Rules {
		if r.Family == f && tables[r.Table] {
			from[r.From] = true
		}
	}
	return State{
		Routes: filter(s.Routes, func(r Route) bool {
			return r.Family() == f && tables[r.Table]
		}),
		Rules: filter(s.Rules, func(r Rule) bool { return r.Family == f && from[r.From] })}
}

// Owned returns what lasthop owns on the host, sorted: objects with lasthop's
// protocol in lasthop's ranges, links in lasthop's group, and filters with
// lasthop's name.
func Owned(h Host, n Numbers) State {
	s := State{Routes: filter(h.Routes, n.OwnsRoute), Rules: filter(h.Rules, n.OwnsRule),
		Filters: filter(h.Filters, Filter.Owned), Wanted: slices.Clone(h.Wanted)}
	theirs := Grouped(h, n)
	for _, l := range h.Links {
		g := LinkGroup{l.Name, l.Group}
		if l.Group == n.Group && !slices.Contains(theirs, g) {
			s.Groups = append(s.Groups, g)
		}
	}
	s.Sort()
	return s
}

// Grouped returns the links that are in lasthop's group and were in it before
// lasthop's first write: the host's record names them. Without a record it
// returns none; or all, if no rule is lasthop's and lasthop's tables are empty.
// In that case systemd-networkd fills the tables and the group from what `plan
// -o networkd` writes.
func Grouped(h Host, n Numbers) []LinkGroup {
	theirs := []LinkGroup{}
	if h.Grouped == nil && (slices.ContainsFunc(h.Rules, n.OwnsRule) ||
		slices.ContainsFunc(h.Routes, func(r Route) bool { return n.OwnsTable(r.Table) })) {
		return theirs
	}
	for _, l := range h.Links {
		g := LinkGroup{l.Name, l.Group}
		if l.Group == n.Group && (h.Grouped == nil || slices.Contains(h.Grouped, g)) {
			theirs = append(theirs, g)
		}
	}
	return theirs
}

// OwnsTable reports whether the number is in lasthop's range of tables.
func (n Numbers) OwnsTable(table uint32) bool {
	return n.TableFirst <= table && table <= n.TableLast
}

// OwnsRoute reports whether protocol and table are lasthop's.
func (n Numbers) OwnsRoute(r Route) bool { return r.Protocol == n.Protocol && n.OwnsTable(r.Table) }

// OwnsRule reports whether protocol, priority and table are lasthop's. The
// block of rules may have stood anywhere up to Base.
func (n Numbers) OwnsRule(r Rule) bool {
	return r.Protocol == n.Protocol && 0 < r.Priority && r.Priority < n.Base+n.Block
}

// Without returns the host as it would be without anything that lasthop owns.
func Without(h Host, n Numbers) Host {
	theirs := Grouped(h, n)
	h.Routes, h.Rules = without(h.Routes, n.OwnsRoute), without(h.Rules, n.OwnsRule)
	h.Filters = filter(h.Filters, func(f Filter) bool { return !f.Owned() })
	h.Wanted = nil
	h.Links = slices.Clone(h.Links)
	for i, l := range h.Links {
		if l.Group == n.Group && !slices.Contains(theirs, LinkGroup{l.Name, l.Group}) {
			h.Links[i].Group = 0
		}
	}
	h.Grouped = theirs
	return h
}

// With returns the host with a state added. The host must not hold parts of the
// state yet; use it after Without.
func With(h Host, s State) Host {
	h.Routes = slices.Concat(h.Routes, s.Routes)
	h.Rules = slices.Concat(h.Rules, s.Rules)
	h.Filters = slices.Concat(h.Filters, s.Filters)
	h.Wanted = slices.Concat(h.Wanted, s.Wanted)
	h.Links = slices.Clone(h.Links)
	for i := range h.Links {
		for _, g := range s.Groups {
			if g.Link == h.Links[i].Name {
				h.Links[i].Group = g.Group
			}
		}
	}
	return h
}

// Diff is the way from one State to another. The order of its fields is the
// order in which Execute carries it out.
type Diff struct {
	AddWanted  []Wanted
	SetFilters []Filter
	SetRoutes  []Route
	// IPv4 defaults that share their key with another one, in the
	// order in which the kernel should prefer them
	AppendRoutes []Route
	SetGroups    []LinkGroup
	AddRules     []Rule
	DelRules     []Rule
	DelRoutes    []Route
	UnsetGroups  []LinkGroup
	DelFilters   []Filter
	DelWanted    []Wanted
}

// Additions returns the writes that add and replace, without those that delete.
func (d Diff) Additions() Diff {
	return Diff{AddWanted: d.AddWanted, SetFilters: d.SetFilters, SetRoutes: d.SetRoutes,
		AppendRoutes: d.AppendRoutes, SetGroups: d.SetGroups, AddRules: d.AddRules}
}

// Empty reports whether there is nothing to do.
func (d Diff) Empty() bool { return len(d.Ops()) == 0 }

// Compare returns the changes that turn have into want. Both hold only what
// lasthop owns; the result is empty if they are equal.
//
// A route whose key stays is replaced and never deleted: the kernel finds the
// route to delete by its key alone, so deleting the old one after a replace
// would remove the new one. If several routes have one key, before or after, a
// replace would hit the first of them, whichever that is: such routes are
// appended, and deleted with their next hop.
func Compare(have, want State) Diff {
	var d Diff
	haveRoutes, wantRoutes := routesByKey(have.Routes), routesByKey(want.Routes)
	alone := func(k RouteKey) bool { return len(haveRoutes[k]) < 2 && len(wantRoutes[k]) < 2 }
	among := func(r Route, list []Route) bool {
		return slices.ContainsFunc(list, func(x Route) bool { return sameRoute(x, r) })
	}
	for _, r := range want.Routes {
		switch {
		case among(r, haveRoutes[r.RouteKey]):
		case alone(r.RouteKey):
			d.SetRoutes = append(d.SetRoutes, r)
		default:
			d.AppendRoutes = append(d.AppendRoutes, r)
		}
	}
	d.DelRoutes = filter(have.Routes, func(r Route) bool {
		if alone(r.RouteKey) {
			return len(wantRoutes[r.RouteKey]) == 0
		}
		return !among(r, wantRoutes[r.RouteKey])
	})
	d.AddRules, d.DelRules = missing(want.Rules, have.Rules), missing(have.Rules, want.Rules)
	d.SetGroups = missing(want.Groups, have.Groups)
	d.UnsetGroups = filter(have.Groups, func(g LinkGroup) bool {
		return !slices.ContainsFunc(want.Groups, func(w LinkGroup) bool {
			return w.Link == g.Link
		})
	})
	d.SetFilters = missing(want.Filters, have.Filters)
	d.DelFilters = filter(have.Filters, func(f Filter) bool {
		return !slices.ContainsFunc(want.Filters, func(w Filter) bool {
			return w.place() == f.place()
		})
	})
	d.AddWanted = missing(want.Wanted, have.Wanted)
	d.DelWanted = missing(have.Wanted, want.Wanted)
	d.sort()
	return d
}

func routesByKey(routes []Route) map[RouteKey][]Route {
	m := make(map[RouteKey][]Route, len(routes))
	for _, r := range routes {
		m[r.RouteKey] = append(m[r.RouteKey], r)
	}
	return m
}

// missing returns the elements of a that b lacks. If a has more copies of an
// element than b, the further copies are missing.
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

// sort orders the writes. On-link routes come before those by a gateway,
// because the kernel may look up the gateway in the same table. Rules are
// deleted from the last to the first: exceptions come before the rule that they
// are exceptions from, and go after it.
func (d Diff) sort() {
	State{d.SetRoutes, d.AddRules, d.SetGroups, d.SetFilters, d.AddWanted}.Sort()
	slices.SortStableFunc(d.SetRoutes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table),
			cmp.Compare(byGateway(a), byGateway(b)))
	})
	State{d.DelRoutes, d.DelRules, d.UnsetGroups, d.DelFilters, d.DelWanted}.Sort()
	slices.Reverse(d.DelRules)
}

func byGateway(r Route) int {
	if len(r.Hops) > 0 && r.Hops[0].Via.IsValid() {
		return 1
	}
	return 0
}
