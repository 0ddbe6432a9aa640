package daemon

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/sockets"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/routing"
	"lasthop/watcher"
)

// instance is one configuration that the daemon follows, and the masters that
// run with it: none before the start, two during an upgrade of the binary.
type instance struct {
	survey.Source

	// Of the files. A Config that was read is never changed, so that its
	// address stands for its contents.
	disk    *nginxconf.Config // the last good one of the disk
	broken  error             // why what is on disk cannot be loaded
	watched []string          // directories where a change may make another one
	reading *reading          // while a task reads it

	// Of the processes.
	masters []nginxconf.Master
	fresh   int  // a new master, whose load is not recorded yet
	ran     bool // NGINX was seen with it

	// Of the loads.
	// what NGINX has loaded; without NGINX, what it would; nil if not known
	loaded *nginxconf.Config
	belief
	generation int
	loadedAt   time.Time
	leaving    []leaving
}

func newInstance(s survey.Source) *instance {
	return &instance{Source: s, disk: &nginxconf.Config{},
		belief:  belief{of: map[int]*nginxconf.Config{}},
		watched: []string{filepath.Join("/", s.Root, filepath.Dir(s.Absolute()))}}
}

// leaving is a listener that left the configuration, or never was in it, while
// old workers still serve its connections, or NGINX still listens on it.
// Replies keep their way until the last of the workers has ended, or their time
// is up, and the socket is closed.
type leaving struct {
	listener *nginxconf.Listen
	workers  []watcher.Process
	until    time.Time
	owner    sockets.Owner // of its socket, as read last
}

// maxLeaving bounds leaving. NGINX itself has no bound unless
// worker_shutdown_timeout is set; a listener that stays costs only a rule.
const maxLeaving = 24 * time.Hour

// adopt makes what was read from the disk the loaded configuration. workers are
// those that still run with earlier ones.
func (i *instance) adopt(workers []watcher.Process, now time.Time) {
	i.keep(i.loaded, i.disk, workers, now)
	i.loaded = i.disk
}

// keep makes the listeners leave that one configuration has and the next has
// not. Those that the next has are not leaving any more. A listener that was
// kept only for its socket may have connections, too.
func (i *instance) keep(was, is *nginxconf.Config, workers []watcher.Process, now time.Time) {
	stays := index(is)
	i.leaving = slices.DeleteFunc(i.leaving, func(l leaving) bool {
		return !slices.ContainsFunc(keysOf(l.listener),
			func(k sockets.Key) bool { return stays[k] == nil })
	})
	for n := range i.leaving {
		if l := &i.leaving[n]; len(l.workers) == 0 {
			l.workers, l.until = workers, now.Add(maxLeaving)
		}
	}
	for _, l := range left(was, is) {
		i.leaving = append(i.leaving,
			leaving{listener: l, workers: workers, until: now.Add(maxLeaving)})
	}
}

// left returns the listens that one configuration has and the next has not.
func left(was, is *nginxconf.Config) (out []*nginxconf.Listen) {
	if was == nil || was == is {
		return nil
	}
	type key struct {
		addr        netip.Addr
		transport   string
		first, last uint16
	}
	keyOf := func(l *nginxconf.Listen) key { return key{l.Addr, l.Transport, l.First, l.Last} }
	stays := make(map[key]bool, len(is.Listens))
	for n := range is.Listens {
		stays[keyOf(&is.Listens[n])] = true
	}
	for n := range was.Listens {
		if l := &was.Listens[n]; !stays[keyOf(l)] {
			out = append(out, l)
		}
	}
	return out
}

// drain drops the leaving listeners whose workers have ended and whose sockets
// are not NGINX's, and reports whether there were any. While there is doubt it
// drops none.
func (i *instance) drain(alive map[watcher.Process]bool,
	owner func(*nginxconf.Listen) sockets.Owner, now time.Time) bool {
	if i.doubt != "" || i.reading != nil {
		return false
	}
	before := len(i.leaving)
	for n, l := range i.leaving {
		lives := slices.ContainsFunc(l.workers,
			func(p watcher.Process) bool { return alive[p] })
		i.leaving[n].owner = sockets.Nobody
		if !lives || !now.Before(l.until) {
			i.leaving[n].workers, i.leaving[n].owner = nil, owner(l.listener)
		}
	}
	i.leaving = slices.DeleteFunc(i.leaving, func(l leaving) bool {
		return len(l.workers) == 0 && l.owner < sockets.Unknown
	})
	return len(i.leaving) < before
}

// pending reports whether NGINX may load something else than it has loaded.
func (i *instance) pending() bool {
	return i.broken == nil && len(i.masters) > 0 && !i.same()
}

// same reports whether the files say what NGINX has loaded.
func (i *instance) same() bool {
	return i.loaded != nil && slices.Equal(i.disk.Sums, i.loaded.Sums)
}

// part is what an instance adds to the listeners. Equal parts add the same,
// since a Config is never changed.
type part struct {
	loaded  *nginxconf.Config   // nil if not known
	before  *nginxconf.Config   // whose listeners stay that loaded has not; or nil
	leaving []*nginxconf.Listen // further ones that stay
}

// part returns what the instance adds, with asIfLoaded as if NGINX had loaded
// what is on disk.
func (i *instance) part(asIfLoaded bool) part {
	p := part{loaded: i.loaded}
	if asIfLoaded && i.broken == nil && i.disk != i.loaded {
		p = part{loaded: i.disk, before: i.loaded}
	}
	for _, l := range i.leaving {
		p.leaving = append(p.leaving, l.listener)
	}
	return p
}

func (p part) equal(q part) bool {
	return p.loaded == q.loaded && p.before == q.before && slices.Equal(p.leaving, q.leaving)
}

// addTo adds the part to n.
func (p part) addTo(n *survey.NGINX) {
	if p.loaded != nil {
		n.Add(*p.loaded)
	}
	for _, l := range slices.Concat(p.leaving, left(p.before, p.loaded)) {
		list := survey.Listeners(*l)
		for k := range list {
			if l.Origin == "" { // a socket's
				list[k].Origins = nil
			}
		}
		n.Listeners = append(n.Listeners, list...)
	}
}

// pidFile returns the file where NGINX writes its process id, as the daemon can
// open it.
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

// defaultPIDFiles are those of distributions and of NGINX's own packages.
var defaultPIDFiles = []string{"/run/nginx.pid", "/var/run/nginx.pid"}

// awaited are the pid files of masters that do not run.
func (i *instance) awaited() []string {
	if len(i.masters) > 0 {
		return nil
	}
	if strings.HasPrefix(i.disk.PIDFile, "/") {
		return []string{filepath.Join(i.Root, i.disk.PIDFile)}
	}
	return defaultPIDFiles // and if the directive is relative, the check every minute
}

// dirsOf returns the directories where a change may make another configuration.
// It includes both ends of symbolic links to files.
func dirsOf(s survey.Source, c nginxconf.Config) []string {
	out, had := []string{}, map[string]bool{}
	add := func(dir string) {
		if dir = filepath.Join("/", s.Root, dir); !had[dir] {
			had[dir] = true
			out = append(out, dir)
		}
	}
	real := func(path string) string {
		if s.Root != "" {
			return path // a link there means a file below the root
		}
		if p, err := filepath.EvalSymlinks(path); err == nil {
			return p
		}
		return path
	}
	seen := map[string]bool{}
	for _, f := range append(slices.Clone(c.Files), s.Absolute()) {
		if dir := filepath.Dir(f); !seen[dir] {
			seen[dir] = true
			add(dir)
			add(real(dir))
		}
		if info, err := os.Lstat(f); err == nil && info.Mode()&os.ModeSymlink != 0 {
			add(filepath.Dir(real(f)))
		}
	}
	for _, d := range c.Dirs {
		add(d)
	}
	return out
}

// finding describes what is wrong with the files.
func (i *instance) finding() (routing.Finding, bool) {
	switch {
	case errors.Is(i.broken, survey.ErrHidden):
		return routing.Error.Finding("config-broken", i.Conf, "%v", i.broken).
			Advise("%s", hint.Of(i.broken)), true
	case i.broken != nil:
		until := "lasthop keeps the routes for the configuration that NGINX loaded last"
		if i.loaded == nil {
			until = "lasthop does not know NGINX's listeners"
		}
		return routing.Error.Finding("config-broken", i.Conf,
			"NGINX cannot load the configuration on disk: %v", i.broken).
			Advise("correct it; until then %s", until), true
	case i.doubt != "":
		f := routing.Warning.Finding("not-loaded", i.Conf, "NGINX may have loaded "+
			"another configuration than the one on disk: %s. lasthop keeps a path "+
			"for every address that NGINX listens on, and removes nothing until the "+
			"next reload", i.doubt)
		return i.advise(f), true
	case i.pending():
		f := routing.Info.Finding("not-loaded", i.Conf, "NGINX has not loaded the "+
			"configuration that is on disk")
		return i.advise(f), true
	}
	return i.kept()
}

// advise gives the remedy if NGINX has not loaded what is on disk: a reload, or
// a restart if a socket that is open forbids to load it.
func (i *instance) advise(f routing.Finding) routing.Finding {
	var open nginxconf.Config
	for _, l := range i.leaving {
		if l.owner == sockets.NGINX {
			open.Listens = append(open.Listens, *l.listener)
		}
	}
	if i.loaded != nil && i.loaded != i.disk {
		open.Listens = append(open.Listens, i.loaded.Listens...)
	}
	return survey.AdviseRestart(f.Advise(survey.Reload), *i.disk, open)
}
