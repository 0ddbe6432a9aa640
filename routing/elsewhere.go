package routing

import (
	"fmt"
	"slices"
)

// elsewhere names links without a gateway of a family by which main answers the
// networks behind them, though requests from there may come in by a path. These
// are static routes of a link on which this host forwards, since this host may
// be the router of these networks; and LANs whose router the plan asks for
// anyway, because a listener there waits for it: then no-gateway has the
// remedy.
func (w *describer) elsewhere() {
	waits := map[linkFamily]bool{} // links on which a listener waits for its gateway
	for _, r := range w.rows {
		if r.Reason == "no-gateway" && r.Status == Unresolved {
			waits[linkFamily{r.Link, FamilyOf(r.Addr)}] = true
		}
	}
	for _, f := range Families {
		for _, link := range w.sorted {
			key := linkFamily{link.Name, f}
			if w.isUplink(link.Name, f) || !w.outside(link) {
				continue
			}
			router := w.leadsElsewhere(key) && w.forwards(key)
			if router && w.outwardIn(link.Name, f) {
				w.tellForwarding(key)
			} else if router || waits[key] {
				w.tellElsewhere(key, waits[key])
			}
		}
	}
}

// tellForwarding names a link that stays outward although forwarding has begun
// there.
func (w *describer) tellForwarding(key linkFamily) {
	if !slices.ContainsFunc(w.paths, func(p *path) bool {
		return p.needed && p.family == key.family
	}) {
		return
	}
	to := w.statics[key]
	w.find(Warning.Finding("static-elsewhere", key.link, "this host now forwards on %s, and "+
		"may be the router of the networks behind it (%s): replies to clients there "+
		"still leave by the paths", key.link, destinations(to)).
		Advise("if requests of these clients come in by a path: %s; if replies should "+
			"follow main: --direct %s", Flag("gateway", key.link+"=static"), to[0].Dst).
		At(to[0].String()))
}

// tellElsewhere names the paths whose replies leave by a link for the networks
// behind it: the installed paths, and all paths if the plan asks the user
// anyway.
func (w *describer) tellElsewhere(key linkFamily, asks bool) {
	var of []string
	var lans, statics []*Route
	for _, s := range w.audienceOf(key.family).rest {
		if s.route == nil || s.route.Table != TableMain || isWide(s.route.Dst) ||
			!s.route.uses(key.link) || s.route.Dst.Addr().IsLinkLocalUnicast() ||
			slices.ContainsFunc(w.policy.Direct, s.route.Dst.Overlaps) {
			continue
		}
		left := false
		for _, p := range w.paths {
			if p.family != key.family || p.link == key.link || !p.needed && !asks {
				continue
			}
			q := Query{Src: p.covers[0].members[0], Dst: s.addr}
			if w.after.Way(q).Link == key.link {
				of, left = appendOnce(of, p.name()), true
			}
		}
		switch {
		case !left:
		case s.route.Hops[0].Via.IsValid():
			statics = append(statics, s.route)
		default:
			lans = append(lans, s.route)
		}
	}
	what, all := "", slices.Concat(statics, lans)
	switch {
	case len(all) == 0 || !asks && len(statics) == 0:
		return
	case len(statics) == 0:
		what = fmt.Sprintf("to %s leave by %s on-link", destinations(lans), key.link)
	case len(lans) == 0:
		what = fmt.Sprintf("to %s leave by a next hop on %s", destinations(statics),
			key.link)
	default:
		what = fmt.Sprintf("to %s leave by a next hop on %s, and to its own hosts (%s) "+
			"on-link", destinations(statics), key.link, destinations(lans))
	}
	f := Warning.Finding("static-elsewhere", key.link, "replies of %s %s: this host forwards "+
		"there and may be their router", Some(of, 4), what).
		Advise("if requests of these clients come in by a path: %s; to keep main's way "+
			"for them, also without forwarding: --direct %s",
			Flag("gateway", key.link+"=static"), all[0].Dst)
	if asks { // no-gateway says what to do
		f = Info.Finding("static-elsewhere", key.link, "nothing to do: it ends when the "+
			"gateway of %s is named; until then, replies of %s %s", key.link,
			Some(of, 4), what)
	}
	w.find(f.At(all[0].String()))
}

// destinations prints what a few of the routes are for.
func destinations(routes []*Route) string {
	var out []string
	for _, r := range routes {
		out = append(out, r.Dst.String())
	}
	return Some(out, 3)
}
