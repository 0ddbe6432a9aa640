package watcher

import (
	"cmp"
	"slices"
	"time"
)

// Process names a process for good: its id may become another's, its id and
// start time together cannot.
type Process struct {
	PID     int
	Started uint64 // clock ticks since boot, of 10 ms: field 22 of /proc/PID/stat
}

// Time is when the process was started. A clock that was set since moves it.
func (p Process) Time() time.Time {
	return time.Now().Add(-time.Duration(int64(ticks())-int64(p.Started)) * tick)
}

// NGINX forks all processes of a load one after the other, then sleeps 100 ms,
// and only then tells the old ones to quit (ngx_master_process_cycle). So less
// than burst ticks lie between two forks of one load, and more between two
// loads; and who looks within that time after a fork still sees every old
// worker, unless one has crashed.
const burst = 9

// vacancy is how many ticks a place stays open after a process has ended: NGINX
// fills it at once.
const vacancy = 20

// generation tells loads of a configuration from everything else that makes a
// master fork, by the children that it has. It needs no event to be right, so
// that one that was lost does no harm.
type generation struct {
	workers []Process // forked for the configuration that is loaded, and their successors
	old     []Process // of earlier loads, alive
	last    uint64    // when the last of workers was forked for a load
	vacant  []uint64  // when workers ended whose places are not filled again
}

// verdict says what a look at the children has shown.
type verdict struct {
	loads   int  // configurations that were loaded since the last look
	drained bool // an old worker has ended
	held    bool // a child was born that is no load, since the master keeps its configuration
}

// begin takes the children that are there as they are; old are those that are
// shutting down already. NGINX does not sleep after its start, so that the next
// fork may be a load's, however soon it comes.
func (g *generation) begin(children, old []Process) {
	*g = generation{old: old}
	for _, c := range children {
		if !slices.Contains(old, c) {
			g.workers = append(g.workers, c)
		}
	}
}

// observe compares the children at the time now, in ticks, with those seen
// before. holds is asked where there are new ones: whether the master keeps the
// configuration that it has (it is being replaced by a new binary), so that its
// forks are no loads.
func (g *generation) observe(now uint64, children []Process, holds func() bool) verdict {
	var v verdict
	alive := func(p Process) bool { return slices.Contains(children, p) }
	for _, p := range g.workers {
		if !alive(p) {
			g.vacant = append(g.vacant, now)
		}
	}
	g.workers = slices.DeleteFunc(g.workers, func(p Process) bool { return !alive(p) })
	before := len(g.old)
	g.old = slices.DeleteFunc(g.old, func(p Process) bool { return !alive(p) })
	v.drained = len(g.old) < before
	g.vacant = slices.DeleteFunc(g.vacant, func(t uint64) bool { return now > t+vacancy })
	born := g.unknown(children)
	v.held = len(born) > 0 && holds()
	for _, p := range born {
		if g.add(now, p, v.held) {
			v.loads++
		}
	}
	return v
}

// unknown returns the children that were not there before, the oldest first.
func (g *generation) unknown(children []Process) []Process {
	var out []Process
	for _, c := range children {
		if !slices.Contains(g.workers, c) && !slices.Contains(g.old, c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Process) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.PID, b.PID))
	})
	return out
}

// add takes in a new child and says whether it is the first of a load. A look
// that comes late cannot tell a successor from a load, and then says load: one
// look too many does no harm.
func (g *generation) add(now uint64, p Process, holds bool) (load bool) {
	switch inTime := now < p.Started+burst; {
	case holds:
	case p.Started < g.last+burst:
		g.last = max(g.last, p.Started)
	case inTime && len(g.vacant) > 0:
		g.vacant = g.vacant[1:]
	default:
		g.old, g.workers = append(g.old, g.workers...), nil
		g.last, g.vacant, load = p.Started, nil, true
	}
	g.workers = append(g.workers, p)
	return load
}
