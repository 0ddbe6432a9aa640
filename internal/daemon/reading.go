package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"lasthop/internal/survey"
	"lasthop/nginxconf"
)

// reading is a task that reads the configuration of an instance: a disk may
// hang, and a large configuration takes seconds. It ends within some 20 s,
// whatever the disk does (nginxconf.Hung). The loop waits for it a moment,
// since it is nearly always done by then. Otherwise the loop goes on, and uses
// the configuration when it comes.
type reading struct {
	done  chan struct{}
	taken chan struct{}

	// Written by the task, before done.
	same   bool             // it is the known one
	config nginxconf.Config // with err: what to watch until it is fixed
	err    error
	dirs   []string

	// Owned by the loop.
	ripe  bool // late has reported its end: read takes it
	again bool // it was requested while it ran, so there may be something newer
	load  bool // NGINX has loaded it
	by    int  // the master that did
}

// reader reads configurations. It belongs to the loop.
type reader struct {
	names *names
	late  chan *instance // whose reading has taken more than a moment
	hung  nginxconf.Hung
	moved bool // other directories or pid files should be watched
}

// moment is how long the loop waits for a reading.
const moment = 150 * time.Millisecond

// begin starts to read the configuration of an instance.
func (r *reader) begin(i *instance) {
	task := &reading{done: make(chan struct{}), taken: make(chan struct{})}
	i.reading = task
	source, disk, broken := i.Source, i.disk, i.broken != nil
	o := nginxconf.Options{Root: i.Root, UID: i.UID, Resolve: r.names.snapshot(),
		Hung: &r.hung}
	go func() {
		task.same = !broken && disk.Unchanged() && disk.SameNames(o.Resolve)
		if !task.same {
			task.config, task.err = nginxconf.Load(source.Conf, o)
			var dirs []string
			if r.hung.Within(func() { dirs = dirsOf(source, task.config) }) == nil {
				task.dirs = dirs
			}
		}
		close(task.done)
		select {
		case r.late <- i:
		case <-task.taken:
		case <-r.names.ctx.Done():
		}
	}()
}

// read reads the configuration of an instance if it has changed; changed
// reports that there is another good one. If that takes more than a moment,
// read changes nothing, i.reading stays, and late reports the end: then read
// takes it.
func (r *reader) read(i *instance) (changed, taken bool) {
	switch {
	case i.reading == nil:
		r.begin(i)
	case i.reading.ripe:
		return r.take(i), true
	default:
		i.reading.again = true
		return false, false
	}
	t := time.NewTimer(moment)
	defer t.Stop()
	select {
	case <-i.reading.done:
		return r.take(i), true
	case <-t.C:
		return false, false
	}
}

// take records what was read.
func (r *reader) take(i *instance) (changed bool) {
	task := i.reading
	close(task.taken)
	i.reading = nil
	if !task.same {
		i.broken = survey.Hidden(task.err, i.masters)
		if task.dirs != nil && !slices.Equal(task.dirs, i.watched) {
			i.watched, r.moved = task.dirs, true
		}
		if changed = task.err == nil; changed {
			i.disk, r.moved = &task.config, true
		}
	}
	r.names.ask(i.disk.Names)
	return changed
}

// retry reports whether to read a configuration again that cannot be loaded.
func (r *reader) retry(instances []*instance) bool {
	return !r.hung.Any() && slices.ContainsFunc(instances,
		func(i *instance) bool { return i.broken != nil })
}

// readLate records a reading that has taken long.
func (d *daemon) readLate(i *instance, now time.Time) {
	task, f := i.reading, d.fleet
	if task == nil || !task.ended() {
		return // it was recorded just now
	}
	task.ripe = true
	d.causes.add("nginx.conf has been read")
	switch {
	case i.fresh != 0:
		f.find()
	case task.load:
		f.load(i, task.by, now)
	case len(i.masters) == 0 || i.loaded == nil:
		f.filesChanged(now)
	default:
		f.namesChanged(now)
	}
	if i.reading == task {
		f.read(i)
	}
	if f.reader.moved {
		f.watchFiles()
	}
	d.sync() // nothing was removed meanwhile
	if task.again {
		d.filesChanged(now)
	}
	d.board.unpark(d.requested)
}

func (r *reading) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

var errReading = errors.New("the configuration is being read")

// uses reports whether the configuration has a host name.
func (i *instance) uses(host string) bool {
	_, used := i.disk.Names[host]
	if !used && i.loaded != nil {
		_, used = i.loaded.Names[host]
	}
	return used
}

// wait makes the use of a configuration wait for its reading, and reports
// whether it has to; load says that a master has loaded it, 0 if none runs.
func (i *instance) wait(load bool, master int) bool {
	if i.reading == nil {
		return false
	}
	i.reading.load = i.reading.load || load
	if master != 0 {
		i.reading.by = master
	}
	return true
}

// snapshot returns the last good answers. It may be called from any goroutine.
func (n *names) snapshot() func(host string) ([]netip.Addr, error) {
	known := make(map[string][]netip.Addr, len(n.known))
	for host, s := range n.known {
		if s.known {
			known[host] = s.addrs
		}
	}
	return func(host string) ([]netip.Addr, error) {
		if addrs, ok := known[host]; ok {
			return addrs, nil
		}
		return nil, errUnknown
	}
}
