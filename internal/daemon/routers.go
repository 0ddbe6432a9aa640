package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"lasthop/routing"
	steer "lasthop/routing/flow/lasthop"
	"lasthop/routing/host"
)

// routers tells the programs of last-hop which routers are dead, while a path
// has that mode: a client that only receives would wait for a dead one forever.
// It belongs to the loop.
type routers struct {
	kernel  *host.Kernel
	control *steer.Control // nil: this daemon has no programs
	log     *slog.Logger
	agenda  agenda
	watch   steer.Watch
	dead    map[steer.Hop]steer.Hop // as was said last
	noted   string
}

// keep looks while a path has the mode last-hop, and comes back by the agenda.
func (r *routers) keep(now time.Time, l *look) error {
	if l == nil || r.control == nil || len(l.Decision.Plan.State.Filters) == 0 {
		return nil
	}
	next, err := r.look(now)
	r.agenda.by(doRouters, now.Add(next))
	return errors.Join(err, r.tidy())
}

// look looks once, and returns when to look again.
func (r *routers) look(now time.Time) (time.Duration, error) {
	// what is attached already may have been attached by an earlier process
	if _, _, _, err := r.control.Programs(); err != nil {
		return time.Second, err
	}
	maps, done, err := r.control.Maps()
	if err != nil {
		return time.Second, err
	}
	defer done()
	hops, err := maps.Hops()
	if err != nil || len(hops) == 0 {
		return time.Second, err
	}
	neighs, links, err := r.kernel.Neighs()
	if err != nil {
		return time.Second, err
	}
	found := r.watch.Step(steer.Sight{Now: now, Hops: hops, Neigh: neighs, Links: links})
	if err := maps.SetDead(found.Dead); err != nil {
		return time.Second, err
	}
	r.tell(found.Dead, links)
	var errs []error
	for _, n := range found.Probe {
		errs = append(errs, r.kernel.Probe(n))
	}
	return found.Next, errors.Join(errs...)
}

// tidy lets go of maps that no route or filter has any more, and says once what
// is to be said of those that have.
func (r *routers) tidy() error {
	if r.control == nil {
		return nil
	}
	if note := r.control.Note(); note != r.noted {
		r.noted = note
		if note != "" {
			r.log.Warn(note)
		}
	}
	return r.control.Attached()
}

// tell logs what has changed.
func (r *routers) tell(dead map[steer.Hop]steer.Hop, links []routing.Link) {
	name := func(h steer.Hop) string {
		i := slices.IndexFunc(links, func(l routing.Link) bool {
			return l.Index == int(h.Link)
		})
		if i < 0 {
			return fmt.Sprintf("if%d", h.Link)
		}
		return links[i].Name
	}
	for h, instead := range dead {
		if _, was := r.dead[h]; was {
			continue
		}
		if instead == (steer.Hop{}) {
			r.log.Warn("router does not answer, its connections take their table's "+
				"route", "router", h.Router, "link", name(h))
			continue
		}
		r.log.Warn("router does not answer, its connections take another",
			"router", h.Router, "link", name(h), "another", instead.Router)
	}
	for h := range r.dead {
		if _, is := dead[h]; !is {
			r.log.Info("router is back", "router", h.Router, "link", name(h))
		}
	}
	r.dead = dead
}
