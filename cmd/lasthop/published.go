package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lasthop/report"
	"lasthop/routing"
)

// What others see of the daemon, and what they may ask of it.

// request is a sync that somebody asks for.
type request struct {
	sync  syncRequest
	reply chan<- reply
}

type reply struct {
	apply report.Apply
	err   error
}

// status returns what is published.
func (d *daemon) status() report.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.public
}

// request asks the loop for a sync.
func (d *daemon) request(ctx context.Context, r syncRequest) (report.Apply, error) {
	c := make(chan reply, 1)
	select {
	case d.requests <- request{r, c}:
	case <-ctx.Done():
		return report.Apply{}, ctx.Err()
	}
	select {
	case r := <-c:
		return r.apply, r.err
	case <-ctx.Done():
		return report.Apply{}, ctx.Err()
	}
}

// publish makes what is known now visible.
func (d *daemon) publish() {
	made := d.writer.Memory()
	s := report.Status{Started: d.status().Started, Detector: d.watcher.Detector(),
		Last: made.Last, Counts: d.counts}
	s.Counts.Changes, s.Counts.Heals = made.Changes, made.Heals
	s.Masters = d.masters()
	for _, t := range d.troubles {
		s.Wrong = append(s.Wrong, t.message)
	}
	if d.backsOff != "" {
		s.Wrong = append(s.Wrong, d.backsOff)
	}
	if v := d.last; v != nil {
		s.Head, s.Plan, s.Diff, s.Installed, s.Synced = v.head(), v.plan, v.diff,
			v.owned, v.taken
		s.Digest = v.plan.Digest(v.diff)
		s.Plan.Findings = slices.Concat(s.Plan.Findings, d.findings())
		s.InSync = v.diff.Empty() && len(s.Wrong) == 0
	}
	d.mu.Lock()
	d.public = s
	d.mu.Unlock()
	d.notify("STATUS=" + statusLine(s))
}

// statusLine is the status in one line, for `systemctl status`.
func statusLine(s report.Status) string {
	if len(s.Wrong) > 0 {
		return strings.ReplaceAll(report.Escape(s.Wrong[0]), "\n", " ")
	}
	ready := 0
	for _, o := range s.Plan.Outcomes {
		if o.Status == routing.Ready || o.Status == routing.Armed {
			ready++
		}
	}
	return fmt.Sprintf("in sync: %d listeners, %d with a way of their own, %d paths",
		len(s.Plan.Outcomes), ready, len(s.Plan.Paths))
}

// findings are those that only the daemon can have.
func (d *daemon) findings() []routing.Finding {
	var out []routing.Finding
	for _, i := range d.instances {
		if f, ok := i.finding(); ok {
			out = append(out, f)
		} else if i.unsure {
			out = append(out, routing.Finding{Code: "not-loaded",
				Severity: routing.Warning, Subject: i.conf,
				Message: "the configuration on disk is newer than NGINX's " +
					"workers, which may run with another one: nothing of " +
					"ours is removed until the next reload",
				Hint: "nginx -t && nginx -s reload"})
		} else if len(i.masters) > 0 && !slices.Equal(i.disk.Sums, i.loaded.Sums) {
			out = append(out, routing.Finding{Code: "not-loaded",
				Severity: routing.Info, Subject: i.conf,
				Message: "the configuration on disk is not the " +
					"one that NGINX has loaded",
				Hint: "nginx -t && nginx -s reload"})
		}
	}
	if f, ok := networkdFinding("/", d.who); ok {
		out = append(out, f)
	}
	return out
}

func (d *daemon) masters() []report.Master {
	var out []report.Master
	workers := d.watcher.Workers()
	for _, i := range d.instances {
		if len(i.masters) == 0 {
			out = append(out, report.Master{Conf: i.conf, Generation: i.generation,
				Loaded: i.loadedAt})
		}
		for _, m := range i.masters {
			w := workers[m.PID]
			out = append(out, report.Master{PID: m.PID, Conf: i.conf,
				Generation: i.generation, Loaded: i.loadedAt,
				Workers: len(w.Current), Draining: len(w.Old)})
		}
	}
	return out
}

// requested is `lasthop apply`, asked of the daemon: what is on disk counts as
// loaded from now on.
func (d *daemon) requested(r syncRequest) (report.Apply, error) {
	now := time.Now()
	d.findMasters()
	for _, i := range d.instances {
		i.refresh()
		d.sayBroken(i)
		if i.broken != nil {
			return report.Apply{}, i.broken
		}
	}
	d.unmoved = false // what somebody asks for is looked at
	v, err := d.view(true)
	if err != nil {
		return report.Apply{}, err
	}
	if err := v.fit(r.Expect); err != nil {
		return report.Apply{}, err
	}
	v.addLive(d.kernel)
	c := v.change("apply", r.NoDelete)
	c.By = r.by
	result := v.applied(c)
	d.because("lasthop apply")
	before := d.kernel.Writes()
	for _, i := range d.instances {
		if !slices.Equal(i.disk.Sums, i.loaded.Sums) {
			i.adopt(d.earlierWorkers(i, 0), now)
		}
		i.unsure = false
	}
	result.Done, err = d.writer.Write(c)
	if len(result.Done) > 0 && err == nil {
		result.Checks, err = d.app.verify(d.kernel, d.writer, v, c)
	}
	result.Writes = d.kernel.Writes() - before
	d.sync()
	return result, err
}
