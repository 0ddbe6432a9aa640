package routing

import (
	"net/netip"
	"slices"
)

// judge compares three lookups: as the host is now, with the layout, and with
// no rules but those of all paths. If the last two differ, a foreign rule
// shadows the path.
type judge struct {
	*draft
	whole, needed *layout // of all paths, and of those that are needed
	after, ideal  *FIB
	general       map[Family]map[uint32]bool // FIB.general
}

// judge decides which paths are needed: those without which some reply to some
// class of client would leave otherwise. Without the other paths the block may
// find another place, and so meet other rules. Then judge judges the needed
// paths again.
func (d *draft) judge() *judge {
	whole := layOut(d.topology, d.paths)
	j := &judge{draft: d, whole: whole, ideal: d.ideal(whole),
		general: map[Family]map[uint32]bool{IPv4: d.fib.general(IPv4),
			IPv6: d.fib.general(IPv6)}}
	j.assume(whole)
	for _, f := range whole.findings {
		if f.Code == "shadowed" || f.Code == "opaque-rule" {
			j.find(f)
		}
	}
	verdicts := map[*path]verdict{}
	for due := d.paths; ; {
		for _, p := range due {
			verdicts[p] = j.weigh(p)
		}
		needed := filter(due, func(p *path) bool { return verdicts[p].needed() })
		if len(needed) == len(due) {
			break
		}
		last := j.needed
		if j.assume(layOut(d.topology, needed)); j.needed.standsAs(last) {
			break
		}
		due = needed
	}
	for _, p := range d.paths {
		j.conclude(verdicts[p])
	}
	return j
}

// assume makes all further lookups with a layout.
func (j *judge) assume(l *layout) { j.needed, j.after = l, j.fib.with(j.host, l.state) }

// ideal returns the host with no rules but those of all paths.
func (d *draft) ideal(whole *layout) *FIB {
	clean := d.withRules(standardRules)
	wanted := whole.state
	if !whole.complete(d.paths) {
		wanted = layOut(clean, d.paths).state
	}
	return clean.fib.with(clean.host, wanted)
}

// weigh looks up the replies of a path to each class of client.
func (j *judge) weigh(p *path) verdict {
	v := verdict{path: p, isOutward: j.isOutward, sources: j.classes(p),
		clients: j.audienceOf(p.family).of(p.link)}
	for _, src := range v.sources {
		for _, c := range v.clients {
			if c.rule != nil && !c.rule.mayMatch(src) {
				continue // no foreign rule or route tells it apart
			}
			q := Query{Src: src, Dst: c.addr}
			before, after := j.fib.answer(q), j.after.answer(q)
			v.add(before, after, j.ideal.answer(q))
			if !sameAnswer(before, after) {
				v.moved = append(v.moved, moved{c, before, after})
			}
		}
	}
	return v
}

// classes returns one member of the path for each class of sources that match
// the same rules.
func (j *judge) classes(p *path) []netip.Addr {
	var out []netip.Addr
	for _, c := range p.covers {
		first := j.after.Classes(c.members)
		for _, addr := range c.members {
			if first[addr] == addr {
				out = append(out, addr)
			}
		}
	}
	return out
}

// verdict collects the results of the lookups for one path.
type verdict struct {
	path      *path
	sources   []netip.Addr
	clients   []standIn
	isOutward func(link string) bool
	wrong     bool   // some reply leaves otherwise than the path would have it
	better    bool   // the layout changes some reply
	answered  []Rule // foreign rules that give the right answer already
	shadows   []Rule // foreign rules that answer in front of lasthop's
	// foreign rules with selectors that answered, and that lasthop's rules
	// now stand in front of
	replaced []Rule
	// routes through links that are no uplinks, whose clients the path will
	// answer
	lost  []Route
	moved []moved // replies whose way the layout changes
}

func (v *verdict) add(before, after, ideal Trace) {
	rule := before.ended
	if !sameAnswer(before, ideal) {
		v.wrong = true
	} else if rule != nil && !standard(*rule) && before.Way.Link == v.path.link {
		v.answered = appendOnce(v.answered, *rule)
	}
	if !sameAnswer(before, after) {
		v.better = true
		if rule != nil && deliberate(*rule) {
			v.replaced = appendOnce(v.replaced, *rule)
		}
		if before.Way.Type == Unicast && !v.isOutward(before.Way.Link) &&
			v.isOutward(after.Way.Link) {
			v.lost = append(v.lost, *before.Route)
		}
	}
	if rule := culprit(after); rule != nil && !sameAnswer(after, ideal) {
		v.shadows = appendOnce(v.shadows, *rule)
	}
}

// needed reports whether lasthop installs the path: the path improves a wrong
// way.
func (v verdict) needed() bool { return v.wrong && v.better }

func (j *judge) conclude(v verdict) {
	p := v.path
	j.tellMarked(p, v.sources, v.clients)
	if !p.lastHop { // then each gets its own
		j.tellRouters(p, v.sources, v.clients)
	}
	for _, r := range v.shadows {
		if j.whole.base[p.family] == 0 || slices.Contains(j.whole.unfit, p) {
			break // the layout reports the reason once
		}
		why := "it has selectors, so lasthop leaves it in place"
		if r.byHand() {
			why = "lasthop's rules find no room in front of it"
		}
		j.find(Warning.Finding("shadowed", p.name(), "this rule answers in front of "+
			"lasthop's rules for replies of %s; %s", p.name(), why).
			Advise("if it is not meant for these replies, delete it: %s", r.deletion()).
			At(r.String()))
	}
	if p.needed = v.needed(); !p.needed {
		j.without(v)
		return
	}
	j.lostClients(p, v.lost)
	j.move(p, v.moved)
	for _, r := range v.replaced {
		j.find(Warning.Finding("overrides-rule", p.name(), "this rule routed replies of "+
			"%s until now; lasthop's rules will be in front of it", p.name()).
			Advise("if this rule must stay in charge: %s",
				Flag("return", p.link+"=off")).At(r.String()))
	}
}

// lostClients names routes through tunnels and the like whose clients the path
// will answer from now on: wide routes, which are a VPN's way to the Internet,
// and specific routes of tables behind lasthop's rules.
func (j *judge) lostClients(p *path, lost []Route) {
	taken := map[string]bool{} // named by link-group-taken
	for _, g := range Grouped(j.host, j.policy.Numbers) {
		taken[g.Link] = true
	}
	for _, r := range lost {
		if r.Table == TableMain && len(r.Hops) > 0 && taken[r.Hops[0].Link] {
			continue
		}
		f := Warning.Finding("overlay-moves", p.name(), "replies of %s to clients "+
			"behind this route used it until now; they will leave by the "+
			"path", p.name()).
			Advise("give a rule for their prefix a priority smaller than %d, "+
				"or move the route into main", j.whole.base[p.family])
		if isWide(r.Dst) || r.Dst == private {
			f = Info.Finding("wide-tunnel-route", p.name(), "replies of %s will "+
				"leave by the path and no longer by this wide route", p.name()).
				Advise("if clients come through it: --direct PREFIX")
		}
		j.find(f.At(r.String()))
	}
}

// without gives the listeners of a path that is not installed their status.
func (j *judge) without(v verdict) {
	for i := range j.rows {
		if j.rows[i].path != v.path {
			continue
		}
		r := &j.rows[i]
		switch {
		case slices.Contains(j.whole.unfit, v.path):
			r.Status, r.Reason = Unresolved, "opaque-rule"
		case !v.wrong && len(v.answered) > 0:
			r.Status, r.Reason = Unchanged, "already-routed"
		default: // unresolved where it is wrong for clients off-link: outcomes
			r.Status = Unchanged
		}
	}
	if v.wrong {
		return
	}
	for _, r := range v.answered {
		j.find(Info.Finding("already-routed", v.path.name(), "this rule already makes "+
			"replies of %s leave the right way, so lasthop installs nothing for them",
			v.path.name()).At(r.String()))
	}
}

// culprit returns the rule that kept a lookup from lasthop's block: a rule that
// answered, or a goto that leapt over the block.
func culprit(t Trace) *Rule {
	if t.ended != nil && !standard(*t.ended) {
		return t.ended
	}
	return t.jumped
}
