package routing

import (
	"net/netip"
	"slices"
)

// This file says what is in the table of a path: section 4 of
// docs/architecture.md.

// layTable writes a path's table. It holds what main, and the tables to which
// other programs have moved main's routes, know of the link itself; the LANs of
// other outward links; and the default. If main has a reject route as wide as a
// default, it also holds main's specific routes through links that are not
// outward: see FIB.rejects.
func (l *layout) layTable(p *path) {
	t := tableOfPath{layout: l, path: p, seen: map[routeID]bool{},
		known: map[netip.Prefix]bool{}, mtu: returning{l.topology}.smallestMTU(p),
		onLink: slices.Clone(l.connected[linkFamily{p.link, p.family}])}
	for _, r := range l.host.Routes {
		if r.Table == TableMain && r.Family() == p.family && r.connects(p.link) &&
			!r.IsDefault() {
			t.onLink = append(t.onLink, r.Dst)
		}
	}
	t.defaults()
	var moved, rest []Route
	tables := t.movedTo()
	home := filter(tables, t.atHome)
	for _, r := range l.host.Routes {
		if r.Family() != p.family || r.IsDefault() || l.isHost(r.Dst) {
			continue // to the host itself: the local table answers
		}
		t.known[r.Dst] = t.known[r.Dst] || r.Table == TableMain
		c, own := Route{}, false
		if r.Table == TableMain || slices.Contains(tables, r.Table) &&
			(r.connects(p.link) || slices.Contains(home, r.Table)) {
			c, own = l.ownRoute(r, p)
		}
		switch {
		case own && r.Table == TableMain:
			t.add(c)
		case own:
			moved = append(moved, c)
		case slices.Contains(l.exempt[p], destined{r.Dst, p.table}) &&
			r.Table == TableMain:
		case r.Table == TableMain && (l.near(r) || l.rejected[p.family] && t.specific(r)):
			rest = append(rest, copyRoute(r, r.Hops))
		case r.Table == TableMain && t.nested(r):
			rest = append(rest, p.byGateway(r.RouteKey))
		}
	}
	for _, r := range slices.Concat(moved, rest, t.subnetsWithin()) {
		t.add(r)
	}
}

// isHost reports whether a prefix is one address of this host.
func (l *layout) isHost(p netip.Prefix) bool {
	return p.IsSingleIP() && len(l.assigned[p.Addr()]) > 0
}

// subnetsWithin returns the ways to the subnets of other links that are nested
// in the path's own subnet. Main may lack them.
func (t tableOfPath) subnetsWithin() []Route {
	var out []Route
	for _, link := range t.sorted {
		for _, c := range t.connected[linkFamily{link.Name, t.path.family}] {
			if t.known[c] {
				continue
			}
			r := Route{RouteKey: RouteKey{Dst: c}, Type: Unicast,
				Hops: []Hop{{Link: link.Name, Weight: 1}}}
			if t.path.family == IPv6 {
				r.Metric = 256 // as the kernel gives connected routes
			}
			if t.nested(r) {
				out = append(out, t.path.byGateway(r.RouteKey))
			}
		}
	}
	return out
}

// movedTo returns the foreign tables that hold what main would know of a path's
// link: the one that names its gateway, and those that have a connected route
// of the link which main lacks. Network managers move these routes
// (NetworkManager's route-table, networkd's RouteTable), and the link's static
// routes with them. Tables for marked packets and tables of VRFs are not meant
// for replies.
func (t tableOfPath) movedTo() []uint32 {
	var tables []uint32
	if t.path.named != 0 {
		tables = append(tables, t.path.named)
	}
	missing := map[netip.Prefix]bool{}
	for _, prefix := range t.connected[linkFamily{t.path.link, t.path.family}] {
		missing[prefix] = true
	}
	for _, r := range t.host.Routes {
		if r.Table == TableMain && r.connects(t.path.link) {
			delete(missing, r.Dst)
		}
	}
	for _, r := range t.host.Routes {
		if len(missing) > 0 && r.Table != TableMain && r.connects(t.path.link) &&
			missing[r.Dst] && !t.apart(r.Table) {
			tables = appendOnce(tables, r.Table)
		}
	}
	return tables
}

// atHome reports whether the static routes of a table to which another program
// has moved the link's routes are for the path's own subnet. Those of another
// subnet are for replies of that subnet, and use its routers.
func (t tableOfPath) atHome(table uint32) bool {
	p := t.path
	return table == p.named || !p.home.IsValid() ||
		slices.ContainsFunc(t.host.Routes, func(r Route) bool {
			return r.Table == table && r.Dst == p.home && r.connects(p.link)
		})
}

// connects reports whether a route makes its destination on-link on a link
// alone.
func (r Route) connects(link string) bool {
	return r.Type == Unicast && len(r.Hops) == 1 && r.Hops[0].Link == link &&
		!r.Hops[0].Via.IsValid()
}

// apart reports whether a table is for marked packets or a VRF.
func (t tableOfPath) apart(table uint32) bool {
	return slices.ContainsFunc(t.host.Rules, func(r Rule) bool {
		return r.Table == table && r.Mask != 0 && !r.Not
	}) || slices.ContainsFunc(t.sorted, func(x Link) bool { return x.Table == table })
}

// nested reports whether a route of main leads to a part of the path's own
// subnet by another outward link. The hosts of that part are not on-link here;
// their requests come in by the gateway.
func (t tableOfPath) nested(r Route) bool {
	via := t.path.hops[0].Via
	return !r.uses(t.path.link) && r.Type == Unicast && !r.steers() && via.IsValid() &&
		r.Dst != netip.PrefixFrom(via, via.BitLen()) &&
		slices.ContainsFunc(t.onLink, func(c netip.Prefix) bool {
			return c.Bits() < r.Dst.Bits() && c.Contains(r.Dst.Addr())
		}) &&
		!slices.ContainsFunc(r.Hops, func(h Hop) bool { return !t.isOutward(h.Link) })
}

// specific reports whether a route of main is one that the live rule would
// take, if the path had a live rule.
func (t tableOfPath) specific(r Route) bool {
	return !isWide(r.Dst) && !r.steers() &&
		!slices.ContainsFunc(r.Hops, func(h Hop) bool { return t.isOutward(h.Link) })
}

// tableOfPath is the table of a path in the making.
type tableOfPath struct {
	*layout
	path  *path
	seen  map[routeID]bool
	known map[netip.Prefix]bool // destinations of main
	// what the table has on-link by the path's own link
	onLink []netip.Prefix
	// of all links that an answer may take, with last-hop
	mtu uint32
}

// add puts a route into the table, and before it the way to its gateway if the
// kernel requires one.
func (t tableOfPath) add(r Route) {
	r.Table, r.Protocol, r.Src = t.path.table, t.policy.Numbers.Protocol, netip.Addr{}
	if t.path.lastHop && r.Type == Unicast && !t.direct(r) {
		r = t.answering(r)
	}
	for i, h := range r.Hops {
		if t.elsewhere(h) {
			r.Hops[i].OnLink = false
			t.add(hostRoute(h))
		}
	}
	if id := r.id(); !t.seen[id] {
		t.seen[id] = true
		t.state.Routes = append(t.state.Routes, r)
	}
}

func (t tableOfPath) defaults() {
	p := t.path
	def := p.byGateway(RouteKey{Dst: p.family.All(), Metric: metricOf(p.family)})
	if !def.Hops[0].Via.IsValid() && p.family == IPv4 {
		def.Scope = ScopeLink
	}
	t.add(def)
	for i, h := range p.standby {
		def.Hops = []Hop{h}
		// if a dead router shares its metric with another one, IPv4
		// moves on to the other; in IPv6 the two would become one
		// multipath route
		if p.family == IPv6 {
			def.Metric = metricOf(p.family) + uint32(i) + 1
		}
		t.add(def)
	}
	if t.policy.failClosed(p.link) {
		t.add(Route{RouteKey: RouteKey{Dst: p.family.All(), Metric: failClosedMetric},
			Type: Unreachable})
	}
	t.candidates()
}

// near reports whether a route of main leads to a LAN whose hosts are answered
// there, although its link is outward: the link is outward only by static next
// hops, or only in the other family. Then no route of this family leads
// elsewhere by it.
func (l *layout) near(r Route) bool {
	if r.Type != Unicast || r.steers() || r.Dst.Addr().IsLinkLocalUnicast() {
		return false
	}
	return !slices.ContainsFunc(r.Hops, func(h Hop) bool {
		return !l.isOutward(h.Link) || l.isUplink(h.Link, r.Family()) ||
			h.Via.IsValid() && l.outwardIn(h.Link, r.Family())
	})
}

// elsewhere reports whether main knows an IPv6 gateway behind another link. The
// kernel then refuses the gateway with `onlink` (ip6_route_check_nh_onlink
// looks into main alone), but takes it without `onlink` if the table itself
// holds an on-link route to it.
func (l *layout) elsewhere(h Hop) bool {
	if !h.Via.Is6() || h.Via.IsLinkLocalUnicast() {
		return false
	}
	route, _ := l.fib.search(TableMain, Query{Dst: h.Via})
	if route == nil || route.IsDefault() || route.Type.Rejects() {
		return false
	}
	same := l.fib.tables[tableID{IPv6, TableMain}].routes[route.Dst]
	return !slices.ContainsFunc(same, func(r Route) bool {
		return r.Metric == route.Metric && r.uses(h.Link)
	})
}

// hostRoute is the on-link route to a gateway.
func hostRoute(h Hop) Route {
	return Route{RouteKey: RouteKey{Dst: netip.PrefixFrom(h.Via, h.Via.BitLen()),
		Metric: metricOf(FamilyOf(h.Via))},
		Type: Unicast, Hops: []Hop{{Link: h.Link, Weight: 1}}}
}

// ownRoute returns the copy of a route of main that belongs to the path's link.
func (l *layout) ownRoute(r Route, p *path) (Route, bool) {
	on := func(h Hop) bool { return h.Link == p.link || p.anywhere && l.isOutward(h.Link) }
	if r.Type != Unicast || !slices.ContainsFunc(r.Hops, on) {
		return Route{}, false
	}
	if r.steers() {
		l.find(Warning.Finding("opaque-route", p.link, "the route to %s has %s, which "+
			"lasthop cannot copy, so the table of %s lacks the route: replies to "+
			"that prefix leave by the gateway", r.Dst,
			r.Opaque, p.link).Advise("keep main's way for it: --direct %s", r.Dst).
			At(r.String()))
		return Route{}, false
	}
	if r.connects(p.link) && r.Dst != p.home && !p.anywhere &&
		slices.Contains(l.routed[linkFamily{p.link, p.family}], r.Dst) {
		return p.byGateway(r.RouteKey), true // its hosts use their router
	}
	if _, rest := SplitMetrics(r.Opaque); rest != "" {
		l.find(Warning.Finding("opaque-route", p.link, "lasthop copies the route to %s "+
			"into the table of %s without %s", r.Dst, p.link, rest).
			Advise("keep main's way for it: --direct %s", r.Dst).At(r.String()))
	}
	return copyRoute(r, filter(r.Hops, on)), true
}

// copyRoute drops what is volatile or wrong in another table: flags, prefsrc,
// router preference.
func copyRoute(r Route, hops []Hop) Route {
	return Route{RouteKey: r.RouteKey, Type: r.Type, Scope: r.Scope,
		Hops: written(hops)}.with(r.metrics())
}

// byGateway returns a route by the path's gateway.
func (p *path) byGateway(k RouteKey) Route {
	return Route{RouteKey: k, Type: Unicast, Hops: slices.Clone(p.hops)}.with(p.metrics)
}
