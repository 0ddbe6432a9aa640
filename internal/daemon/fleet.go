package daemon

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/internal/sockets"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/watcher"
)

// fleet is the NGINX that the daemon follows: the masters that run, what each
// has loaded, what is on disk, and the listeners that are leaving. It belongs
// to the loop.
type fleet struct {
	netns    string
	watcher  *watcher.Watcher
	log      *slog.Logger
	troubles *troubles
	names    *names
	plus     *plusAPI
	reader   reader
	kernel   sockets.Lister

	settings  *settings.Settings
	instances []*instance
	programs  nginxconf.Programs
	strangers map[int]bool // users whose NGINX were logged
	loads     int          // of NGINX that the daemon has seen
	listened  []*listening // recent ones, the newest first
}

// follow applies the settings. It follows only the configurations that they
// name; if they name none, those of every NGINX that runs.
func (f *fleet) follow(s *settings.Settings) {
	f.settings = s
	var named []*instance
	for _, c := range s.Confs {
		same := func(i *instance) bool { return i.Conf == c && i.Root == "" }
		if i := slices.IndexFunc(f.instances, same); i >= 0 {
			named = append(named, f.instances[i])
		} else {
			named = append(named, newInstance(survey.Source{Conf: c}))
		}
	}
	if len(named) > 0 {
		f.instances = named
	}
}

// find finds the masters that run now and follows them. A new master has loaded
// what is on disk; one that has ended leaves its configuration in the plan for
// its return. It reports whether what is loaded has changed.
func (f *fleet) find() bool {
	masters, strangers, err := survey.Masters(f.netns, f.settings.Confs, &f.programs)
	if !f.troubles.note(aboutMasters, err) {
		return false
	}
	f.sayStrangers(strangers)
	f.arrange(masters)
	f.followMasters() // from here on no load is missed, so read now
	changed := false
	for _, i := range f.instances {
		if i.handBack(time.Now()) {
			f.recheck(time.Now())
			changed = true
		}
		if i.fresh != 0 || i.loaded == nil {
			changed = f.load(i, i.fresh, time.Now()) || changed
			if i.reading != nil {
				continue // until it is done
			}
			i.fresh = 0
		}
	}
	f.watchFiles()
	return changed
}

// sayStrangers logs once for each user that an NGINX is not followed: a user
// may start any number of them.
func (f *fleet) sayStrangers(strangers []nginxconf.Stranger) {
	said := map[int]bool{}
	for _, s := range strangers {
		if !f.strangers[s.Owner] && !said[s.Owner] {
			f.log.Warn(survey.Stranger(s))
		}
		said[s.Owner] = true
	}
	f.strangers = said
}

// arrange gives each master to the instance of its configuration. If the
// settings name none, each master brings its own; without a master it is the
// one on disk.
func (f *fleet) arrange(masters []nginxconf.Master) {
	for _, i := range f.instances {
		old := i.masters
		i.masters = nil
		for _, m := range masters {
			if !i.Runs(m) {
				continue
			}
			i.masters, i.ran = append(i.masters, m), true
			known := func(o nginxconf.Master) bool {
				return processOf(o) == processOf(m)
			}
			if !slices.ContainsFunc(old, known) {
				i.fresh = m.PID
			}
		}
	}
	if len(f.settings.Confs) > 0 {
		return
	}
	for _, m := range masters {
		if !slices.ContainsFunc(f.instances, func(i *instance) bool { return i.Runs(m) }) {
			i := newInstance(survey.SourceOf(m))
			i.masters, i.fresh, i.ran = []nginxconf.Master{m}, m.PID, true
			f.instances = append(f.instances, i)
		}
	}
	f.dropStale()
	if len(f.instances) > 0 {
		return
	}
	if s, _, there := survey.OnDisk(f.netns, len(f.settings.Listens) > 0); there {
		f.instances = append(f.instances, newInstance(s))
	}
}

// dropStale drops instances that are gone: the default configuration if NGINX
// turns out to run with another one, a container's once the same file runs in a
// new one, and one that ended before its configuration was read.
func (f *fleet) dropStale() {
	running := func(is func(*instance) bool) bool {
		return slices.ContainsFunc(f.instances,
			func(i *instance) bool { return len(i.masters) > 0 && is(i) })
	}
	f.instances = slices.DeleteFunc(f.instances, func(i *instance) bool {
		switch {
		case len(i.masters) > 0:
			return false
		case !i.ran:
			return running(func(*instance) bool { return true })
		case i.Root != "" && i.loaded == nil:
			return true
		case i.Root != "":
			return running(func(o *instance) bool {
				return o.Conf == i.Conf && o.Root != ""
			})
		}
		return false
	})
}

// followMasters follows the masters of all instances, and waits for those that
// do not run.
func (f *fleet) followMasters() {
	var follow []watcher.Master
	var awaited []string
	for _, i := range f.instances {
		for _, m := range i.masters {
			follow = append(follow,
				watcher.Master{Process: processOf(m), PIDFile: i.pidFile(m)})
		}
		awaited = append(awaited, i.awaited()...)
	}
	f.watcher.Follow(follow, awaited)
}

func processOf(m nginxconf.Master) watcher.Process {
	return watcher.Process{PID: m.PID, Started: m.Started}
}

// watchFiles watches the directories of all configurations, and the pid files
// that they name.
func (f *fleet) watchFiles() {
	f.followMasters()
	f.reader.moved = false
	var dirs []string
	for _, i := range f.instances {
		dirs = append(dirs, i.watched...)
	}
	if len(f.instances) == 0 {
		dirs = []string{"/etc/nginx"}
	}
	if f.settings.File != "" {
		dirs = append(dirs, filepath.Dir(f.settings.File))
	}
	f.watcher.Watch(dirs)
}

// load records that an instance has loaded its configuration; master is the one
// that did, 0 if none runs, or if it is not known. It reports whether the
// listeners may have changed.
func (f *fleet) load(i *instance, master int, now time.Time) bool {
	if f.read(i); i.wait(true, master) {
		return i.addServed(f.evidence())
	}
	if master != 0 {
		i.loads(master, f.watcher.Workers()[master].Current)
		i.generation, i.loadedAt = i.generation+1, now
		f.loads++
	}
	if len(i.masters) > 0 {
		changed := f.judge(i, now)
		i.sayLoaded(f.log)
		return changed
	}
	if i.broken != nil {
		return false // what is known stays
	}
	i.adopt(nil, now)
	i.settled = true
	i.generation, i.loadedAt = i.generation+1, now
	f.log.Info("configuration read, NGINX does not run", "conf", i.Conf,
		"listens", len(i.loaded.Listens))
	f.drained(now)
	return true
}

// refresh reads what has changed on disk of all configurations, unless that is
// done. It returns errReading while one is being read, and otherwise the first
// error of one that cannot be loaded.
func (f *fleet) refresh(done bool) (broken error) {
	for _, i := range f.instances {
		if !done {
			f.read(i)
		}
		if i.reading != nil {
			return errReading
		}
		broken = cmp.Or(broken, i.broken)
	}
	return broken
}

// adopt makes what is on disk count as loaded, though NGINX has not loaded it:
// the user has asked for it.
func (f *fleet) adopt(now time.Time) {
	for _, i := range f.instances {
		if !i.same() {
			i.adopt(f.earlierWorkers(i, 0), now)
		}
		i.doubt, i.settled = "", true
	}
	f.drained(now)
}

// earlierWorkers are the workers that may run with an earlier configuration of
// the instance: the old ones of the master that has loaded, and all workers of
// other masters.
func (f *fleet) earlierWorkers(i *instance, master int) []watcher.Process {
	all := f.watcher.Workers()
	var out []watcher.Process
	for _, m := range i.masters {
		w := all[m.PID]
		out = append(out, w.Old...)
		if m.PID != master {
			out = append(out, w.Current...)
		}
	}
	return out
}

// filesChanged reads what has changed on disk. While NGINX runs, the result
// waits until NGINX loads it; if none runs, the disk counts. It reports whether
// the listeners may have changed.
func (f *fleet) filesChanged(now time.Time) bool {
	changed, news := false, false
	for _, i := range f.instances {
		if !f.read(i) {
			continue
		}
		news = true // also of its pid file
		if len(i.masters) == 0 || i.loaded == nil {
			changed = f.load(i, 0, now) || changed
		} else if i.doubt != "" {
			changed = f.judge(i, now) || changed
		}
	}
	if len(f.instances) == 0 {
		return f.find()
	}
	if news || f.reader.moved {
		f.watchFiles()
	}
	return changed
}

// namesChanged reads the configurations again that use a host name with a new
// answer. If NGINX has loaded one except for the names, it counts as loaded. It
// reports whether the listeners may have changed.
func (f *fleet) namesChanged(now time.Time) (changed bool) {
	for _, i := range f.instances {
		loaded := i.same()
		switch {
		case !f.read(i):
		case len(i.masters) == 0 || i.loaded == nil:
			changed = f.load(i, 0, now) || changed
		case i.doubt != "" || loaded && i.same():
			changed = f.judge(i, now) || changed
		}
	}
	return changed
}

// read reads the configuration of an instance if it has changed. It logs once
// that it cannot be loaded, and once that it can again, and reports whether
// there is another good one. If that takes long, i.reading stays.
func (f *fleet) read(i *instance) (changed bool) {
	f.names.forget(func(host string) bool {
		return slices.ContainsFunc(f.instances,
			func(i *instance) bool { return i.uses(host) })
	})
	changed, taken := f.reader.read(i)
	if taken {
		finding, _ := i.finding()
		f.troubles.note("configuration "+i.Root+i.Conf, hint.New(i.broken, finding.Hint))
	}
	return changed
}

// drained drops the listeners whose last workers have ended and that NGINX does
// not listen on any more, and reports whether there were any.
func (f *fleet) drained(now time.Time) bool {
	var workers []watcher.Process
	for _, i := range f.instances {
		for _, l := range i.leaving {
			workers = append(workers, l.workers...)
		}
	}
	slices.SortFunc(workers, func(a, b watcher.Process) int {
		return cmp.Compare(a.PID, b.PID)
	})
	alive := f.watcher.Alive(slices.Compact(workers))
	// A list of many sockets may lack one that is there while other ones
	// close: a socket is gone if two lists lack it.
	look, again := sync.OnceValue(f.evidence), sync.OnceValue(f.evidence)
	gone := false
	for _, i := range f.instances {
		explained := sync.OnceValue(func() map[sockets.Key]*nginxconf.Listen {
			return index(i.loaded)
		})
		if i.drain(alive, func(l *nginxconf.Listen) sockets.Owner {
			if o := look().owner(i, l, explained()); o >= sockets.Unknown {
				return o
			}
			return again().owner(i, l, explained())
		}, now) {
			i.addServed(again()) // from the same look: NGINX may be loading it
			gone = true
		}
	}
	return gone
}

// lookAgain returns the time until the sockets should be read again, 0 if that
// is not needed.
func (f *fleet) lookAgain() (in time.Duration) {
	for _, i := range f.instances {
		if len(i.leaving) > 0 || i.doubt != "" {
			in = leaveEvery
		}
	}
	return in
}

// unsure reports whether NGINX may serve listeners that only an earlier daemon
// knew, or may listen on what is not known yet.
func (f *fleet) unsure() bool {
	return f.names.unheard() || slices.ContainsFunc(f.instances, func(i *instance) bool {
		return i.doubt != "" && !i.settled || i.reading != nil ||
			i.loaded == nil && len(i.masters) > 0
	})
}

// pending reports whether an NGINX may load something else than it has loaded.
func (f *fleet) pending() bool { return slices.ContainsFunc(f.instances, (*instance).pending) }

// of returns the instance that a master belongs to, or nil.
func (f *fleet) of(master int) *instance {
	for _, i := range f.instances {
		if slices.ContainsFunc(i.masters,
			func(m nginxconf.Master) bool { return m.PID == master }) {
			return i
		}
	}
	return nil
}

// findings are those that only a program that follows NGINX can have.
func (f *fleet) findings() (out []routing.Finding) {
	for _, i := range f.instances {
		if finding, ok := i.finding(); ok {
			out = append(out, finding)
		}
	}
	return out
}

// masters are the NGINX that are followed, for the status.
func (f *fleet) masters() (out []report.Master) {
	workers := f.watcher.Workers()
	for _, i := range f.instances {
		one := report.Master{Conf: i.Conf, Root: i.Root, Generation: i.generation,
			Loaded: i.loadedAt, Pending: i.doubt != "" || i.pending()}
		if len(i.masters) == 0 {
			out = append(out, one)
		}
		for _, m := range i.masters {
			w := workers[m.PID]
			one.PID, one.Workers, one.Draining = m.PID, len(w.Current), len(w.Old)
			out = append(out, one)
		}
	}
	return out
}
