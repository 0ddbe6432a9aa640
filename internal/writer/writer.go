// Package writer is the only way to the kernel. apply, clear, going back, the
// daemon's syncs and requests to the daemon all make their changes with one
// Writer, so that all of them do the same things in the same order: hold the
// lock of the network namespace, arm the rollback (Trial), write, log, audit,
// count, remember.
//
// A write waits only for the kernel. A task with a queue sends the lines of the
// system's log. A goroutine writes the file with the names of tables, and the
// caller waits for it only for a limited time. The report and the question of a
// trial are printed while the trial already watches the clock. If one of these
// is stuck, its own lines are lost, and the writes go on.
//
// A Writer and its Trial belong to one goroutine.
package writer

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/report"
	"lasthop/routing"
)

// Machine is what a writer changes: the kernel of one network namespace, or a
// simulated one. Write makes the writes of a diff in an order in which every
// state between is safe, and returns those that it made.
type Machine interface {
	Read() (routing.Host, error)
	Write(routing.Diff) (done []routing.Op, err error)
}

// Options say where a writer works. All paths are of this machine.
type Options struct {
	RunDir string       // of the lock; the undo scripts are kept in RunDir-undo
	Inode  uint64       // of the network namespace
	Names  string       // the directory of names of tables (NamesDir); "" writes none
	Log    *slog.Logger // nil logs nothing
	Syslog []string     // sockets of the system's log; nil is the usual ones
	// Log is the audit, too, and names the user that asked. The system's
	// log gets no lines: it would have each twice.
	Audited bool
	// go on without the lock if there is no room for its file; Tend tries
	// again
	Patient bool
}

// Change is what one call of Write does, and for which user.
type Change struct {
	Command string // "apply", "clear", "run"
	Cause   string // its cause: "reload of NGINX 4711"; "" if the command says it all
	By      Person // the user that asked for it; "" is lasthop itself

	Numbers routing.Numbers
	Before  routing.State // what lasthop owns before the change
	After   routing.State // what it owns after all writes
	Diff    routing.Diff  // the writes
	AddOnly bool          // the diff leaves the deletions between Before and After for later
	Digest  string        // of the plan
	// links that were in lasthop's group before lasthop's first write: kept
	// for `clear` by the first write
	Grouped []routing.LinkGroup

	// Heals are the writes, by their text, that put back what another
	// program deleted or changed; true if the kernel reported the deletion.
	Heals map[string]bool
	// Suspect names the programs that may have done it; Write calls it
	// after the write. nil names none.
	Suspect func() string
}

// Plan returns the change that `apply` makes of a decision, for the user that
// started this process. With addOnly nothing is deleted.
func Plan(d routing.Decision, n routing.Numbers, addOnly bool) Change {
	c := Change{Command: "apply", By: Self(), Numbers: n, Before: d.Owned, After: d.Plan.State,
		Grouped: d.Grouped(), Diff: d.Diff, Digest: d.Digest(), AddOnly: addOnly}
	if addOnly {
		c.Diff = d.Diff.Additions()
	}
	return c
}

// Memory is what a writer remembers of its writes.
type Memory struct {
	Installed routing.State // what the last change without an error left
	Last      report.Change // the last change that had something to write
	Changes   int           // writes made
	Heals     int           // those of them that put something back
}

// Writer makes changes in one network namespace while it holds its lock.
type Writer struct {
	machine Machine
	options Options
	log     *slog.Logger
	lock    *lock
	audit   *journal.Queue // nil if the log is the audit
	naming  chan struct{}  // full while the names of tables are being written
	memory  Memory
	// links that were in lasthop's group before lasthop's first write, and
	// whether that is recorded for `clear`
	grouped    []routing.LinkGroup
	unrecorded error
}

// Open takes the lock of the network namespace. It returns ErrLocked if another
// process has it.
func Open(m Machine, o Options) (*Writer, error) {
	l := newLock(o.RunDir, o.Inode)
	if err := l.take(); err != nil && !(o.Patient && Scarce(err)) {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Writer{machine: m, options: o, log: log, lock: l, naming: make(chan struct{}, 1)}
	if !o.Audited {
		w.audit = newAudit(o.Syslog)
	}
	return w, nil
}

// Close gives the system's log a moment to take what is queued, and releases
// the lock. The error says how many audit lines are lost.
func (w *Writer) Close() error {
	lost := 0
	if w.audit != nil {
		lost = w.audit.Close()
	}
	w.lock.release()
	if lost > 0 {
		return hint.New(fmt.Errorf("%d audit lines lost: the system log does not accept "+
			"them", lost),
			"see whether the log daemon is stuck: systemctl status systemd-journald "+
				"rsyslog")
	}
	return nil
}

// Unaudited returns how many audit lines were lost since the system's log last
// took one.
func (w *Writer) Unaudited() int {
	if w.audit == nil {
		return 0
	}
	return w.audit.Lost()
}

// Memory returns what the writer remembers.
func (w *Writer) Memory() Memory { return w.memory }

// Write makes a change, logs and audits each write with its cause and the user
// that asked, and returns the writes made, all errors joined. A change without
// writes is only remembered as installed.
func (w *Writer) Write(c Change) ([]routing.Op, error) {
	var done []routing.Op
	var err error
	if !c.Diff.Empty() {
		w.recordGroups(c)
		done, err = w.machine.Write(c.Diff)
		w.memory.Last = report.Change{Time: time.Now(), Cause: c.cause(), Done: done}
		if err != nil {
			w.memory.Last.Error = err.Error()
		}
		if w.audit != nil {
			w.audit.Put(syslogLines(c.auditLines(done, err)...)...)
		}
		w.tell(c, done, err)
	}
	if err == nil {
		w.memory.Installed = c.After
		if c.After.Empty() {
			_ = os.Remove(GroupsFile(w.options.RunDir, w.options.Inode))
		}
	}
	return done, err
}

// recordGroups records which links were in lasthop's group before lasthop's
// first write; otherwise `clear` would remove them from it.
func (w *Writer) recordGroups(c Change) {
	w.grouped = c.Grouped
	if w.recorded() && !c.Before.Empty() {
		return
	}
	said := w.unrecorded != nil
	if w.record(); w.unrecorded != nil && !said {
		w.log.Warn("could not record link groups, `lasthop clear` will reset them all",
			"error", w.unrecorded)
	}
}

func (w *Writer) recorded() bool {
	_, err := os.Stat(GroupsFile(w.options.RunDir, w.options.Inode))
	return err == nil
}

func (w *Writer) record() {
	var text strings.Builder
	for _, g := range w.grouped {
		fmt.Fprintln(&text, g)
	}
	w.unrecorded = replaceFile(GroupsFile(w.options.RunDir, w.options.Inode),
		[]byte(text.String()))
}

// Tend makes sure that the files of the run directory are there: the lock, and
// the record of link groups. Another program may have removed them, or the disk
// was full. It costs a few microseconds if they are there. The error names what
// is missing; writing goes on nevertheless.
func (w *Writer) Tend() error {
	err := w.lock.take()
	if errors.Is(err, os.ErrPermission) {
		err = hint.New(err, "create the directory again: systemctl restart lasthop (the "+
			"routes stay)")
	}
	if !w.memory.Installed.Empty() && !w.recorded() {
		w.record()
		if err == nil && w.unrecorded != nil {
			err = fmt.Errorf("record link groups for `lasthop clear`: %w", w.unrecorded)
		}
	}
	return err
}

// GroupsFile returns the path of the record of link groups of a network
// namespace, for routing.Host.Grouped.
func GroupsFile(runDir string, inode uint64) string {
	return filepath.Join(runDir, fmt.Sprintf("netns-%d.groups", inode))
}

// ReadBack reads the host after a write, and makes sure that the kernel holds
// what it should.
func (w *Writer) ReadBack(c Change) (routing.Host, error) {
	h, err := w.machine.Read()
	if err != nil {
		return h, fmt.Errorf("read back: %w", err)
	}
	left := routing.Compare(routing.Owned(h, c.Numbers), c.After)
	if c.AddOnly {
		left = left.Additions()
	}
	if left.Empty() {
		return h, nil
	}
	err = fmt.Errorf("the kernel does not hold what was written: %s", left.Ops()[0])
	return h, hint.New(err, "another program may be changing routes too; run apply again")
}

// cause is what led to a change, in words.
func (c Change) cause() string { return cmp.Or(c.Cause, "lasthop "+c.Command) }

// tell counts and logs the writes that were made, and why a user's change has
// failed. The caller reports why one of lasthop's own has failed.
func (w *Writer) tell(c Change, done []routing.Op, err error) {
	most := 50
	if w.options.Audited {
		most = len(done)
	}
	attrs := []any{"cause", c.cause()}
	if c.By != "" {
		attrs = append(attrs, "by", string(c.By))
	}
	attrs = append(attrs, journal.DigestKey, c.Digest)
	changed, restored := []any{journal.EventKey, journal.Changed},
		[]any{journal.EventKey, journal.Restored}
	if c.By != "" && err != nil {
		w.log.Warn("change failed", slices.Concat([]any{"error", err}, attrs)...)
	}
	var suspect []any
	for n, op := range done {
		deleted, heal := c.Heals[op.String()]
		if heal {
			if w.memory.Heals++; suspect == nil {
				suspect = c.suspect()
			}
		}
		what := []any{"op", op.Command()}
		switch {
		case n > most:
		case n == most:
			w.log.Info("changed",
				slices.Concat([]any{"more", len(done) - most}, attrs, changed)...)
		case deleted:
			w.log.Warn("deleted by another program, restored", slices.Concat(what,
				suspect, restored, []any{journal.DigestKey, c.Digest})...)
		case heal:
			w.log.Info("gone or changed, restored",
				slices.Concat(what, attrs, restored)...)
		default:
			w.log.Info("changed", slices.Concat(what, attrs, changed)...)
		}
	}
	w.memory.Changes += len(done)
}

// suspect is never nil.
func (c Change) suspect() []any {
	if c.Suspect != nil {
		if programs := c.Suspect(); programs != "" {
			return []any{"suspect", programs}
		}
	}
	return []any{}
}
