package daemon

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"lasthop/internal/survey"
	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// reconciler makes the kernel as the decision wants it: read, decide, compare,
// write, read back. It belongs to the loop.
type reconciler struct {
	// Set at the start.
	kernel   *host.Kernel
	netns    string // as the user named the namespace
	writer   *writer.Writer
	log      *slog.Logger
	troubles *troubles
	agenda   agenda
	healer   *healer

	events   int              // counts what may have changed the host: its events, and writes
	last     *look            // what is in force; nil before the first sync
	ready    routing.Decision // for what is on disk, as if NGINX had loaded it
	needless map[needless]time.Time
	failures int // syncs in a row that failed
	syncs    int
	errors   int
	idle     bool // it was logged that no listener needs a path
}

// look is what a decision was made from, and the decision.
type look struct {
	survey.Survey
	events int // that had been counted when the host was read
	concern
}

// want is what a sync should reach.
type want struct {
	*listening
	keep  bool   // nothing is removed
	cause string // of the sync, in words
}

const (
	retryFirst = time.Second
	retryLast  = 10 * time.Second
	rounds     = 3 // of a sync; it starts over because another program writes, too
)

// hostChanged records that the host may have changed since it was read.
func (r *reconciler) hostChanged(e host.Event) {
	r.events++
	if r.last != nil {
		r.last.note(e)
	}
	r.healer.note(e)
}

// sync makes the kernel as the decision wants it, and reports whether it is.
func (r *reconciler) sync(w want) bool {
	r.syncs++
	err := r.reach(w, time.Now())
	if err == nil { // else the missing objects stay missing, and restore needs to know them
		r.healer.looked()
	}
	if r.troubles.note(aboutSync, err) {
		r.failures = 0
		r.troubles.note(aboutNetlink, nil)
		delete(r.agenda, doRetry)
		return true
	}
	r.errors++
	r.agenda[doRetry] = time.Now().Add(min(retryFirst<<min(r.failures, 10), retryLast))
	r.failures++
	if socketBroken(err) {
		r.troubles.note(aboutNetlink, r.kernel.Reopen())
	}
	return false
}

func (r *reconciler) reach(w want, now time.Time) error {
	for range rounds {
		l, err := r.look(w.listening)
		if err != nil {
			return err
		}
		r.keepNeedless(&l.Decision, now)
		if w.keep {
			l.Decision.Diff = l.Decision.Diff.Additions()
		}
		r.last = l
		if done, err := r.settle(w, now); done || err != nil {
			return err
		}
	}
	return errors.New("another program changes rules or routes all the time: the kernel " +
		"does not hold what lasthop wrote")
}

// look reads the host and decides. What is in force stays in force until the
// caller replaces it.
func (r *reconciler) look(w *listening) (*look, error) {
	l := &look{events: r.events, Survey: survey.Survey{Taken: time.Now(),
		Place:    survey.Live(r.kernel, r.netns, func(string) {}),
		Settings: *w.settings, NGINX: w.nginx, Inputs: w.inputs}}
	h, err := r.kernel.Read()
	if err != nil {
		return nil, err
	}
	l.Inputs.Host = h
	if r.last != nil {
		l.Decision, l.own = r.last.Decision, r.last.own
	}
	l.Decision, err = l.Decision.Renew(l.Inputs)
	l.concern = concernOf(l.Decision, l.own)
	return l, err
}

// settle carries out what is in force, and reports whether there was nothing to
// do. The next round checks what was just written.
func (r *reconciler) settle(w want, now time.Time) (bool, error) {
	d := r.last.Decision
	if len(w.inputs.Listeners) == 0 && len(d.Owned.Rules) > 0 {
		return true, survey.NoListener(w.nginx, true,
			"lasthop knows no listener: what is installed stays")
	}
	diff := r.healer.admit(d.Diff, r.writer.Memory().Installed, now)
	err := r.write(diff, w.cause)
	if err != nil || !diff.Empty() {
		return false, err
	}
	r.troubles.note(aboutNames, r.writer.NameTables(r.last.NamedPaths()))
	r.sayIdle(d.Plan)
	return true, nil
}

// write makes writes of what is in force. Without any, what is in force counts
// as installed, including what is held back: writing it later is a heal, too.
func (r *reconciler) write(diff routing.Diff, cause string) error {
	_, err := r.carryOut(r.change(diff, cause))
	return err
}

// change returns the writer's change for a diff towards what is in force.
func (r *reconciler) change(diff routing.Diff, cause string) writer.Change {
	c := writer.Plan(r.last.Decision, r.last.Inputs.Policy.Numbers, false)
	c.Command, c.Cause, c.By, c.Diff = "run", cause, "", diff
	c.Heals = r.healer.heals(diff, r.writer.Memory().Installed)
	c.Suspect = r.healer.suspects
	return c
}

// restore puts back what is missing of what was installed last, from memory: on
// a host of 100,000 routes a look takes longer than replies can wait. It
// reports whether the following look may take its time. If links have gone
// since the last look, the routes do not fit any more, and the next look
// handles them.
func (r *reconciler) restore(cause string, now time.Time) (ok bool) {
	l, memory := r.last, r.writer.Memory().Installed
	if l == nil || memory.Empty() || !r.healer.missing {
		return false
	}
	owned, err := r.kernel.ReadOwned(l.Inputs.Policy.Numbers)
	if err != nil {
		return false
	}
	diff := routing.Compare(owned, memory).Additions()
	if l.moved {
		diff = routing.Diff{AddRules: diff.AddRules}
	}
	if diff = r.healer.admit(diff, memory, now); !diff.Empty() {
		c := r.change(diff, cause)
		c.Before, c.After = owned, memory
		_, err = r.carryOut(c)
	}
	r.healer.looked()
	return err == nil && !l.moved
}

// carryOut makes a change. Its writes count as an event: the host has changed
// since it was read.
func (r *reconciler) carryOut(c writer.Change) ([]routing.Op, error) {
	if !c.Diff.Empty() {
		r.events++
	}
	r.kernel.Remember(c.Grouped)
	return r.writer.Write(c)
}

// sayIdle logs once that nothing is installed. Findings say what is missing for
// the listeners that need something.
func (r *reconciler) sayIdle(p routing.Plan) {
	idle := len(p.State.Rules) == 0
	if idle && !r.idle && len(p.Outcomes) > 0 {
		message := "nothing to do: no listener needs a path"
		if slices.ContainsFunc(p.Outcomes, routing.Outcome.Asks) {
			message = "nothing to do yet: lasthop status says what is missing"
		}
		r.log.Info(message, "listeners", len(p.Outcomes))
	}
	r.idle = idle
}

// inputs joins what is listened on with the present host: the one that was read
// last, if nothing can have changed it since. Otherwise it returns false.
func (r *reconciler) inputs(l *listening) (routing.Inputs, bool) {
	if r.last == nil || r.last.events != r.events {
		return routing.Inputs{}, false
	}
	in := l.inputs
	in.Host = r.last.Inputs.Host
	return in, true
}

// prepare makes the decision for what is on disk, for the moment when NGINX
// loads it. If the host is not known, the sync that reads it comes first. It
// leaves an error to the sync after the load.
func (r *reconciler) prepare(l *listening) {
	if in, ok := r.inputs(l); ok && !r.ready.Holds(in) {
		r.ready, _ = routing.Decide(in)
	}
}

// anticipate writes what the prepared decision adds, if it holds for the
// present inputs, and reports whether it does. The following sync does the
// other writes, and reports what went wrong.
func (r *reconciler) anticipate(w want) bool {
	ready := r.ready
	r.ready = routing.Decision{} // it is in force from now on, or was made for another load
	in, ok := r.inputs(w.listening)
	if !ok || !ready.Holds(in) {
		return false
	}
	d, err := ready.Renew(in)
	if err != nil {
		return false
	}
	l := *r.last
	l.Settings, l.NGINX, l.Inputs, l.Decision = *w.settings, w.nginx, in, d
	l.concern = concernOf(d, l.own)
	r.last = &l
	if add := d.Diff.Additions(); len(in.Listeners) > 0 && !add.Empty() {
		_ = r.write(add, w.cause)
	}
	return true
}

// steady reports whether the kernel still holds what was installed. No event
// reports what the kernel drops with a link or an address.
func (r *reconciler) steady() bool {
	if r.last == nil {
		return false
	}
	owned, err := r.kernel.ReadOwned(r.last.Inputs.Policy.Numbers)
	steady := err == nil && routing.Compare(owned, r.writer.Memory().Installed).Empty()
	if steady {
		r.syncs++
	}
	return steady
}

// report adds to the status what the reconciler knows.
func (r *reconciler) report(s *report.Status) {
	m := r.writer.Memory()
	s.Last = m.Last
	s.Counts = report.Counts{Syncs: r.syncs, Errors: r.errors, Changes: m.Changes,
		Heals: m.Heals, Fights: r.healer.steps}
	if l := r.last; l != nil {
		d := l.Decision
		s.Head, s.Synced, s.Plan, s.Diff = l.Head(), l.Taken, d.Plan, d.Diff
		s.Installed, s.Digest = d.Owned, d.Digest()
	}
}

// socketBroken reports whether an error may come from the state of a socket,
// which a new one does not have. What the kernel refuses, it refuses on any
// socket.
func socketBroken(err error) bool {
	for _, broken := range []error{unix.ENOBUFS, unix.EBADF, unix.ENOTSOCK, unix.ECONNREFUSED,
		unix.ECONNRESET, unix.ENOTCONN, unix.EPIPE, unix.EAGAIN, unix.ETIMEDOUT,
		unix.ESHUTDOWN,
		net.ErrClosed, os.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}
