package daemon

import (
	"slices"
	"time"

	"lasthop/routing"
)

// Another program deletes or changes what lasthop owns. The daemon puts it back
// immediately. If the program does it again and again, lasthop backs off: two
// programs that undo each other's work do more harm than one that is wrong.

const (
	patience = 5 // heals of one object in a row before it is a fight
	// there is no fight over an object that stays this long, or twice the
	// last wait
	calm = time.Second
	// between heals in a fight: while an object is missing replies are
	// lost, and one heal in this time does no harm
	longestWait = 10 * time.Second
)

// fights remembers what was put back, by its text. The zero value is ready.
type fights struct{ objects map[string]*fight }

type fight struct {
	op       routing.Op
	streak   int           // heals in a row
	restored time.Time     // when it was put back last
	wait     time.Duration // 0: no fight
	until    time.Time     // no heal before
}

// step is a heal that is not made now.
type step struct {
	fight
	fresh bool // a longer wait has just begun
}

// admit reports whether an object may be put back now, and if not, until when
// it waits.
func (f *fights) admit(op routing.Op, now time.Time) (step, bool) {
	if f.objects == nil {
		f.objects = map[string]*fight{}
	}
	key := op.String()
	o := f.objects[key]
	if o == nil {
		o = &fight{op: op}
		f.objects[key] = o
	}
	if now.Before(o.until) {
		return step{*o, false}, false
	}
	if now.Sub(o.restored) > max(calm, 2*o.wait) {
		*o = fight{op: op}
	}
	if o.streak < patience || !o.until.IsZero() && o.restored.Before(o.until) {
		o.streak++
		o.restored = now
		return step{}, true
	}
	wait := min(max(calm, 2*o.wait), longestWait)
	longer := wait > o.wait
	o.wait, o.until = wait, now.Add(wait)
	return step{*o, longer}, false
}

// pardon drops the routes and groups of links that have changed: the kernel
// flushes routes with their link, and a flapping link is no adversary.
func (f *fights) pardon(links []string) {
	for key, o := range f.objects {
		if r := o.op.Route; r != nil && slices.ContainsFunc(r.Hops,
			func(h routing.Hop) bool { return slices.Contains(links, h.Link) }) ||
			o.op.Group != nil && slices.Contains(links, o.op.Group.Link) ||
			o.op.Filter != nil && slices.Contains(links, o.op.Filter.Link) {
			delete(f.objects, key)
		}
	}
}

// forget drops objects that no program has touched for a while, so that the
// memory does not grow.
func (f *fights) forget(now time.Time) {
	for key, o := range f.objects {
		if now.Sub(o.restored) > max(time.Minute, 3*o.wait) && now.After(o.until) {
			delete(f.objects, key)
		}
	}
}

// heals returns the writes of a diff that put back what was there after the
// last sync and is wanted as it was then.
func heals(d routing.Diff, had routing.State) []routing.Op {
	rules := map[routing.Rule]bool{}
	for _, r := range had.Rules {
		rules[r] = true
	}
	routes := map[string]bool{}
	for _, r := range had.Routes {
		routes[r.String()] = true
	}
	var out []routing.Op
	for _, op := range d.Additions().Ops() {
		switch {
		case op.Rule != nil && rules[*op.Rule],
			op.Route != nil && routes[op.Route.String()],
			op.Group != nil && slices.Contains(had.Groups, *op.Group),
			op.Filter != nil && slices.Contains(had.Filters, *op.Filter),
			op.Wanted != nil && slices.Contains(had.Wanted, *op.Wanted):
			out = append(out, op)
		}
	}
	return out
}

// withhold returns a diff without some writes, and without deletes, since the
// replacements may be missing.
func withhold(d routing.Diff, steps []step) routing.Diff {
	if len(steps) == 0 {
		return d
	}
	held := map[string]bool{}
	for _, s := range steps {
		held[s.op.String()] = true
	}
	var out routing.Diff
	for _, op := range d.Additions().Ops() {
		switch {
		case held[op.String()]:
		case op.Append:
			out.AppendRoutes = append(out.AppendRoutes, *op.Route)
		case op.Route != nil:
			out.SetRoutes = append(out.SetRoutes, *op.Route)
		case op.Group != nil:
			out.SetGroups = append(out.SetGroups, *op.Group)
		case op.Filter != nil:
			out.SetFilters = append(out.SetFilters, *op.Filter)
		case op.Wanted != nil:
			out.AddWanted = append(out.AddWanted, *op.Wanted)
		default:
			out.AddRules = append(out.AddRules, *op.Rule)
		}
	}
	return out
}
