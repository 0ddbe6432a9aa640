package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	gomaps "maps"
	"slices"
	"time"

	"lasthop/internal/journal"
	"lasthop/internal/survey"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"
)

// routers tells the programs of last-hop which routers are dead, while a path
// has that mode: a client that only receives would wait for a dead one forever.
// It publishes what the programs do on the board. It belongs to the loop.
type routers struct {
	kernel     *host.Kernel
	control    *lasthop.Control // nil: this daemon has no programs
	log        *slog.Logger
	troubles   *troubles
	agenda     agenda
	board      *board
	reconciler *reconciler

	watch lasthop.Watch
	// as last reported, also by the daemon before this one
	dead  map[lasthop.Hop]lasthop.Hop
	noted string // of the maps, as last reported
	room  room
	front front
}

// due looks, while a path has the mode, and reports whether a published fact
// has changed.
func (r *routers) due(now time.Time) (changed bool) {
	before, f := r.troubles.messages(), r.findings()
	l := r.reconciler.last
	if l == nil || r.control == nil || len(l.Decision.Plan.State.Filters) == 0 {
		var err error
		if r.control != nil {
			err = r.tidy()
		}
		r.troubles.note(aboutRouters, err)
		r.room, r.front = room{}, front{}
		return r.board.steers(nil) || !slices.Equal(before, r.troubles.messages())
	}
	next, changed, err := r.look(l, now)
	r.troubles.note(aboutRouters, errors.Join(err, r.tidy()))
	r.agenda.by(doRouters, now.Add(next))
	return changed || !slices.Equal(before, r.troubles.messages()) ||
		!slices.Equal(f, r.findings())
}

// look looks once, and returns when to look again. changed reports that another
// router is dead than before.
func (r *routers) look(l *look, now time.Time) (in time.Duration, changed bool, _ error) {
	// an earlier process may have attached what is attached already
	if err := r.control.Load(); err != nil {
		return time.Second, false, err
	}
	maps, done, err := r.control.Maps()
	if err != nil {
		return time.Second, false, err
	}
	defer done()
	reading, err := maps.Read()
	if err != nil {
		return time.Second, false, err
	}
	neighs, links, err := r.kernel.Neighs()
	if err != nil {
		return time.Second, false, err
	}
	if r.dead == nil {
		if r.dead, err = maps.Dead(); err != nil {
			return time.Second, false, err
		}
		r.watch.Resume(r.dead, now)
	}
	found := r.watch.Step(lasthop.Sight{Now: now, Hops: reading.Hops, Neigh: neighs,
		Links: links})
	if err := maps.SetDead(found.Dead); err != nil {
		return time.Second, false, err
	}
	changed = !gomaps.Equal(r.dead, found.Dead)
	r.tell(found.Dead, links)
	var errs []error
	for _, n := range found.Probe {
		errs = append(errs, r.kernel.Probe(n))
	}
	r.front.look(reading, l.Decision.Plan.Findings, links)
	seen := survey.Hops{Time: now, Noted: reading.Hops, Dead: found.Dead, Neighs: neighs,
		Links: links}
	for _, p := range l.Decision.Plan.Paths {
		seen.Gateways = append(seen.Gateways, p.Gateways()...)
	}
	says := seen.Report()
	says.Counts = survey.HopCounts(reading.Counts)
	err = r.room.look(maps, says, l.Inputs.Policy.Connections())
	changed = r.board.steers(says) || changed
	return found.Next, changed, errors.Join(append(errs, err)...)
}

// findings are about what the programs do.
func (r *routers) findings() []routing.Finding {
	return slices.Concat(r.room.findings, r.front.findings)
}

// room watches how full the maps are. The zero value is ready.
type room struct {
	last     report.LastHop // of the last look
	at       time.Time      // when something was found last
	findings []routing.Finding
}

const (
	roomEvery = time.Minute
	roomKept  = 10 * time.Minute // a finding is reported for a time after it was true
)

// look reads the maps once a minute, and adds what is known to the status.
func (r *room) look(maps *lasthop.Maps, says *report.LastHop, flows int) (err error) {
	says.Fill = r.last.Fill
	if !r.last.Time.IsZero() && says.Time.Sub(r.last.Time) < roomEvery {
		return nil
	}
	if says.Fill, err = survey.HopFill(maps); err != nil {
		return err
	}
	r.judge(*says, flows)
	return nil
}

// judge compares a look with the one before.
func (r *room) judge(says report.LastHop, flows int) {
	f, found := survey.MapFull(r.last, says, flows)
	switch {
	case r.last.Time.IsZero(): // what happened before this daemon is not known
	case found:
		r.findings, r.at = []routing.Finding{f}, says.Time
	case says.Time.Sub(r.at) > roomKept:
		r.findings = nil
	}
	r.last = report.LastHop{Time: says.Time, Fill: says.Fill, Counts: says.Counts}
}

// front watches the links on which another program stands in front of
// lasthop's. The zero value is ready.
type front struct {
	last     lasthop.Reading
	findings []routing.Finding // each has a link as subject
}

// frontEvery is how long a link must be silent while replies go by the table.
const frontEvery = time.Minute

// look compares a reading with one of a minute before. A finding stays until
// the filter learns something by the link, or no program stands in front any
// more.
func (f *front) look(now lasthop.Reading, found []routing.Finding, links []routing.Link) {
	before := f.findings
	f.findings = nil
	due := !f.last.At.IsZero() && now.At.Sub(f.last.At) >= frontEvery
	for _, l := range links {
		if !slices.ContainsFunc(found, func(x routing.Finding) bool {
			return x.Code == "program-in-front" && x.Subject == l.Name
		}) {
			continue
		}
		i := slices.IndexFunc(before, func(x routing.Finding) bool {
			return x.Subject == l.Name
		})
		switch {
		case due && lasthop.Blind(f.last, now, uint32(l.Index)):
			f.findings = append(f.findings, routing.Warning.Finding(
				"program-in-front", l.Name, "another program in front of "+
					"lasthop's seems to keep the packets of %[1]s from it: "+
					"for a minute lasthop learned nothing there, and %[2]d "+
					"packets of listeners left by the gateway of their path",
				l.Name, now.Counts.ByTable-f.last.Counts.ByTable).
				Advise("let that program pass packets on (TC_ACT_UNSPEC, "+
					"TCX_NEXT), or remove it; to see it: bpftool net show "+
					"dev %s", l.Name))
		case i >= 0 && !now.Seen(uint32(l.Index), f.last.At):
			f.findings = append(f.findings, before[i])
		}
	}
	if due || f.last.At.IsZero() {
		f.last = now
	}
}

// tidy drops maps that no route or filter has any more, and logs once what
// there is to say of those that have.
func (r *routers) tidy() error {
	if note := r.control.Note(); note != r.noted {
		r.noted = note
		if note != "" {
			r.log.Warn(note)
		}
	}
	return r.control.Attached()
}

// tell logs what has changed.
func (r *routers) tell(dead map[lasthop.Hop]lasthop.Hop, links []routing.Link) {
	name := func(h lasthop.Hop) string {
		this := func(l routing.Link) bool { return l.Index == int(h.Link) }
		if i := slices.IndexFunc(links, this); i >= 0 {
			return links[i].Name
		}
		return fmt.Sprintf("if%d", h.Link)
	}
	for h, instead := range dead {
		if _, was := r.dead[h]; was {
			continue
		}
		if instead == (lasthop.Hop{}) {
			r.log.Warn("router does not answer, its connections take their table's "+
				"route", "router", h.Router, "link", name(h), journal.EventKey,
				journal.RouterDead)
			continue
		}
		r.log.Warn("router does not answer, its connections take another",
			"router", h.Router, "link", name(h), "another", instead.Router,
			journal.EventKey, journal.RouterDead)
	}
	for h := range r.dead {
		if _, is := dead[h]; !is {
			r.log.Info("router is back", "router", h.Router, "link", name(h),
				journal.EventKey, journal.RouterBack)
		}
	}
	r.dead = dead
}
