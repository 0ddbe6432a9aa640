package watcher

import (
	"cmp"
	"slices"
	"time"
)

// Process identifies a process for good: its id may become another's, its id
// and start time together cannot.
type Process struct {
	PID     int
	Started uint64 // clock ticks since boot, of 10 ms: field 22 of /proc/PID/stat
}

// Time is the earliest moment when the process can have been started: it was
// within the tick that follows. A clock that was set since moves it.
func (p Process) Time() time.Time {
	return time.Now().Add(time.Duration(p.Started)*tick - sinceBoot())
}

// NGINX forks all processes of a load one after the other, then sleeps 100 ms,
// and only then tells the old ones to quit (ngx_master_process_cycle). So less
// than burst ticks lie between two forks of one load, and more between two
// loads. A look within that time after a fork still sees every old worker,
// unless one has crashed.
const burst = 9

// vacancy is how many ticks a place stays open after a process has ended: NGINX
// fills it immediately.
const vacancy = 20

// patience is how many ticks after a birth the old workers have to end, or to
// show that they are shutting down. If they go on serving, there was no load.
const patience = 100

// generation distinguishes loads of a configuration from everything else that
// makes a master fork, by its children. It needs no event to be right, so a
// lost event does no harm.
type generation struct {
	workers []Process // forked for the configuration that is loaded, and their successors
	old     []Process // of earlier loads, alive
	last    uint64    // when the last of workers was forked for a load
	vacant  []uint64  // when workers ended whose places are not filled again
	// born so long before the look that they may be successors of crashed
	// workers or of a load; the workers before them will show which
	open  []Process
	taken []Process // of workers: those counted as successors
}

// verdict is what a look at the children has shown.
type verdict struct {
	loads   int  // configurations that were loaded since the last look
	drained bool // an old worker has ended
	held    bool // a child was born that is no load, since the master keeps its configuration
	// a child was born that seems to be no load, or that is undecided yet
	respawned bool
}

// asked is what a look at the children may have to ask about them.
type asked struct {
	// whether the master keeps its configuration (a new binary is replacing
	// it), so that its forks are no loads
	holds func() bool
	// whether a worker takes connections, and does not only end those that
	// it has
	serves func(Process) bool
}

// begin takes the present children; old are those that are shutting down
// already. NGINX does not sleep after its start, so the next fork may be a
// load's, however soon it comes.
func (g *generation) begin(children, old []Process) {
	*g = generation{old: old}
	for _, c := range children {
		if !slices.Contains(old, c) {
			g.workers = append(g.workers, c)
		}
	}
}

// observe compares the children at the time now, in ticks, with those seen
// before. It only asks about new ones.
func (g *generation) observe(now uint64, children []Process, ask asked) verdict {
	var v verdict
	alive := func(p Process) bool { return slices.Contains(children, p) }
	for _, p := range g.workers {
		if !alive(p) {
			g.vacant = append(g.vacant, now)
		}
	}
	ended := func(p Process) bool { return !alive(p) }
	g.workers = slices.DeleteFunc(g.workers, ended)
	g.open, g.taken = slices.DeleteFunc(g.open, ended), slices.DeleteFunc(g.taken, ended)
	before := len(g.old)
	g.old = slices.DeleteFunc(g.old, ended)
	v.drained = len(g.old) < before
	g.vacant = slices.DeleteFunc(g.vacant, func(t uint64) bool { return now > t+vacancy })
	born := g.unknown(children)
	v.held = len(born) > 0 && ask.holds()
	for _, p := range born {
		fresh := !slices.Contains(g.open, p)
		switch g.place(now, p, v.held, ask.serves) {
		case load:
			v.loads++
			g.begun(p)
		case successor:
			v.respawned = v.respawned || fresh
			g.workers, g.taken = append(g.workers, p), append(g.taken, p)
		case undecided:
			v.respawned = v.respawned || fresh
			if fresh {
				g.open = append(g.open, p)
			}
			continue
		case held, same:
			g.workers = append(g.workers, p)
		}
		g.open = slices.DeleteFunc(g.open, func(o Process) bool { return o == p })
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

// birth is what a new child is.
type birth int

const (
	held      birth = iota // the master keeps its configuration
	same                   // another one of the load before it
	successor              // it takes the place of a worker that has ended
	load                   // the first of a load
	undecided
)

// place returns what a new child is. A look in time sees the place that a crash
// has left, and still sees every worker from before a load. A look that comes
// late, on a busy machine, sees neither: then the workers from before decide,
// which a load ends within some 100 ms.
func (g *generation) place(now uint64, p Process, holds bool, serves func(Process) bool) birth {
	inTime := now < p.Started+burst
	older := func(o Process) bool { return o.Started+burst <= p.Started && serves(o) }
	switch {
	case holds:
		return held
	case p.Started < g.last+burst:
		g.last = max(g.last, p.Started)
		return same
	case inTime && len(g.vacant) > 0:
		g.vacant = g.vacant[1:]
		return successor
	case inTime || !slices.ContainsFunc(g.workers, older):
		return load
	case now < p.Started+patience:
		return undecided
	}
	return successor
}

// begun records the first child of a load. Those that were born with it, and
// counted as successors, are of the load too.
func (g *generation) begun(p Process) {
	now := []Process{p}
	for _, o := range g.taken {
		if o.Started+burst > p.Started {
			now = append(now, o)
		}
	}
	g.workers = slices.DeleteFunc(g.workers,
		func(o Process) bool { return slices.Contains(now, o) })
	g.old, g.workers = append(g.old, g.workers...), now
	g.last, g.vacant, g.taken = p.Started, nil, nil
}
