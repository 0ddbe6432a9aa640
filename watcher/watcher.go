// Package watcher reports when to read NGINX again: when a master has loaded
// its configuration, when old workers have ended, when a master starts or ends,
// and when a file of a configuration changes.
//
// The workers show that a load has succeeded: only then a master forks new
// ones, after it has read all files and bound all sockets. A failed reload,
// `nginx -t` and a log rotation fork nothing. The kernel's proc connector
// reports immediately that a master's children have changed. A look at /proc
// finds the change every second in any case, and every 20 ms if the connector
// is not available (in a container, or another network namespace than the
// first). Both lead to the same look at the children (see generation), so a
// lost or repeated event changes nothing.
//
// Files are watched by directory, because editors and Kubernetes replace files
// instead of writing to them. A changed file means that the next load may
// differ, and nothing about the loaded configuration.
//
// The watcher decides nothing and reads no configuration. It never blocks on
// its reader: events wait in a queue.
package watcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lasthop/internal/procfs"
)

// Kind is the kind of an event.
type Kind string

const (
	// the master has loaded its configuration and forked workers for it
	Reloaded Kind = "reloaded"
	// the master has a new worker that seems to replace a crashed one, so
	// that this is no load; or it is too early to decide
	Respawned Kind = "respawned"
	// old workers of the master have ended
	Drained Kind = "drained"
	// a master has started or ended, or may have: find them again
	Masters Kind = "masters"
	// files of a configuration have changed, or may have
	Files Kind = "files"
	// a subject cannot be watched any more, or can again: see Event.About
	Trouble Kind = "trouble"
)

// Event is one thing that has happened.
type Event struct {
	Kind Kind
	PID  int // the master of Reloaded, Respawned and Drained
	// what Trouble is about: "files", "proc connector" or "processes"
	About string
	// when it happened; for Reloaded the fork as the kernel stamped it, if
	// the connector reported it
	At time.Time
	// of Trouble, with a Hint if there is a remedy; nil when it is over. An
	// error is reported once, and again only when its text changes
	Err error
}

// The subjects of Trouble. Each is tried again after Options.Retry, the first
// and the last also when Watch or Follow is called.
const (
	// inotify: loads are noticed nevertheless, pid files within a second
	aboutFiles = "files"
	// loads are noticed by polling the children of the masters
	aboutConnector = "proc connector"
	// the children of a master cannot be read
	aboutProcesses = "processes"
)

// Master is a running NGINX to follow.
type Master struct {
	Process
	PIDFile string // a path that this process can open, or ""
}

// Workers are the children of a master: those of the loaded configuration and
// those of earlier ones that are still ending connections.
type Workers struct{ Current, Old []Process }

// Options say how to watch. The zero value is for a host.
type Options struct {
	Proc        procfs.Dir
	NoConnector bool          // do without the proc connector
	Every       time.Duration // between looks in addition to the connector; 0 is 1 s
	Alone       time.Duration // between looks without it; 0 is 20 ms
	Retry       time.Duration // between attempts after a Trouble; 0 is 5 s
}

// Watcher watches. Make it with Open, run it with Run; the other methods may be
// called from any goroutine while it runs.
type Watcher struct {
	options Options
	events  chan Event
	calls   chan func()
	ended   chan struct{}
	readers sync.WaitGroup // goroutines that Run waits for

	// Written by Run under the lock, which every other reader needs.
	mu    sync.Mutex
	forks *forks // nil if the connector is not available
	why   error  // why it is not

	// Owned by Run.
	open     func() (*forks, error)
	noticedC chan fork // of the connector's reader
	tick     *time.Ticker
	retried  time.Time
	queue    queue
	masters  masters
	files    files
}

// Open prepares a watcher. It is no error if the kernel refuses a connector or
// inotify: Detector reports the former, an event of Trouble the latter.
func Open(o Options) *Watcher {
	o.Every = cmp.Or(o.Every, time.Second)
	o.Alone = cmp.Or(o.Alone, 20*time.Millisecond)
	o.Retry = cmp.Or(o.Retry, 5*time.Second)
	w := &Watcher{options: o, events: make(chan Event), calls: make(chan func()),
		ended: make(chan struct{}), noticedC: make(chan fork, 64), open: openForks,
		queue: queue{troubles: map[string]string{}}}
	w.masters = masters{proc: o.Proc, queue: &w.queue, exitC: make(chan int, 16),
		ended: w.ended, readers: &w.readers}
	w.files = files{queue: &w.queue,
		changes: Debounce{Quiet: 2 * time.Millisecond, Max: 50 * time.Millisecond}}
	w.files.arrange()
	if o.NoConnector {
		w.why = errors.New("switched off")
	} else {
		w.forks, w.why = w.open()
	}
	return w
}

// Detector returns in words what notices reloads.
func (w *Watcher) Detector() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forks != nil {
		return aboutConnector
	}
	return fmt.Sprintf("polling NGINX's children every %v (proc connector unavailable: "+
		"%v)", w.options.Alone, w.why)
}

// Events returns the channel of events, in order. It is closed when Run ends.
func (w *Watcher) Events() <-chan Event { return w.events }

// Follow replaces the masters that are followed. awaited are pid files of
// masters that may start. A caller that loads a configuration after Follow has
// returned gets every later load.
func (w *Watcher) Follow(masters []Master, awaited []string) {
	w.call(func() { w.follow(masters, awaited) })
}

// Watch replaces the directories whose files are watched. For a missing one it
// watches the nearest one above.
func (w *Watcher) Watch(dirs []string) { w.call(func() { w.files.watch(dirs) }) }

// Workers looks at the children of each master now. During an upgrade the new
// master is a child of the old one, but no worker.
func (w *Watcher) Workers() map[int]Workers {
	out := map[int]Workers{}
	w.call(func() {
		for pid, m := range w.masters.all {
			out[pid] = w.masters.workers(m, time.Now())
		}
	})
	return out
}

// Alive returns which of the processes still run. A child of a followed master
// ends when the kernel reports it, and not when the master waits for it; an
// orphan, whose master has crashed, when it is gone from /proc.
func (w *Watcher) Alive(processes []Process) map[Process]bool {
	out := make(map[Process]bool, len(processes))
	w.call(func() {
		for _, p := range processes {
			out[p] = w.masters.alive(p)
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
	w.hear()
	w.tick = time.NewTicker(w.every())
	defer w.tick.Stop()
	for {
		var events chan Event // nil while there is nothing to report
		var first Event
		if len(w.queue.events) > 0 {
			events, first = w.events, w.queue.events[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-w.calls:
			f()
		case events <- first:
			w.queue.events = w.queue.events[1:]
		case f := <-w.noticedC:
			w.noticed(f)
		case pid := <-w.masters.exitC:
			w.masters.exited(pid)
		case e := <-w.files.eventC:
			w.files.changed(e, time.Now())
		case err := <-w.files.errorC:
			w.files.lost(err)
		case <-w.due():
			w.queue.remind(time.Now())
			w.files.remind(time.Now())
		case now := <-w.tick.C:
			w.check(now)
		}
	}
}

// due is ready when there is something to report again.
func (w *Watcher) due() <-chan time.Time {
	var next time.Time
	if later := w.queue.later; len(later) > 0 {
		next = later[0]
	}
	if c := w.files.changes; c.Waiting() && (next.IsZero() || c.Due().Before(next)) {
		next = c.Due()
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
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
	w.masters.close()
	w.files.close()
	w.readers.Wait()
	close(w.events)
}

// hear passes the connector's events on until it is closed. The last one after
// a failure has the master -1.
func (w *Watcher) hear() {
	f := w.forks
	if f == nil {
		return
	}
	w.readers.Go(func() {
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
	})
}

// noticed handles an event of the connector.
func (w *Watcher) noticed(f fork) {
	switch f.master {
	case -1:
		w.forks.close()
		w.connected(nil, errors.New("it has failed"))
		w.deaf(w.why)
	case 0:
		w.check(f.at)
	default:
		w.masters.noticed(f)
	}
}

func (w *Watcher) connected(f *forks, why error) {
	w.mu.Lock()
	w.forks, w.why = f, why
	w.mu.Unlock()
	w.tick.Reset(w.every())
}

// deaf reports why the connector reports nothing, or with nil that it does.
func (w *Watcher) deaf(why error) {
	if why != nil {
		why = fmt.Errorf("%s: %w", aboutConnector, why)
	}
	w.queue.trouble(aboutConnector, why)
}

// check looks at everything that is cheap to read.
func (w *Watcher) check(now time.Time) {
	for _, m := range w.masters.all {
		w.masters.look(m, now)
	}
	w.files.checkPIDFiles(now)
	if len(w.queue.troubles) > 0 && now.Sub(w.retried) > w.options.Retry {
		w.retried = now
		w.retry()
	}
}

// retry tries again what has failed.
func (w *Watcher) retry() {
	w.files.arrange()
	w.masters.begin()
	if w.forks == nil && w.queue.troubles[aboutConnector] != "" {
		w.connected(w.open())
		w.hear()
	}
	w.filter()
}

// filter tells the connector which masters are followed.
func (w *Watcher) filter() {
	if w.forks != nil {
		w.deaf(w.forks.filter(w.masters.pids()))
	}
}

func (w *Watcher) follow(list []Master, awaited []string) {
	w.masters.follow(list)
	for _, m := range list {
		awaited = append(awaited, m.PIDFile)
	}
	w.files.awaitPIDFiles(awaited)
	w.filter()
	w.check(time.Now()) // what was born before the filter passed it
}
