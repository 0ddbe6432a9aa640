package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lasthop/nginxconf"
	"lasthop/routing"
	"lasthop/watcher"
)

// instance is one configuration that is followed, and the masters that run with
// it: none before the start, two during an upgrade of the binary.
type instance struct {
	source
	masters    []nginxconf.Master
	loaded     nginxconf.Config // what NGINX has loaded; without NGINX, what it would
	known      bool             // loaded is set
	disk       nginxconf.Config // the last good one of the disk
	broken     error            // why what is on disk cannot be loaded
	generation int
	loadedAt   time.Time
	leaving    []leaving
	fresh      int  // a master that was found and had not been there before
	ran        bool // NGINX was seen with it
	// what is on disk is newer than the workers: they may run with
	// something else
	unsure bool
}

// leaving is a listener that left the configuration while old workers still
// serve its connections: replies keep their way until the last of them has
// ended, or until the time is up.
type leaving struct {
	listener nginxconf.Listen
	workers  []watcher.Process
	until    time.Time
}

// maxLeaving bounds leaving. NGINX itself has no bound unless
// worker_shutdown_timeout is set; what stays costs nothing but a rule.
const maxLeaving = 24 * time.Hour

// refresh reads the configuration from the disk where it is not what was read
// last. It says whether there is another good one.
func (i *instance) refresh() (changed bool) {
	if i.broken == nil && i.disk.Unchanged() {
		return false
	}
	c, err := i.load()
	if err != nil {
		i.broken = err
		i.disk.Files, i.disk.Dirs = c.Files, c.Dirs // where it can be mended
		return false
	}
	i.broken, i.disk = nil, c
	return true
}

// adopt makes what was read from the disk the loaded configuration. workers are
// those that still run with earlier ones.
func (i *instance) adopt(workers []watcher.Process, now time.Time) {
	if i.known && len(workers) > 0 {
		i.leaving = append(i.leaving, i.left(workers, now.Add(maxLeaving))...)
	}
	i.loaded, i.known, i.loadedAt = i.disk, true, now
	i.generation++
}

// left returns the listeners that the disk's configuration does not have any
// more.
func (i *instance) left(workers []watcher.Process, until time.Time) []leaving {
	type key struct {
		addr, transport string
		first, last     uint16
	}
	keyOf := func(l nginxconf.Listen) key {
		return key{l.Addr.String(), l.Transport, l.First, l.Last}
	}
	stays := make(map[key]bool, len(i.disk.Listens))
	for _, l := range i.disk.Listens {
		stays[keyOf(l)] = true
	}
	var out []leaving
	for _, l := range i.loaded.Listens {
		if !stays[keyOf(l)] {
			out = append(out, leaving{l, workers, until})
		}
	}
	return out
}

// drain forgets the leaving listeners whose workers have ended, and says
// whether there were any.
func (i *instance) drain(alive map[watcher.Process]bool, now time.Time) bool {
	before := len(i.leaving)
	i.leaving = slices.DeleteFunc(i.leaving, func(l leaving) bool {
		return !now.Before(l.until) || !slices.ContainsFunc(l.workers,
			func(p watcher.Process) bool { return alive[p] })
	})
	return len(i.leaving) < before
}

// add puts what NGINX listens on into a view: the loaded configuration, or the
// disk's as if it were loaded, and what is leaving.
func (i *instance) add(v *view, asIfLoaded bool) {
	c, gone := i.loaded, i.leaving
	if asIfLoaded {
		c, gone = i.disk, slices.Concat(gone, i.left(nil, time.Time{}))
	} else if !i.known {
		return
	}
	v.add(c)
	for _, l := range gone {
		v.listeners = append(v.listeners, listenersOf(l.listener)...)
	}
}

// pidFile is where NGINX writes its process id, as we can open it.
func (i *instance) pidFile(m nginxconf.Master) string {
	name := m.PIDFile
	if c := i.disk.PIDFile; c != "" {
		name = c
		if !strings.HasPrefix(name, "/") {
			name = m.Prefix + name
		}
	}
	if name == "" || !strings.HasPrefix(name, "/") {
		return ""
	}
	return filepath.Join(m.Root, name)
}

// defaultPIDFiles are where distributions and NGINX's own packages keep it.
var defaultPIDFiles = []string{"/run/nginx.pid", "/var/run/nginx.pid"}

// awaited are the pid files of masters that do not run.
func (i *instance) awaited() []string {
	if len(i.masters) > 0 {
		return nil
	}
	if strings.HasPrefix(i.disk.PIDFile, "/") {
		return []string{filepath.Join(i.root, i.disk.PIDFile)}
	}
	return defaultPIDFiles // and where the directive is relative, the check every minute
}

// dirs are the directories where a change may make another configuration. Files
// that are symbolic links are watched at both ends.
func (i *instance) dirs() []string {
	var out []string
	add := func(dir string) {
		if dir = filepath.Join("/", i.root, dir); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	real := func(path string) string {
		if i.root != "" {
			return path // a link there means a file below the root
		}
		if p, err := filepath.EvalSymlinks(path); err == nil {
			return p
		}
		return path
	}
	seen := map[string]bool{}
	for _, f := range append(slices.Clone(i.disk.Files), i.absolute()) {
		if dir := filepath.Dir(f); !seen[dir] {
			seen[dir] = true
			add(dir)
			add(real(dir))
		}
		if info, err := os.Lstat(f); err == nil && info.Mode()&os.ModeSymlink != 0 {
			add(filepath.Dir(real(f)))
		}
	}
	for _, d := range i.disk.Dirs {
		add(d)
	}
	return out
}

func (i *instance) absolute() string {
	if abs, err := filepath.Abs(i.conf); err == nil && i.root == "" {
		return abs
	}
	return i.conf
}

// runs says whether the master runs with this configuration.
func (i *instance) runs(m nginxconf.Master) bool {
	return i.absolute() == m.Conf && i.root == m.Root
}

// finding says what is wrong with the files.
func (i *instance) finding() (routing.Finding, bool) {
	if i.broken == nil {
		return routing.Finding{}, false
	}
	f := routing.Finding{Code: "config-broken", Severity: routing.Error, Subject: i.conf,
		Message: fmt.Sprintf("the configuration on disk cannot be loaded: %v", i.broken),
		Hint: "mend it; until then the routes stay as they were " +
			"for what was loaded last"}
	if !i.known {
		f.Hint = "mend it; until then nothing is known of its listeners"
	}
	return f, true
}
