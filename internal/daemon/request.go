package daemon

import (
	"errors"
	"time"

	"lasthop/internal/settings"
	"lasthop/internal/writer"
	"lasthop/report"
)

// Request is a sync that `lasthop apply` asks for. With `lasthop reload` only
// Sudoer counts.
type Request struct {
	Expect   string `json:"expect,omitempty"`
	NoDelete bool   `json:"no_delete,omitempty"`
	Sudoer   string `json:"sudoer,omitempty"` // the user of sudo, as the client says
}

// request is a Request on its way to the loop.
type request struct {
	Request
	reload bool // asked for by `lasthop reload`
	by     writer.Person
	reply  chan<- reply
	read   bool // the configurations have been read for it
}

type reply struct {
	apply report.Apply
	err   error
}

// requested does what a user asks of the daemon. With `lasthop apply` what is
// on disk counts as loaded from now on; since NGINX has not loaded it, it
// counts as no load.
func (d *daemon) requested(r request) (report.Apply, error) {
	if r.reload {
		return report.Apply{}, reload(d, r)
	}
	d.fleet.find()
	if err := d.fleet.refresh(r.read); err != nil {
		return report.Apply{}, err
	}
	l, err := d.reconciler.look(d.fleet.listening(all))
	if err != nil {
		return report.Apply{}, err
	}
	if err := l.Fits(r.Expect); err != nil {
		return report.Apply{}, err
	}
	asked := l.Survey
	asked.AddBackground()
	result := report.Apply{Plan: asked.Plan()}
	d.fleet.adopt(time.Now())
	err = d.reconciler.apply(l, r, d.options.line(), &result)
	d.causes.add("lasthop apply")
	d.sync()
	return result, err
}

// reload does what `lasthop reload` asks for. The error says why the settings,
// or a configuration that they name, are refused, or why the sync has failed.
// An NGINX that runs with a broken configuration is a trouble, and no fault of
// the settings. What a sync lacks while a configuration is being read is no
// error.
func reload(d *daemon, r request) error {
	if !r.read {
		if err := d.reloadSettings(r.by); err != nil {
			return err
		}
		d.filesChanged(time.Now())
	}
	err := d.fleet.refresh(true)
	switch {
	case err == errReading:
		return err
	case err == nil || len(d.fleet.settings.Confs) == 0:
		err = d.troubles.of(aboutSync)
	}
	s, failed := settings.Load(d.options.Flags)
	if failed != nil { // it was written again since
		return err
	}
	return errors.Join(err, keepFixed(&s, d.fleet.settings))
}

// line builds the commands that an answer names.
func (o Options) line() settings.Line { return settings.Line{Flags: o.Flags, NetNS: o.NetNS} }

// apply carries out a decision that a user has asked for, and checks that it
// worked.
func (r *reconciler) apply(l *look, q request, line settings.Line,
	result *report.Apply) (err error) {
	r.last = l
	c := writer.Plan(l.Decision, l.Inputs.Policy.Numbers, q.NoDelete)
	c.By = q.by
	result.Diff = c.Diff
	writes := r.kernel.Writes()
	result.Done, err = r.carryOut(c)
	result.Writes = r.kernel.Writes() - writes
	if err != nil || c.Diff.Empty() {
		return err
	}
	h, err := r.writer.ReadBack(c)
	if err == nil {
		result.Checks, err = l.Verify(h, line)
	}
	return err
}
