package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/internal/settings"
	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing/host"
	"lasthop/watcher"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

const (
	auditEvery      = time.Minute
	wholeAuditEvery = 5 * time.Minute
	mastersIn       = time.Minute
	leaveEvery      = 5 * time.Second
	trimAfter       = 10 * time.Second
	readyIn         = 10 * time.Second // the first look may take longer, NGINX should not wait
)

// live syncs for the first time, reports that all is ready, and follows.
func (d *daemon) live(ctx context.Context, hostC <-chan host.Event) error {
	now := time.Now()
	d.causes.add("start")
	late := time.AfterFunc(readyIn, func() { notify(sd.SdNotifyReady) })
	d.fleet.find()
	d.sync()
	d.prepare()
	late.Stop()
	d.log.Info("following NGINX and the host", "detector", d.watcher.Detector(),
		"configurations", len(d.fleet.instances),
		"listeners", len(d.board.status().Plan.Outcomes),
		journal.EventKey, journal.Started)
	notify(sd.SdNotifyReady)
	d.alive(now)
	d.agenda.by(doAudit, now.Add(jitter(auditEvery)))
	d.pace.whole = now.Add(wholeAuditEvery)
	d.agenda.by(doMasters, now.Add(nextMasters(now.Sub(d.board.started))))
	d.tend(now)
	d.fleet.plus.ask(d.fleet.settings.PlusAPI, now)
	defer d.fleet.names.close()
	defer d.fleet.plus.close()
	err := d.loop(ctx, hostC)
	notify(sd.SdNotifyStopping)
	d.log.Info("ending; all rules and routes stay in place", journal.EventKey, journal.Ending)
	return err
}

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
		case a := <-d.fleet.names.answers:
			if in := d.fleet.names.answered(a); in > 0 {
				d.agenda.by(doNames, time.Now().Add(in))
			}
		case a := <-d.fleet.plus.answers:
			if d.fleet.plus.answered(a, d.fleet.instances) {
				d.publish()
			}
		case i := <-d.fleet.reader.late:
			d.readLate(i, time.Now())
		case r := <-d.board.requests:
			d.board.answer(r, d.requested)
		case <-d.reloads:
			_ = d.reloadSettings("") // the log has the error
		case f := <-d.calls:
			f()
		case <-timer.C:
			d.due(time.Now())
		}
		d.prepare()
	}
}

// nginxEvent handles an event of NGINX or its files.
func (d *daemon) nginxEvent(e watcher.Event) {
	switch e.Kind {
	case watcher.Reloaded:
		d.reloaded(e)
	case watcher.Respawned:
		// it may have been a load
		d.served(d.fleet.recheck(time.Now()), "NGINX's sockets")
	case watcher.Drained:
		d.served(d.fleet.drained(e.At),
			fmt.Sprintf("old workers of NGINX %d have ended", e.PID))
	case watcher.Masters:
		d.mastersChanged()
	case watcher.Files:
		d.filesChanged(e.At)
	case watcher.Trouble:
		d.troubles.note("watch "+e.About, e.Err)
	}
	d.publish()
}

// reloaded installs the configuration that a master has loaded. If the decision
// about it is prepared, it carries that out first and looks at everything
// afterwards.
func (d *daemon) reloaded(e watcher.Event) {
	i := d.fleet.of(e.PID)
	if i == nil {
		return
	}
	d.causes.add(fmt.Sprintf("reload of NGINX %d", e.PID))
	this := func(o *instance) bool { return o == i }
	same := !d.fleet.read(i) && i.reading == nil && i.broken == nil
	ready := same && d.reconciler.anticipate(d.want(this))
	written := time.Since(e.At)
	if !d.fleet.load(i, e.PID, time.Now()) && !ready {
		return
	}
	if d.sync() {
		if !ready {
			written = time.Since(e.At)
		}
		d.board.loaded(load{ready, written, time.Since(e.At)})
	}
}

// mastersChanged handles that masters have started or ended.
func (d *daemon) mastersChanged() {
	started, gone := d.fleet.find(), d.fleet.drained(time.Now())
	if started {
		d.causes.add("NGINX has started")
	}
	if gone {
		d.causes.add("old workers of NGINX have ended")
	}
	if started || gone {
		d.sync()
	}
}

// served handles that the listeners may have changed, if changed says so.
func (d *daemon) served(changed bool, cause string) {
	if changed {
		d.causes.add(cause)
		d.sync()
	}
}

// filesChanged handles that files may have changed.
func (d *daemon) filesChanged(now time.Time) {
	d.agenda.by(doMasters, now.Add(mastersIn))
	if s := d.fleet.settings; s.Changed() {
		d.log.Info("the settings on disk have changed; `lasthop reload` loads them",
			"file", s.File)
	}
	if d.fleet.filesChanged(now) {
		d.causes.add("nginx.conf has changed")
		d.sync()
	}
}

// namesDue handles the system's answers about host names, and asks again for
// those that are not known.
func (d *daemon) namesDue(now time.Time) {
	n := d.fleet.names
	news := n.news
	n.news = false
	changed := d.fleet.namesChanged(now)
	if changed {
		d.causes.add("a host name has new addresses")
	}
	gone := d.fleet.drained(now) // what was kept without an answer may go
	if gone {
		d.causes.add("old workers of NGINX have ended")
	}
	if changed || news || gone {
		d.sync()
	}
	if n.unknown() {
		d.agenda.by(doNames, now.Add(unknownIn))
	}
}

// hostEvent records what changed on the host, if it may count.
func (d *daemon) hostEvent(e host.Event, now time.Time) {
	switch e.Kind {
	case "deaf": // until events come again, looks replace them
		d.noted(aboutEvents, errors.New(e.Text))
		d.agenda.by(doAudit, now.Add(d.pace.deaf()))
		return
	case "lost":
		d.noted(aboutEvents, nil)
	}
	urgent := false
	if l := d.reconciler.last; l != nil {
		if !l.heed(e) {
			return
		}
		urgent = l.urgent(e)
	}
	if e.Kind == "link" {
		d.agenda.by(doRouters, now)
	}
	d.reconciler.hostChanged(e)
	d.causes.add(e.Text)
	d.pace.note(urgent, now)
}

// due does what is on the agenda.
func (d *daemon) due(now time.Time) {
	for _, name := range d.agenda.take(now) {
		switch name {
		case doUrgent:
			d.pace.urgent.Take()
			if d.reconciler.restore(d.causes.String(), now) {
				d.pace.note(false, now)
				d.publish()
				continue
			}
			d.sync()
		case doHost:
			d.sync()
		case doAudit:
			d.audit(now)
		case doRetry: // missing objects need not wait for a look that works
			d.reconciler.restore(d.causes.String(), now)
			d.sync()
		case doHeal, doForget:
			d.sync()
		case doLeave:
			if slices.ContainsFunc(d.fleet.instances, (*instance).doubtful) {
				d.served(d.fleet.recheck(now), "NGINX's sockets")
			}
			d.served(d.fleet.drained(now), "old workers of NGINX have ended")
			d.noteLeaving(now)
		case doMasters:
			d.agenda.by(doMasters, now.Add(nextMasters(now.Sub(d.board.started))))
			d.mastersChanged()
			if d.fleet.reader.retry(d.fleet.instances) {
				d.filesChanged(now) // no event may report that a disk answers again
			}
		case doNames:
			d.namesDue(now)
		case doTrim:
			forget(d.fleet, d.reconciler)
			debug.FreeOSMemory()
			d.publish()
		case doAlive:
			d.alive(now)
		case doPlus:
			d.fleet.plus.ask(d.fleet.settings.PlusAPI, now)
		case doRouters:
			if d.routers.due(now) {
				d.publish()
			}
		case doTell:
			d.publish()
		case doTend:
			d.tend(now)
		}
	}
}

// tend checks that the files of the run directory are there.
func (d *daemon) tend(now time.Time) {
	d.agenda.by(doTend, now.Add(tendEvery))
	d.noted(aboutRunDir, d.writer.Tend())
	d.noted(aboutMemory, scarceMemory())
	d.noted(aboutAudit, unaudited(d))
	if slices.ContainsFunc(d.fleet.instances, (*instance).scarce) {
		d.filesChanged(now)
		d.publish()
	}
}

// noted records a result, and publishes a change of it.
func (d *daemon) noted(about string, err error) {
	before := d.troubles.messages()
	d.troubles.note(about, err)
	if !slices.Equal(before, d.troubles.messages()) {
		d.publish()
	}
}

// nextMasters returns when a daemon of an age looks for masters again without
// an event. At the start it is soon: NGINX may have written its pid file
// already, and not yet have taken its title.
func nextMasters(age time.Duration) time.Duration {
	if age < 3*time.Second {
		return age + 100*time.Millisecond
	}
	return jitter(mastersIn)
}

// noteLeaving looks again soon while listeners are leaving: a worker whose
// master has crashed causes no event.
func (d *daemon) noteLeaving(now time.Time) {
	in := d.fleet.lookAgain()
	if in > 0 && d.troubles.any(aboutSockets) {
		in = retryFirst
	}
	if in > 0 {
		d.agenda.by(doLeave, now.Add(in))
	}
	if d.troubles.any(aboutMasters) {
		d.agenda.by(doMasters, now.Add(retryFirst))
	}
}

// audit compares what lasthop owns with the kernel every minute. Every five
// minutes it reads everything, or less often if that would take more than a
// thousandth of a processor.
func (d *daemon) audit(now time.Time) {
	d.agenda.by(doAudit, now.Add(jitter(auditEvery)))
	if d.troubles.any(aboutEvents) {
		d.agenda.by(doAudit, now.Add(d.pace.deaf()))
	}
	d.served(d.fleet.recheck(now), "NGINX's sockets")
	d.agenda.by(doTrim, now.Add(time.Second)) // it may have been about 10,000 sockets
	troubled := d.troubles.any(aboutSync, aboutNetlink, aboutNames, aboutEvents)
	if now.Before(d.pace.whole) && !troubled && d.reconciler.steady() {
		return
	}
	d.sync()
	d.pace.whole = time.Now().Add(max(wholeAuditEvery, 1000*time.Since(now)))
}

// want is what a sync should reach; asIfLoaded says which instances count with
// what is on disk. Objects that an earlier daemon installed may be for what
// NGINX listens on; they stay until that is sure.
func (d *daemon) want(asIfLoaded func(*instance) bool) want {
	return want{d.fleet.listening(asIfLoaded), d.fleet.unsure(), d.causes.String()}
}

// sync makes the kernel as the plan wants it, and reports whether it is.
func (d *daemon) sync() bool {
	start := time.Now()
	ok := d.reconciler.sync(d.want(none))
	d.causes = nil
	now := time.Now()
	d.pace.looked(now.Sub(start))
	d.noteLeaving(now)
	d.agenda[doTrim] = now.Add(trimAfter)
	d.agenda.by(doRouters, now)
	d.publish()
	return ok
}

// prepare makes the decision for what is on disk, if an NGINX may load it.
func (d *daemon) prepare() {
	if d.fleet.pending() {
		d.reconciler.prepare(d.fleet.listening(all))
	}
}

// publish shows clients what the daemon knows now.
func (d *daemon) publish() {
	d.troubles.note(aboutAudit, unaudited(d))
	s := report.Status{Detector: d.watcher.Detector(), Masters: d.fleet.masters(),
		Wrong: d.troubles.messages()}
	d.reconciler.report(&s)
	s.Counts.Reloads = d.fleet.loads
	s.Plan.Findings = slices.Concat(s.Plan.Findings,
		d.reconciler.healer.findings(), d.routers.findings(), d.fleet.plus.findings())
	d.notices.note(s.Plan.Findings, time.Now()) // the log has those of the fleet already
	s.Plan.Findings = append(s.Plan.Findings, d.fleet.findings()...)
	s.InSync = d.reconciler.last != nil && s.Diff.Empty() && len(s.Wrong) == 0
	d.board.publish(s)
}

// unaudited describes the fault if the system's log, or the journal, does not
// take the lines that say who changed what.
func unaudited(d *daemon) error {
	lines := d.writer.Unaudited() + d.log.Lost()
	if lines == 0 {
		return nil
	}
	return hint.New(errors.New("audit lines are lost: the system log does not accept them"),
		"see whether the log daemon is stuck: systemctl status systemd-journald rsyslog")
}

// reloadSettings reads lasthop.yaml again, and syncs; by is the user that asked
// for it, "" with SIGHUP. Refused settings change nothing. The error says why
// they are refused, or why the sync has failed.
func (d *daemon) reloadSettings(by writer.Person) error {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, now.Nano()/1000))
	defer notify(sd.SdNotifyReady)
	s, err := settings.Load(d.options.Flags)
	if l := d.reconciler.last; err == nil && l != nil {
		err = s.Policy.Validate(l.Inputs.Host)
	}
	if err != nil {
		refused := fmt.Errorf("the settings stay as they were: %w", err)
		d.troubles.note(aboutSettings, refused)
		d.publish()
		return refused
	}
	d.troubles.note(aboutSettings, nil)
	if later := keepFixed(&s, d.fleet.settings); later != nil {
		d.log.Warn(later.Error(), "hint", hint.Of(later))
	}
	d.reconciler.kernel.AskedLastHop = s.Policy.AsksLastHop()
	if c := d.options.LastHop; c != nil {
		c.Trust = s.TrustKernel
		d.noted(aboutRouters, c.Resize(s.Policy.Connections()))
	}
	cause := "settings read again"
	if by != "" {
		cause += " for " + string(by)
	}
	d.causes.add(cause)
	d.fleet.follow(&s)
	d.fleet.plus.ask(s.PlusAPI, time.Now())
	d.fleet.find()
	d.sync()
	return nil
}

// keepFixed keeps the settings that cannot change while the daemon runs. The
// error names them if the new ones differ.
func keepFixed(s, old *settings.Settings) error {
	if s.Metrics == old.Metrics && slices.Equal(s.MetricsHosts, old.MetricsHosts) &&
		s.Policy.Numbers == old.Policy.Numbers {
		return nil
	}
	s.Metrics, s.MetricsHosts, s.Policy.Numbers = old.Metrics, old.MetricsHosts,
		old.Policy.Numbers
	return hint.New(errors.New("numbers and metrics take effect after a restart; the other "+
		"settings are in force"), "systemctl restart lasthop")
}

// alive tells the watchdog that the loop makes progress.
func (d *daemon) alive(now time.Time) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	notify(sd.SdNotifyWatchdog)
	d.agenda.by(doAlive, now.Add(every/3))
}

// notify notifies systemd, if it is there.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// causes are the reasons for a sync, in words.
type causes []string

func (c *causes) add(cause string) {
	if len(*c) < 100 && !slices.Contains(*c, cause) {
		*c = append(*c, cause)
	}
}

func (c causes) String() string {
	switch n := len(c); n {
	case 0:
		return "audit"
	case 1:
		return c[0]
	default:
		return fmt.Sprintf("%s, and %d more", c[0], n-1)
	}
}
