package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing/host"
	"lasthop/watcher"

	"github.com/prometheus/client_golang/prometheus"
)

// daemon keeps the kernel as the plan wants it. Everything happens in loop, one
// thing after the other: events only say that it is time for a sync, and each
// sync looks at everything anew. What is kept from one sync to the next is what
// NGINX has loaded (the disk may say something else by now), what was installed
// last (to tell a heal from a change), and what is waited for.
type daemon struct {
	app          *app
	kernel       *host.Kernel
	writer       *writer.Writer
	watcher      *watcher.Watcher
	log          *slog.Logger
	settings     settings
	settingsText string // of the file, as it was read

	started    time.Time
	instances  []*instance
	strangers  map[watcher.Process]bool
	agenda     agenda
	hosts      watcher.Debounce // changes of the host
	causes     []string         // of the next sync, in words
	deleted    map[string]bool  // what others have deleted of ours since the last sync
	last       *view            // of the last sync
	ready      *view            // a plan for what is on disk, as if NGINX had loaded it, or nil
	unmoved    bool             // no event of the host has come since the last sync
	fights     fights
	backsOff   string // from what, or ""
	who        string // the programs that may be at it
	unneeded   map[unneeded]time.Time
	troubles   []trouble
	failures   int // syncs in a row that failed
	counts     report.Counts
	wholeAudit time.Time // when to look at everything again
	requests   chan request
	calls      chan func()                             // of tests: run in the loop
	followed   func(ready bool, written time.Duration) // of benchmarks: a load is installed
	reloads    <-chan os.Signal                        // SIGHUP
	times      prometheus.Histogram
	notify     func(string)
	quietly    bool // nothing needed was said

	mu     sync.Mutex
	public report.Status // under mu
}

// trouble is something that is wrong now.
type trouble struct{ about, message string }

// agenda is what is to be done when.
type agenda map[string]time.Time

// What is on the agenda.
const (
	doAudit    = "audit"    // compare with the kernel, whatever events say
	doRetry    = "retry"    // a sync that failed
	doHeal     = "heal"     // what was held back in a fight
	doLeave    = "leave"    // look whether old workers have ended
	doForget   = "forget"   // remove a path that has not been needed for a while
	doTrim     = "trim"     // give memory back
	doAlive    = "alive"    // the watchdog
	doMasters  = "masters"  // look for masters
	doPrepared = "prepared" // make the plan for what is on disk
	doHost     = "host"     // sync after changes of the host
)

func (a agenda) next() (time.Time, bool) {
	var first time.Time
	for _, t := range a {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first, !first.IsZero()
}

// take returns what is due, sorted, and takes it off.
func (a agenda) take(now time.Time) []string {
	var due []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if !a[name].After(now) {
			due = append(due, name)
			delete(a, name)
		}
	}
	return due
}

// by puts something on the agenda unless it is there for earlier.
func (a agenda) by(name string, t time.Time) {
	if old, ok := a[name]; !ok || t.Before(old) {
		a[name] = t
	}
}

const (
	auditEvery      = time.Minute
	wholeAuditEvery = 5 * time.Minute
	mastersIn       = time.Minute
	leaveEvery      = 5 * time.Second
	trimAfter       = 10 * time.Second
	retryFirst      = time.Second
	retryLast       = time.Minute
	// "removing again waits a minute": a default route that flaps must not
	// make rules come and go
	forgetAfter = time.Minute
)

// jitter spreads what many hosts do at the same time.
func jitter(d time.Duration) time.Duration { return d - d/8 + rand.N(d/4) }

// loop is the daemon's life after the first sync.
func (d *daemon) loop(ctx context.Context, hostC <-chan host.Event) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if next, ok := d.agenda.next(); ok {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-d.watcher.Events():
			if !ok {
				return ended(ctx, "the watcher of NGINX has ended")
			}
			d.nginxEvent(e)
		case e, ok := <-hostC:
			if !ok {
				return ended(ctx, "the events of the host have ended")
			}
			d.hostEvent(e, time.Now())
		case r := <-d.requests:
			a, err := d.requested(r.sync)
			r.reply <- reply{a, err}
		case <-d.reloads:
			d.reloadSettings()
		case f := <-d.calls:
			f()
		case <-timer.C:
			d.due(time.Now())
		}
	}
}

// ended is no error where all ends: the sources of events may be gone before
// the loop has looked at ctx.
func ended(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return nil
	}
	return errors.New(what)
}

// nginxEvent takes in what NGINX or its files did.
func (d *daemon) nginxEvent(e watcher.Event) {
	switch e.Kind {
	case watcher.Reloaded:
		d.reloaded(e)
	case watcher.Drained:
		if d.drained(time.Now()) {
			d.because(fmt.Sprintf("old workers of NGINX %d have ended", e.PID))
			d.sync()
		}
		d.publish()
	case watcher.Masters:
		d.mastersChanged()
		d.publish()
	case watcher.Files:
		d.agenda.by(doMasters, e.At.Add(mastersIn))
		if d.settingsChanged() {
			d.log.Info("the settings on disk have changed; SIGHUP makes them count",
				"file", d.settings.file)
		}
		if d.filesChanged(time.Now()) {
			d.because("nginx.conf has changed, and NGINX does not run")
			d.sync()
		}
		if d.ready == nil {
			d.prepare()
		}
		d.publish()
	case watcher.Trouble:
		if e.Err == nil {
			d.fine(e.About)
		} else {
			d.trouble(e.About, e.Err)
		}
		d.publish()
	}
}

// mastersChanged takes in that masters have started or ended.
func (d *daemon) mastersChanged() {
	started, gone := d.findMasters(), d.drained(time.Now())
	if started {
		d.because("NGINX has started")
	}
	if gone {
		d.because("old workers of NGINX have ended")
	}
	if started || gone {
		d.sync()
	}
}

// reloaded installs the configuration that a master has loaded. If the plan for
// it is ready, it is carried out first and everything is looked at afterwards.
func (d *daemon) reloaded(e watcher.Event) {
	i := d.instanceOf(e.PID)
	if i == nil {
		return
	}
	d.because(fmt.Sprintf("reload of NGINX %d", e.PID))
	ready := d.takeReady(i)
	if ready != nil {
		d.writeReady(ready)
		d.last = ready // its plan holds for what is loaded now
	}
	written := time.Since(e.At)
	if !d.loadedBy(i, e.PID, time.Now()) {
		d.publish()
		return
	}
	i.unsure = false
	if d.sync() {
		d.times.Observe(time.Since(e.At).Seconds())
		if ready == nil {
			written = time.Since(e.At)
		}
		d.followed(ready != nil, written)
	}
}

// hostEvent notes what changed on the host. What was deleted of ours goes back
// at once; for the rest there is time to let a link come up as a whole.
func (d *daemon) hostEvent(e host.Event, now time.Time) {
	d.ready, d.unmoved = nil, false
	d.because(e.Text)
	d.hosts.Quiet, d.hosts.Max = 50*time.Millisecond, time.Second
	if e.Rule != nil || e.Route != nil {
		if e.Rule != nil {
			d.deleted[e.Rule.String()] = true
		} else {
			d.deleted[e.Route.String()] = true
		}
		d.hosts.Quiet, d.hosts.Max = 2*time.Millisecond, 20*time.Millisecond
	}
	d.hosts.Note(now)
	d.agenda[doHost] = d.hosts.Due()
}

// because notes a cause of the next sync.
func (d *daemon) because(cause string) {
	if len(d.causes) < 100 && !slices.Contains(d.causes, cause) {
		d.causes = append(d.causes, cause)
	}
}

// cause is what led to a sync, in words.
func (d *daemon) cause() string {
	switch n := len(d.causes); n {
	case 0:
		return "audit"
	case 1:
		return d.causes[0]
	default:
		return fmt.Sprintf("%s, and %d more", d.causes[0], n-1)
	}
}

func (d *daemon) due(now time.Time) {
	for _, name := range d.agenda.take(now) {
		switch name {
		case doHost:
			d.hosts.Take()
			d.sync()
			d.prepare()
		case doAudit:
			d.audit(now)
		case doRetry, doHeal, doForget:
			d.sync()
		case doLeave:
			if d.drained(now) {
				d.because("old workers of NGINX have ended")
				d.sync()
			}
			d.noteLeaving(now)
		case doMasters:
			d.agenda.by(doMasters, now.Add(d.nextMasters(now)))
			d.mastersChanged()
		case doPrepared:
			d.prepare()
		case doTrim:
			debug.FreeOSMemory()
		case doAlive:
			d.alive(now)
		}
	}
}

// nextMasters is when to look for masters again without an event. At the start
// it is soon: NGINX may have written its pid file already, and not yet have
// taken its title.
func (d *daemon) nextMasters(now time.Time) time.Duration {
	if age := now.Sub(d.started); age < 3*time.Second {
		return age + 100*time.Millisecond
	}
	return jitter(mastersIn)
}

// noteLeaving looks again soon while listeners are leaving: a worker whose
// master has crashed gives no event.
func (d *daemon) noteLeaving(now time.Time) {
	if d.leaving() {
		d.agenda.by(doLeave, now.Add(leaveEvery))
	}
}

// trouble says once that something is wrong, and keeps it for the status.
func (d *daemon) trouble(about string, err error) {
	message := line(err.Error())
	i := slices.IndexFunc(d.troubles, func(t trouble) bool { return t.about == about })
	switch {
	case i < 0:
		d.troubles = append(d.troubles, trouble{about, message})
	case d.troubles[i].message == message:
		return
	default:
		d.troubles[i].message = message
	}
	d.log.Error(message, hintOf(err)...)
}

// fine ends a trouble.
func (d *daemon) fine(about string) {
	i := slices.IndexFunc(d.troubles, func(t trouble) bool { return t.about == about })
	if i < 0 {
		return
	}
	d.log.Info("good again", "was", d.troubles[i].message)
	d.troubles = slices.Delete(d.troubles, i, i+1)
}

func hintOf(err error) []any {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return []any{"hint", h.Hint()}
	}
	return nil
}

func (d *daemon) settingsChanged() bool {
	if d.settings.file == "" {
		return false
	}
	data, err := os.ReadFile(d.settings.file)
	return err == nil && string(data) != d.settingsText
}
