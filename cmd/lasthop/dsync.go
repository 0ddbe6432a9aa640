package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"lasthop/internal/writer"
	"lasthop/nginxconf"
	"lasthop/routing"
)

// A sync of the daemon: read, decide, compare, write, read back.

// view looks at the host and at what NGINX listens on. With asIfLoaded the
// disk's configurations count as loaded, and where no event has come since the
// last sync the host is taken to be as it was then: the plan is only made
// ready, and must be so before NGINX is.
func (d *daemon) view(asIfLoaded bool) (*view, error) {
	v := &view{taken: time.Now(), policy: d.settings.policy, settings: d.settings}
	var err error
	if asIfLoaded && d.unmoved {
		v.host = d.last.host
	} else if v.host, err = d.kernel.Read(); err != nil {
		return nil, err
	}
	for _, i := range d.instances {
		i.add(v, asIfLoaded)
	}
	if err := v.addListens(d.settings.listens); err != nil {
		return nil, err
	}
	if !d.last.decidesFor(v) {
		return v, v.decide()
	}
	v.plan = d.last.plan
	v.diff = routing.Compare(v.owned, v.plan.State)
	return v, nil
}

// decidesFor says whether the plan of v is also that of w: it depends on the
// listeners, on the policy, on the host, and of what is ours on nothing if that
// is as the plan wants it.
func (v *view) decidesFor(w *view) bool {
	w.owned = routing.Owned(w.host, w.policy.Numbers)
	w.foreign = routing.Without(w.host, w.policy.Numbers)
	return v != nil && (reflect.DeepEqual(v.owned, w.owned) ||
		routing.Compare(w.owned, v.plan.State).Empty()) &&
		reflect.DeepEqual(v.policy, w.policy) &&
		reflect.DeepEqual(v.listeners, w.listeners) &&
		reflect.DeepEqual(v.binds, w.binds) &&
		reflect.DeepEqual(v.warnings, w.warnings) && reflect.DeepEqual(v.foreign, w.foreign)
}

// sync makes the kernel as the plan wants it, and says whether it is.
func (d *daemon) sync() bool {
	d.counts.Syncs++
	err := d.syncOnce(time.Now())
	d.causes, d.deleted, d.unmoved = nil, map[string]bool{}, err == nil
	if err != nil {
		d.counts.Errors++
		d.trouble("sync", err)
		d.agenda[doRetry] = time.Now().Add(min(retryFirst<<min(d.failures, 10), retryLast))
		d.failures++
		d.repair(err)
	} else {
		d.fine("sync")
		d.failures = 0
		delete(d.agenda, doRetry)
	}
	d.noteLeaving(time.Now())
	d.agenda[doTrim] = time.Now().Add(trimAfter)
	d.publish()
	return err == nil
}

// audit compares what is ours with the kernel every minute: what it drops with
// a link or an address, no event tells. Every five minutes it looks at
// everything, or less often where that would take more than a thousandth of a
// processor.
func (d *daemon) audit(now time.Time) {
	d.agenda.by(doAudit, now.Add(jitter(auditEvery)))
	if now.Before(d.wholeAudit) && len(d.troubles) == 0 {
		if owned, err := d.kernel.ReadOwned(d.settings.policy.Numbers); err == nil &&
			routing.Compare(owned, d.installed()).Empty() {
			d.counts.Syncs++
			return
		}
	}
	d.sync()
	d.wholeAudit = time.Now().Add(max(wholeAuditEvery, 1000*time.Since(now)))
}

// repair opens the sockets anew, should they be what is broken: an error does
// not always tell.
func (d *daemon) repair(err error) {
	if policy, conf := new(routing.PolicyError),
		new(nginxconf.Error); errors.As(err, &policy) || errors.As(err, &conf) {
		return
	}
	if err := d.kernel.Reopen(); err != nil {
		d.trouble("netlink", err)
		return
	}
	d.fine("netlink")
}

// rounds bounds how often a sync starts over because somebody else was writing
// too.
const rounds = 3

func (d *daemon) syncOnce(now time.Time) error {
	for round := 1; ; round++ {
		v, err := d.view(false)
		if err != nil {
			return err
		}
		d.keepUnneeded(v, now)
		if d.unsure() {
			// what an earlier daemon has installed may be what
			// NGINX listens on
			v.diff = withoutDeletes(v.diff)
		}
		if done, err := d.settle(v, now); done || err != nil {
			return err
		}
		if round == rounds {
			return errors.New("somebody else changes rules or routes all the time: " +
				"what was written is not what is there")
		}
	}
}

// settle carries out the plan, and says whether there was nothing to do. What
// was just written is looked at again by the next round.
func (d *daemon) settle(v *view, now time.Time) (bool, error) {
	if len(v.listeners) == 0 && len(v.owned.Rules) > 0 {
		d.last = v
		return true, hint(errors.New("no listener is known: what is installed stays"),
			"if NGINX listens nowhere any more: systemctl stop "+
				"lasthop, then lasthop clear")
	}
	diff := d.admit(v.diff, now)
	d.last = v
	if diff.Empty() {
		// Also what is held back: it will be a heal then, too.
		if _, err := d.writer.Write(writer.Change{After: v.plan.State}); err != nil {
			return false, err
		}
		if err := d.writer.NameTables(v.named()); err != nil {
			d.trouble("names of tables", err)
		} else {
			d.fine("names of tables")
		}
		d.sayQuiet(v)
		return true, nil
	}
	return false, d.write(v, diff)
}

// write makes changes, and tells of each.
func (d *daemon) write(v *view, diff routing.Diff) error {
	c := v.change("run", false)
	c.Diff, c.By, c.Cause = diff, "", d.cause()
	c.Heals, c.Suspect = map[string]bool{}, d.suspect
	for _, op := range heals(diff, d.installed()) {
		c.Heals[op.String()] = op.Rule != nil && d.deleted[op.Rule.String()] ||
			op.Route != nil && d.deleted[op.Route.String()]
	}
	_, err := d.writer.Write(c)
	return err
}

// installed is what the last sync left in the kernel.
func (d *daemon) installed() routing.State { return d.writer.Memory().Installed }

// suspect names the programs that may delete what is ours.
func (d *daemon) suspect() string {
	d.who = suspect("/proc", d.app.netnsPath())
	return d.who
}

// admit takes out of a diff what is not to be put back yet.
func (d *daemon) admit(diff routing.Diff, now time.Time) routing.Diff {
	var held []step
	delete(d.agenda, doHeal)
	for _, op := range heals(diff, d.installed()) {
		s, ok := d.fights.admit(op, now)
		if ok {
			continue
		}
		held = append(held, s)
		d.agenda.by(doHeal, s.until)
	}
	d.fights.forget(now)
	d.tellFight(held)
	return withhold(diff, held)
}

// tellFight says once for each step of a fight that it is backed off.
func (d *daemon) tellFight(held []step) {
	i := slices.IndexFunc(held, func(s step) bool { return s.fresh })
	if i >= 0 {
		d.counts.Fights++
		d.log.Warn("deleted again and again by someone else, backing off",
			"op", held[i].op.String(), "objects", len(held), "wait", held[i].wait,
			"suspect", d.suspect())
	}
	if len(held) == 0 {
		d.backsOff = ""
		return
	}
	d.backsOff = fmt.Sprintf("someone else deletes %s again and again: it is put back every %v",
		held[0].op, held[0].wait)
}

// sayQuiet says once where nothing is needed.
func (d *daemon) sayQuiet(v *view) {
	nothing := len(v.plan.State.Rules) == 0
	if nothing && !d.quietly && len(v.listeners) > 0 {
		d.log.Info("nothing to do: no listener needs a way of its own",
			"listeners", len(v.plan.Outcomes))
	}
	d.quietly = nothing
}

// writeReady carries out what adds and replaces of a plan that is ready. The
// sync that follows does the rest, and tells what went wrong.
func (d *daemon) writeReady(v *view) {
	if diff := withoutDeletes(v.diff); len(v.listeners) > 0 && !diff.Empty() {
		d.write(v, diff)
	}
}

// prepare makes the plan for what is on disk ready for the moment when NGINX
// loads it.
func (d *daemon) prepare() {
	d.ready = nil
	pending := slices.ContainsFunc(d.instances, func(i *instance) bool {
		return i.broken == nil && len(i.masters) > 0 &&
			!slices.Equal(i.disk.Sums, i.loaded.Sums)
	})
	if !pending || d.hosts.Waiting() {
		return
	}
	v, err := d.view(true)
	if err != nil {
		return // sync will say it
	}
	d.ready = v
}

// takeReady returns the plan that is ready, if it is one for the load of just
// this instance, and still true.
func (d *daemon) takeReady(i *instance) *view {
	v := d.ready
	d.ready = nil
	if v == nil || i.broken != nil || !i.disk.Unchanged() {
		return nil
	}
	for _, o := range d.instances {
		if o != i && !slices.Equal(o.disk.Sums, o.loaded.Sums) {
			return nil
		}
	}
	return v
}

// unneeded is a path that main, or somebody's rule, makes needless.
type unneeded struct {
	link   string
	family routing.Family
}

// keepUnneeded keeps what serves a path that is needless since less than a
// minute.
func (d *daemon) keepUnneeded(v *view, now time.Time) {
	keep, still := routing.State{}, map[unneeded]time.Time{}
	for _, p := range v.plan.Paths {
		key := unneeded{p.Link, p.Family}
		part := serving(v.owned, key)
		if len(p.Prefixes) > 0 || len(part.Rules) == 0 {
			continue
		}
		since, ok := d.unneeded[key]
		if !ok {
			since = now
		}
		still[key] = since
		if end := since.Add(forgetAfter); now.Before(end) {
			d.agenda.by(doForget, end)
			keep.Routes, keep.Rules, keep.Groups = append(keep.Routes, part.Routes...),
				append(keep.Rules, part.Rules...), v.owned.Groups
		}
	}
	d.unneeded = still
	if len(keep.Rules) > 0 {
		v.diff = routing.Compare(v.owned, union(v.plan.State, keep))
	}
}

// serving returns what is ours for a path: the table whose default leaves by
// the link, the rules to it, and those in front of them.
func serving(owned routing.State, key unneeded) routing.State {
	var out routing.State
	tables, from := map[uint32]bool{}, map[string]bool{}
	for _, r := range owned.Routes {
		if r.Family() == key.family && r.IsDefault() && len(r.Hops) > 0 &&
			r.Hops[0].Link == key.link {
			tables[r.Table] = true
		}
	}
	for _, r := range owned.Routes {
		if r.Family() == key.family && tables[r.Table] {
			out.Routes = append(out.Routes, r)
		}
	}
	for _, r := range owned.Rules {
		if r.Family == key.family && tables[r.Table] {
			from[r.From.String()] = true
		}
	}
	for _, r := range owned.Rules {
		if r.Family == key.family && from[r.From.String()] {
			out.Rules = append(out.Rules, r)
		}
	}
	return out
}

// union adds to a state what it lacks.
func union(a, b routing.State) routing.State {
	keys := map[routing.RouteKey]bool{}
	for _, r := range a.Routes {
		keys[r.RouteKey] = true
	}
	out := routing.State{Routes: slices.Clone(a.Routes), Rules: slices.Clone(a.Rules),
		Groups: slices.Clone(a.Groups)}
	for _, r := range b.Routes {
		if !keys[r.RouteKey] {
			out.Routes = append(out.Routes, r)
		}
	}
	for _, r := range b.Rules {
		if !slices.Contains(a.Rules, r) {
			out.Rules = append(out.Rules, r)
		}
	}
	for _, g := range b.Groups {
		if !slices.ContainsFunc(a.Groups,
			func(x routing.LinkGroup) bool { return x.Link == g.Link }) {
			out.Groups = append(out.Groups, g)
		}
	}
	out.Sort()
	return out
}
