package main

import (
	"cmp"
	"os"
	"slices"
	"time"

	"lasthop/nginxconf"
	"lasthop/watcher"
)

// What NGINX does: the masters that run, what they have loaded, and what is on
// disk.

// findMasters finds the masters anew and follows them. A master that was not
// there before has loaded what is on disk; one that has ended leaves its
// configuration behind as the plan, for when it comes back. It says whether
// what is loaded has changed.
func (d *daemon) findMasters() bool {
	masters, strangers, err := d.app.masters()
	if err != nil {
		d.trouble("masters", err)
		return false
	}
	d.fine("masters")
	if len(d.settings.confs) > 0 {
		// a configuration that was named counts, whoever runs it
		masters = append(masters, strangers...)
	} else {
		d.sayStrangers(strangers)
	}
	d.arrange(masters)
	d.followMasters() // from here on every load is heard of, so now is the time to read
	changed := false
	for _, i := range d.instances {
		if i.fresh != 0 || !i.known {
			changed = d.loadedBy(i, i.fresh, time.Now()) || changed
			i.unsure = i.fresh != 0 && i.edited(i.fresh)
			i.fresh = 0
		}
		i.unsure = i.unsure && len(i.masters) > 0
	}
	d.watchFiles()
	return changed
}

// edited says whether what is on disk is newer than what a master has loaded:
// an edit that waits for its reload while the daemon starts.
func (i *instance) edited(master int) bool {
	_, modified := i.disk.Modified()
	at, ok := watcher.LoadedAt("/proc", master)
	return ok && modified.After(at.Add(exactness))
}

// exactness is that of a comparison of files with processes: start times are in
// ticks of 10 ms, and the clock is read twice.
const exactness = 100 * time.Millisecond

// unsure says whether NGINX may have loaded something else than what is taken
// for it.
func (d *daemon) unsure() bool {
	return slices.ContainsFunc(d.instances, func(i *instance) bool { return i.unsure })
}

// sayStrangers says once for each that an NGINX is not followed.
func (d *daemon) sayStrangers(strangers []nginxconf.Master) {
	said := map[watcher.Process]bool{}
	for _, m := range strangers {
		said[processOf(m)] = true
		if !d.strangers[processOf(m)] {
			d.log.Warn(stranger(m))
		}
	}
	d.strangers = said
}

// followMasters follows the masters of all instances, and waits for those that
// do not run.
func (d *daemon) followMasters() {
	var follow []watcher.Master
	var awaited []string
	for _, i := range d.instances {
		for _, m := range i.masters {
			follow = append(follow,
				watcher.Master{Process: processOf(m), PIDFile: i.pidFile(m)})
		}
		awaited = append(awaited, i.awaited()...)
	}
	d.watcher.Follow(follow, awaited)
}

func processOf(m nginxconf.Master) watcher.Process {
	return watcher.Process{PID: m.PID, Started: m.Started}
}

// arrange gives each master to the instance of its configuration. Named
// configurations are the only ones; else each master brings its own, and
// without any it is the default one.
func (d *daemon) arrange(masters []nginxconf.Master) {
	for _, i := range d.instances {
		old := i.masters
		i.masters = nil
		for _, m := range masters {
			if i.runs(m) {
				i.masters, i.ran = append(i.masters, m), true
				if !slices.ContainsFunc(old, func(o nginxconf.Master) bool {
					return processOf(o) == processOf(m)
				}) {
					i.fresh = m.PID
				}
			}
		}
	}
	if len(d.settings.confs) > 0 {
		return
	}
	for _, m := range masters {
		if !slices.ContainsFunc(d.instances, func(i *instance) bool { return i.runs(m) }) {
			d.instances = append(d.instances,
				&instance{source: source{m.Conf, m.Root, m.UID},
					masters: []nginxconf.Master{m}, fresh: m.PID, ran: true})
		}
	}
	d.dropStale()
	if len(d.instances) == 0 && exists(defaultConf) {
		d.instances = append(d.instances, &instance{source: source{conf: defaultConf}})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dropStale forgets what is there no more: the default configuration where
// NGINX turns out to run with another one, and a container's once the same file
// runs in a new one.
func (d *daemon) dropStale() {
	running := func(f func(*instance) bool) bool {
		return slices.ContainsFunc(d.instances, func(i *instance) bool {
			return len(i.masters) > 0 && f(i)
		})
	}
	d.instances = slices.DeleteFunc(d.instances, func(i *instance) bool {
		switch {
		case len(i.masters) > 0:
			return false
		case !i.ran:
			return running(func(*instance) bool { return true })
		case i.root != "":
			return running(func(o *instance) bool {
				return o.conf == i.conf && o.root != ""
			})
		}
		return false
	})
}

// loadedBy takes in that an instance has loaded its configuration; master is
// the one that did, 0 for the administrator. It says whether the listeners may
// be others now.
func (d *daemon) loadedBy(i *instance, master int, now time.Time) bool {
	i.refresh()
	d.sayBroken(i)
	if i.broken != nil {
		return false // NGINX has read something else than we can; what is known stays
	}
	i.adopt(d.earlierWorkers(i, master), now)
	if len(i.masters) == 0 {
		d.log.Info("configuration read, NGINX does not run", "conf", i.conf,
			"listens", len(i.loaded.Listens))
		return true
	}
	d.log.Info("NGINX has loaded its configuration", "conf", i.conf, "pid", master,
		"generation", i.generation, "listens", len(i.loaded.Listens))
	d.counts.Reloads++
	return true
}

// earlierWorkers are the workers that may run with an earlier configuration of
// the instance: the old ones of the master that has loaded, and all of the
// others.
func (d *daemon) earlierWorkers(i *instance, master int) []watcher.Process {
	all := d.watcher.Workers()
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

// watchFiles watches the directories of all configurations, and the pid files
// that they name.
func (d *daemon) watchFiles() {
	d.followMasters()
	var dirs []string
	for _, i := range d.instances {
		dirs = append(dirs, i.dirs()...)
	}
	if len(d.instances) == 0 {
		dirs = []string{"/etc/nginx"}
	}
	if d.settings.file != "" {
		dirs = append(dirs, d.settingsDir())
	}
	d.watcher.Watch(dirs)
}

// filesChanged reads what has changed on disk. Where NGINX runs nothing is done
// with it until NGINX loads it, but the plan is made ready; where none runs,
// the disk is what counts. It says whether the listeners may be others now.
func (d *daemon) filesChanged(now time.Time) bool {
	changed, news := false, false
	for _, i := range d.instances {
		if !i.refresh() {
			d.sayBroken(i)
			continue
		}
		news, d.ready = true, nil
		d.sayBroken(i)
		if len(i.masters) == 0 || !i.known {
			changed = d.loadedBy(i, 0, now) || changed
		}
	}
	if len(d.instances) == 0 {
		return d.findMasters()
	}
	if news {
		d.watchFiles()
	}
	return changed
}

// sayBroken says once that a configuration cannot be loaded, and once that it
// can again.
func (d *daemon) sayBroken(i *instance) {
	if f, ok := i.finding(); ok {
		d.trouble("configuration "+i.conf, hint(i.broken, f.Hint))
		return
	}
	d.fine("configuration " + i.conf)
}

// drained drops the listeners whose last workers have ended.
func (d *daemon) drained(now time.Time) bool {
	var workers []watcher.Process
	for _, i := range d.instances {
		for _, l := range i.leaving {
			workers = append(workers, l.workers...)
		}
	}
	slices.SortFunc(workers, func(a, b watcher.Process) int {
		return cmp.Compare(a.PID, b.PID)
	})
	alive := d.watcher.Alive(slices.Compact(workers))
	gone := false
	for _, i := range d.instances {
		gone = i.drain(alive, now) || gone
	}
	return gone
}

// leaving says whether a listener is on its way out.
func (d *daemon) leaving() bool {
	return slices.ContainsFunc(d.instances, func(i *instance) bool {
		return len(i.leaving) > 0
	})
}

func (d *daemon) instanceOf(pid int) *instance {
	for _, i := range d.instances {
		if slices.ContainsFunc(i.masters,
			func(m nginxconf.Master) bool { return m.PID == pid }) {
			return i
		}
	}
	return nil
}
