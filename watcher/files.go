package watcher

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"lasthop/internal/hint"
)

// files watches the directories of configurations and of pid files. It also
// checks the pid files every second: it does not watch a directory where logs
// are written, since each request of NGINX would wake it.
type files struct {
	queue   *queue
	notify  *fsnotify.Watcher // nil while the kernel refuses one
	eventC  <-chan fsnotify.Event
	errorC  <-chan error
	confs   []string          // directories of configurations
	pids    map[string]string // pid files, each with its state
	watched map[string]bool   // directories
	changes Debounce          // of configurations
	looked  time.Time         // when the pid files were looked at last
}

// open asks the kernel for inotify, if that is not done.
func (f *files) open() (err error) {
	if f.notify != nil {
		return nil
	}
	if f.notify, err = fsnotify.NewWatcher(); err != nil {
		f.notify = nil
		return fmt.Errorf("watch files with inotify: %w", err)
	}
	f.eventC, f.errorC, f.watched = f.notify.Events, f.notify.Errors, map[string]bool{}
	return nil
}

func (f *files) close() {
	if f.notify != nil {
		f.notify.Close()
	}
	f.notify, f.eventC, f.errorC = nil, nil, nil
}

// awaitPIDFiles replaces the pid files that are watched.
func (f *files) awaitPIDFiles(paths []string) {
	old := f.pids
	f.pids = map[string]string{}
	for _, p := range paths {
		if p == "" {
			continue
		}
		for _, name := range []string{p, p + oldbin} {
			state, known := old[name]
			if !known {
				state = stateOf(name)
			}
			f.pids[name] = state
		}
	}
	f.arrange()
}

// oldbin is what NGINX adds to the name of its pid file while a new binary
// replaces it.
const oldbin = ".oldbin"

// stateOf returns the state of a file: another state means that it was written
// or replaced. It is "" if there is no file.
func stateOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

func exists(path string) bool { return stateOf(path) != "" }

// checkPIDFiles looks at the pid files, but not more often than every second.
func (f *files) checkPIDFiles(now time.Time) {
	if now.Sub(f.looked) <= 900*time.Millisecond {
		return
	}
	f.looked = now
	changed := false
	for path, old := range f.pids {
		if state := stateOf(path); state != old {
			f.pids[path] = state
			changed = true
		}
	}
	if changed {
		f.queue.mastersChanged(now)
	}
}

// watch replaces the directories of configurations.
func (f *files) watch(dirs []string) {
	f.confs = slices.Clone(dirs)
	f.arrange()
}

// arrange makes inotify watch exactly the wanted directories. All refusals of
// the kernel are one trouble, until a later call of arrange succeeds.
func (f *files) arrange() {
	failed := f.open()
	if failed == nil {
		want := f.wanted()
		for dir := range f.watched {
			if !want[dir] {
				f.unwatch(dir)
			}
		}
		for _, dir := range slices.Sorted(maps.Keys(want)) {
			if err := f.add(dir); failed == nil {
				failed = err
			}
		}
	}
	if failed == nil && f.queue.troubles[aboutFiles] != "" {
		f.changes.Note(time.Now()) // what was not watched may have changed
	}
	f.queue.trouble(aboutFiles, remedied(failed))
}

// wanted returns the directories to watch, of those that exist.
func (f *files) wanted() map[string]bool {
	want := map[string]bool{}
	for _, dir := range f.confs {
		want[nearest(dir)] = true
	}
	for path := range f.pids {
		if dir := filepath.Dir(path); quiet(dir) {
			want[dir] = true
		}
	}
	return want
}

func (f *files) add(dir string) error {
	if f.watched[dir] {
		return nil
	}
	switch err := f.notify.Add(dir); {
	case err == nil:
		f.watched[dir] = true
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("watch %s with inotify: %w", dir, err)
	}
	return nil
}

func (f *files) unwatch(dir string) {
	_ = f.notify.Remove(dir) // it may be gone
	delete(f.watched, dir)
}

// remedied adds to an error which limit of inotify is reached, if one is.
func remedied(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return hint.New(err, "raise the sysctl fs.inotify.max_user_watches")
	case errors.Is(err, unix.EMFILE):
		return hint.New(err, "raise the sysctl fs.inotify.max_user_instances, "+
			"or LimitNOFILE= of the service")
	}
	return err
}

// nearest returns the directory itself, or the nearest existing one above it.
func nearest(dir string) string {
	for dir != "/" && dir != "." && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

// manyNames is how many names of a directory are read to find logs among them.
const manyNames = 10000

// quiet reports whether a directory can be read, holds no log, and is not so
// large that searching it takes long.
func quiet(dir string) bool {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(manyNames)
	return len(names) < manyNames && !slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, ".log")
	})
}

// changed sorts an event of fsnotify: a pid file, or a configuration.
func (f *files) changed(e fsnotify.Event, now time.Time) {
	if f.watched[e.Name] && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
		f.unwatch(e.Name) // a new file of that name is another one
		f.arrange()
	}
	if _, ok := f.pids[e.Name]; ok {
		f.pids[e.Name] = stateOf(e.Name)
		f.queue.mastersChanged(now)
		return
	}
	if f.concerns(e.Name) {
		f.changes.Note(now)
	}
}

// concerns reports whether a path lies in, is, or lies above a directory of a
// configuration.
func (f *files) concerns(path string) bool {
	return slices.ContainsFunc(f.confs, func(dir string) bool {
		return filepath.Dir(path) == dir || path == dir || strings.HasPrefix(dir, path+"/")
	})
}

// lost handles an error of fsnotify: events were lost, so anything may have
// changed. If inotify itself has failed, the next call of arrange opens it
// again.
func (f *files) lost(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		f.close()
		f.queue.trouble(aboutFiles, fmt.Errorf("watch files with inotify: %w", err))
	}
	f.changes.Note(time.Now())
	f.queue.mastersChanged(time.Now())
}

// remind reports Files once the changes are due.
func (f *files) remind(now time.Time) {
	if f.changes.Waiting() && !f.changes.Due().After(now) {
		f.changes.Take()
		f.queue.say(Event{Kind: Files, At: now})
	}
}
