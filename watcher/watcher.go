// Package watcher says when to look again at NGINX: when a master has loaded
// its configuration, when old workers have ended, when a master starts or ends,
// and when a file of a configuration changes.
//
// That a load has succeeded is told by its workers: a master forks new ones
// then, and only then, and all files are read and all sockets bound before. A
// failed reload, `nginx -t`, a log rotation fork nothing. The kernel's proc
// connector says at once that a master's children have changed; a look at /proc
// says it every second in any case, and every 20 ms where the connector is not
// to be had (in a container, or another network namespace than the first). Both
// end in the same look at the children (see generation), so that an event that
// is lost or comes twice changes nothing.
//
// Files are watched by directory, because editors and Kubernetes replace files
// instead of writing to them. A change of a file says that the next load may be
// another one, and nothing about the one that is loaded.
//
// The watcher decides nothing and reads no configuration. It never blocks on
// who listens: events wait in a queue.
package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// Kind is what has happened.
type Kind string

const (
	// the master has loaded its configuration and forked workers for it
	Reloaded Kind = "reloaded"
	Drained  Kind = "drained" // old workers of the master have ended
	Masters  Kind = "masters" // a master has started or ended, or may have: find them again
	Files    Kind = "files"   // files of a configuration have changed, or may have
	// something cannot be watched any more: Err says what; the slower ways
	// go on
	Trouble Kind = "trouble"
)

// Event is one thing that has happened.
type Event struct {
	Kind Kind
	PID  int // the master of Reloaded and Drained
	// when it happened; for Reloaded the fork as the kernel stamped it,
	// where the connector is heard
	At  time.Time
	Err error // of Trouble
}

// Master is a running NGINX to follow.
type Master struct {
	Process
	PIDFile string // a path that we can open, or ""
}

// Workers are the children of a master: those of the loaded configuration and
// those of earlier ones that are still ending connections.
type Workers struct{ Current, Old []Process }

// Options say how to watch. The zero value is for a host.
type Options struct {
	Proc        string        // "" is /proc
	NoConnector bool          // do without the proc connector
	Every       time.Duration // between looks beside the connector; 0 is 1 s
	Alone       time.Duration // between looks without it; 0 is 20 ms
}

// Watcher watches. Make it with Open, run it with Run; the other methods may be
// called from any goroutine while it runs.
type Watcher struct {
	options  Options
	forks    *forks
	why      error // why there are no forks
	notify   *fsnotify.Watcher
	events   chan Event
	calls    chan func()
	ended    chan struct{}
	noticedC chan fork // of the connector's reader
	exitC    chan int  // masters that have ended
	readers  sync.WaitGroup

	// What follows belongs to Run.
	queue    []Event
	masters  map[int]*followed
	pidFiles map[string]string // path -> what it was like
	pidsSeen time.Time         // when they were looked at last
	wanted   []string          // directories of configurations
	dirs     map[string]bool   // that are watched
	files    Debounce
	again    []time.Time // when to say Masters again
}

// followed is one master.
type followed struct {
	Master
	children *children
	workers  generation
	pidfd    *os.File
	gone     bool
}

// Open prepares a watcher. That the connector is not to be had is no error:
// Detector says so.
func Open(o Options) (*Watcher, error) {
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Alone == 0 {
		o.Alone = 20 * time.Millisecond
	}
	w := &Watcher{options: o, events: make(chan Event), calls: make(chan func()),
		ended: make(chan struct{}), noticedC: make(chan fork, 64),
		exitC: make(chan int, 16), masters: map[int]*followed{},
		pidFiles: map[string]string{}, dirs: map[string]bool{},
		files: Debounce{Quiet: 2 * time.Millisecond, Max: 50 * time.Millisecond}}
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	if o.NoConnector {
		w.why = errors.New("it is switched off")
	} else {
		w.forks, w.why = openForks()
	}
	return w, nil
}

// Detector says in words what notices reloads.
func (w *Watcher) Detector() string {
	if w.forks != nil {
		return "proc connector"
	}
	return fmt.Sprintf("children check every %v (%v)", w.options.Alone, w.why)
}

// Events gives what has happened, in order. It is closed when Run ends.
func (w *Watcher) Events() <-chan Event { return w.events }

// Follow replaces the masters that are followed. awaited are pid files of
// masters that may start. Who loads a configuration after Follow has returned
// hears of every later load.
func (w *Watcher) Follow(masters []Master, awaited []string) {
	w.call(func() { w.follow(masters, awaited) })
}

// Watch replaces the directories whose files are watched. Of one that is not
// there, the nearest one above is.
func (w *Watcher) Watch(dirs []string) { w.call(func() { w.watch(dirs) }) }

// Workers looks at the children of each master now. During an upgrade the new
// master is a child of the old one, but no worker.
func (w *Watcher) Workers() map[int]Workers {
	out := map[int]Workers{}
	w.call(func() {
		workers := func(list []Process) []Process {
			return slices.DeleteFunc(slices.Clone(list), func(p Process) bool {
				return w.masters[p.PID] != nil
			})
		}
		for pid, m := range w.masters {
			w.look(m, time.Now())
			out[pid] = Workers{workers(m.workers.workers), workers(m.workers.old)}
		}
	})
	return out
}

// Alive says which of the processes still run. A child of a master that is
// followed ends when the kernel says so, and not when the master takes note; an
// orphan, whose master has crashed, when it is gone from /proc.
func (w *Watcher) Alive(processes []Process) map[Process]bool {
	out := make(map[Process]bool, len(processes))
	w.call(func() {
		for _, p := range processes {
			parent, started, ok := stat(w.options.Proc, p.PID)
			m := w.masters[parent]
			out[p] = ok && started == p.Started &&
				(m == nil || m.gone || slices.Contains(m.workers.workers, p) ||
					slices.Contains(m.workers.old, p))
		}
	})
	return out
}

// call runs f in Run, and returns when it has.
func (w *Watcher) call(f func()) {
	done := make(chan struct{})
	select {
	case w.calls <- func() { f(); close(done) }:
		<-done
	case <-w.ended:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.close()
	if w.forks != nil {
		w.readers.Go(func() { w.readForks(w.forks) })
	}
	tick := time.NewTicker(w.every())
	defer tick.Stop()
	for {
		var events chan Event // nil while there is nothing to say
		var first Event
		if len(w.queue) > 0 {
			events, first = w.events, w.queue[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-w.calls:
			f()
		case events <- first:
			w.queue = w.queue[1:]
		case f := <-w.noticedC:
			w.noticed(f, tick)
		case pid := <-w.exitC:
			w.exited(pid)
		case e := <-w.notify.Events:
			w.changed(e, time.Now())
		case err := <-w.notify.Errors:
			w.lostFiles(err)
		case <-w.due():
			w.remind(time.Now())
		case now := <-tick.C:
			w.check(now)
		}
	}
}

func (w *Watcher) every() time.Duration {
	if w.forks != nil {
		return w.options.Every
	}
	return w.options.Alone
}

func (w *Watcher) close() {
	close(w.ended)
	if w.forks != nil {
		w.forks.close()
	}
	for _, m := range w.masters {
		m.close()
	}
	w.notify.Close()
	w.readers.Wait()
	close(w.events)
}

// say queues an event. What would be said twice without anybody having heard it
// is said once; a load is never left out.
func (w *Watcher) say(e Event) {
	if e.Kind != Trouble && slices.ContainsFunc(w.queue,
		func(q Event) bool { return q.Kind == e.Kind && q.PID == e.PID }) {
		return
	}
	w.queue = append(w.queue, e)
}

// readForks hands the connector's events over until it is closed.
func (w *Watcher) readForks(f *forks) {
	for {
		e, err := f.next()
		if err != nil {
			e = fork{master: -1}
		}
		select {
		case w.noticedC <- e:
		case <-w.ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// noticed looks at the children of a master that has new ones. The connector
// has failed if master is -1.
func (w *Watcher) noticed(f fork, tick *time.Ticker) {
	switch {
	case f.master == -1:
		w.forks.close()
		w.forks, w.why = nil, errors.New("the proc connector has failed")
		w.say(Event{Kind: Trouble, At: time.Now(), Err: w.why})
		tick.Reset(w.every())
	case f.master == 0:
		w.check(f.at)
	case w.masters[f.master] != nil:
		m := w.masters[f.master]
		if f.ended != 0 && m.children != nil {
			m.children.dead[f.ended] = true
		}
		w.look(m, f.at)
	}
}

// look looks at the children of a master. at is when they changed.
func (w *Watcher) look(m *followed, at time.Time) {
	if m.gone {
		return
	}
	list, err := m.children.list()
	if err != nil {
		w.exited(m.PID)
		return
	}
	v := m.workers.observe(ticks(), list, func() bool {
		return m.PIDFile != "" && exists(m.PIDFile+".oldbin")
	})
	if v.loads > 0 {
		w.say(Event{Kind: Reloaded, PID: m.PID, At: at})
	}
	if v.drained {
		w.say(Event{Kind: Drained, PID: m.PID, At: at})
	}
	if v.held {
		w.mastersChanged(at) // the child may be the new master
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// check looks at everything that can be looked at cheaply.
func (w *Watcher) check(now time.Time) {
	for _, m := range w.masters {
		w.look(m, now)
	}
	if now.Sub(w.pidsSeen) > 900*time.Millisecond {
		w.pidsSeen = now
		w.checkPIDFiles(now)
	}
}

// exited says once that a master has ended.
func (w *Watcher) exited(pid int) {
	if m := w.masters[pid]; m != nil && !m.gone {
		m.gone = true
		w.say(Event{Kind: Masters, At: time.Now()})
	}
}

func (w *Watcher) follow(masters []Master, awaited []string) {
	keep := map[int]bool{}
	for _, m := range masters {
		if old := w.masters[m.PID]; old != nil && old.Process == m.Process && !old.gone {
			old.PIDFile = m.PIDFile
			keep[m.PID] = true
		}
	}
	for pid, m := range w.masters {
		if !keep[pid] {
			m.close()
			delete(w.masters, pid)
		}
	}
	var pids []int
	for _, m := range masters {
		if w.masters[m.PID] == nil {
			w.start(m)
		}
		pids, awaited = append(pids, m.PID), append(awaited, m.PIDFile)
	}
	w.awaitPIDFiles(awaited)
	if w.forks != nil {
		if err := w.forks.filter(pids); err != nil {
			w.say(Event{Kind: Trouble, At: time.Now(), Err: err})
		}
		w.check(time.Now()) // what was born before the filter let it pass
	}
}

// start begins to follow a master. One that has ended meanwhile gives an event.
func (w *Watcher) start(m Master) {
	f := &followed{Master: m}
	w.masters[m.PID] = f
	var err error
	if f.children, err = openChildren(w.options.Proc, m.PID); err == nil {
		f.pidfd, err = w.awaitExit(m.PID)
	}
	if err == nil {
		var list []Process
		list, err = f.children.list()
		f.workers.begin(list, slices.DeleteFunc(slices.Clone(list),
			func(p Process) bool { return !shuttingDown(w.options.Proc, p) }))
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		w.exited(m.PID)
	} else if err != nil {
		w.say(Event{Kind: Trouble, At: time.Now(), Err: err})
		f.gone = f.children == nil
	}
}

func (m *followed) close() {
	if m.children != nil {
		m.children.close()
	}
	if m.pidfd != nil {
		m.pidfd.Close()
	}
}

// awaitExit tells exitC when the process ends. Closing the file ends the wait.
func (w *Watcher) awaitExit(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil, nil // before Linux 5.10; the look at the children finds out too
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), filepath.Join("pidfd", fmt.Sprint(pid)))
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	w.readers.Go(func() {
		err := conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil {
			return // closed
		}
		select {
		case w.exitC <- pid:
		case <-w.ended:
		}
	})
	return file, nil
}
