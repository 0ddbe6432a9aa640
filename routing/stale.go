package routing

import "slices"

// staleTables finds tables of lasthop that are no longer a copy of main: routes
// by a path's own link come and go, and after a one-shot apply no daemon
// follows them.
func (e *examiner) staleTables() {
	want, have := byTable(e.plan.State.Routes), byTable(e.own.Routes)
	for _, p := range e.plan.Paths {
		key := tableID{p.Family, p.Table}
		def := Route{RouteKey: RouteKey{p.Table, p.Family.All(), metricOf(p.Family)},
			Hops: p.Hops}
		_, there := have[key][def.id()]
		if p.Table == 0 || !there {
			continue // its replies are lost, which is graver than a missing route
		}
		var news []string
		for k, r := range want[key] {
			if was, ok := have[key][k]; !ok || !sameRoute(was, r) {
				news = append(news, "to "+destination(k.Dst))
			}
		}
		for k := range have[key] {
			if _, ok := want[key][k]; !ok {
				news = append(news, "no longer to "+destination(k.Dst))
			}
		}
		if len(news) == 0 {
			continue
		}
		slices.Sort(news)
		e.find(Warning.Finding("stale-table", p.name(), "main's routes have changed "+
			"since the last apply copied them into table %d (%s): packets from the "+
			"path's addresses still take the old routes", p.Table, Some(news, 4)).
			Advise("lasthop apply (the daemon does it by itself)"))
	}
}

// byTable returns the routes of each table.
func byTable(routes []Route) map[tableID]map[routeID]Route {
	out := map[tableID]map[routeID]Route{}
	for _, r := range routes {
		key := tableID{r.Family(), r.Table}
		if out[key] == nil {
			out[key] = map[routeID]Route{}
		}
		out[key][r.id()] = r
	}
	return out
}
