package watcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// reminders are when to look for masters after a pid file has changed: NGINX
// writes it before it has its title and its workers.
var reminders = []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond, time.Second}

// mastersChanged says Masters now and again a little later.
func (w *Watcher) mastersChanged(now time.Time) {
	w.again = nil
	for _, d := range reminders {
		w.again = append(w.again, now.Add(d))
	}
	w.remind(time.Now())
}

// due is ready when remind has something to do.
func (w *Watcher) due() <-chan time.Time {
	var next time.Time
	if len(w.again) > 0 {
		next = w.again[0]
	}
	if w.files.Waiting() && (next.IsZero() || w.files.Due().Before(next)) {
		next = w.files.Due()
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}

func (w *Watcher) remind(now time.Time) {
	for len(w.again) > 0 && !w.again[0].After(now) {
		w.again = w.again[1:]
		w.say(Event{Kind: Masters, At: now})
	}
	if w.files.Waiting() && !w.files.Due().After(now) {
		w.files.Take()
		w.say(Event{Kind: Files, At: now})
	}
}

// awaitPIDFiles replaces the pid files that are watched. A directory where logs
// are written is not: each request of NGINX would wake us. There the check
// finds the file.
func (w *Watcher) awaitPIDFiles(paths []string) {
	old := w.pidFiles
	w.pidFiles = map[string]string{}
	for _, p := range paths {
		if p == "" {
			continue
		}
		for _, name := range []string{p, p + ".oldbin"} {
			state, known := old[name]
			if !known {
				state = stateOf(name)
			}
			w.pidFiles[name] = state
		}
	}
	w.arrange()
}

// stateOf says what a file is like: another state means that it was written or
// replaced.
func stateOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

func (w *Watcher) checkPIDFiles(now time.Time) {
	changed := false
	for path, old := range w.pidFiles {
		if state := stateOf(path); state != old {
			w.pidFiles[path] = state
			changed = true
		}
	}
	if changed {
		w.mastersChanged(now)
	}
}

// watch replaces the directories of configurations.
func (w *Watcher) watch(dirs []string) {
	w.wanted = slices.Clone(dirs)
	w.arrange()
}

// arrange makes fsnotify watch what is wanted and nothing else.
func (w *Watcher) arrange() {
	want := map[string]bool{}
	for _, dir := range w.wanted {
		want[nearest(dir)] = true
	}
	for path := range w.pidFiles {
		if dir := filepath.Dir(path); !hasLogs(dir) && exists(dir) {
			want[dir] = true
		}
	}
	for dir := range w.dirs {
		if !want[dir] {
			_ = w.notify.Remove(dir) // it may be gone
			delete(w.dirs, dir)
		}
	}
	for dir := range want {
		if w.dirs[dir] {
			continue
		}
		if err := w.notify.Add(dir); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				w.say(Event{Kind: Trouble, At: time.Now(),
					Err: fmt.Errorf("watch %s: %w", dir, err)})
			}
			continue
		}
		w.dirs[dir] = true
	}
}

// nearest is the directory itself, or the one above it that is there.
func nearest(dir string) string {
	for dir != "/" && dir != "." && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

func hasLogs(dir string) bool {
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	return len(logs) > 0
}

// changed sorts an event of fsnotify: a pid file, or a configuration.
func (w *Watcher) changed(e fsnotify.Event, now time.Time) {
	if w.dirs[e.Name] && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
		_ = w.notify.Remove(e.Name) // one of that name that comes back is another
		delete(w.dirs, e.Name)
		w.arrange()
	}
	if _, ok := w.pidFiles[e.Name]; ok {
		w.pidFiles[e.Name] = stateOf(e.Name)
		w.mastersChanged(now)
		return
	}
	if w.concerns(e.Name) {
		w.files.Note(now)
	}
}

// concerns says whether a path lies in, is, or lies above a directory of a
// configuration.
func (w *Watcher) concerns(path string) bool {
	return slices.ContainsFunc(w.wanted, func(dir string) bool {
		return filepath.Dir(path) == dir || path == dir || strings.HasPrefix(dir, path+"/")
	})
}

// lostFiles takes an error of fsnotify: events were lost, so anything may have
// changed.
func (w *Watcher) lostFiles(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		w.say(Event{Kind: Trouble, At: time.Now(), Err: fmt.Errorf("watch files: %w", err)})
	}
	w.files.Note(time.Now())
	w.mastersChanged(time.Now())
}
