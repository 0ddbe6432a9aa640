package writer

import (
	"errors"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/hint"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// never is a terminal at which no person types.
type never struct{}

func (never) Read([]byte) (int, error) { select {} }

// long is a time that no test waits for.
const long = time.Hour

// TestTrial: what keeps a change, and what takes it back.
func TestTrial(t *testing.T) {
	broken := errors.New("broken")
	stalled := func() error { select {} }
	shown := func() error { return nil }
	kill := func(s syscall.Signal) func() error {
		return func() error { return syscall.Kill(syscall.Getpid(), s) }
	}
	for _, tt := range []struct {
		name    string
		within  time.Duration
		failed  error
		show    func() error
		answers io.Reader
		want    string // the error, "" if the change is kept
	}{
		{"Enter", long, nil, shown, strings.NewReader("\n"), ""},
		{"yes", long, nil, shown, strings.NewReader(" Yes \n"), ""},
		{"y", long, nil, shown, strings.NewReader("y\nmore"), ""},
		{"another answer", long, nil, shown, strings.NewReader("no\n"), "not confirmed"},
		{"no answer", time.Millisecond, nil, shown, never{}, "not confirmed in time"},
		{"the end of input", 50 * time.Millisecond, nil, shown, strings.NewReader(""), "not confirmed in time"},
		{"half a line", 50 * time.Millisecond, nil, shown, strings.NewReader("y"), "not confirmed in time"},
		{"a stalled pipe", time.Millisecond, nil, stalled, strings.NewReader("y\n"), "not confirmed in time"},
		{"a report that cannot be printed", long, nil, func() error { return broken }, strings.NewReader("y\n"), "that did not work"},
		{"a failure", long, broken, shown, strings.NewReader("y\n"), "that did not work"},
		{"a failure and a stalled pipe", long, broken, stalled, strings.NewReader("y\n"), "that did not work"},
		{"Ctrl-C", long, nil, kill(syscall.SIGINT), never{}, "interrupted by interrupt"},
		{"a terminal that is gone", long, nil, kill(syscall.SIGHUP), never{}, "interrupted by hangup"},
		{"SIGTERM", long, nil, kill(syscall.SIGTERM), never{}, "interrupted by terminated"},
		{"a pipe without a reader", long, nil, kill(syscall.SIGPIPE), never{}, "interrupted by broken pipe"},
		{"Ctrl-\\", long, nil, kill(syscall.SIGQUIT), never{}, "interrupted by quit"},
		{"Ctrl-Z", long, nil, kill(syscall.SIGTSTP), never{}, "interrupted by stopped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			talk := Talk{Show: tt.show, Ask: func() {}, Answers: tt.answers}
			err := tried(t, tt.within, tt.failed, talk, tt.want == "")
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			want := tt.want + ": lasthop undid the change, all is as before"
			if err == nil || !strings.Contains(err.Error(), want) ||
				hint.Of(err) == "" {
				t.Errorf("got %v, want %s", err, want)
			}
			if tt.want == "that did not work" && !errors.Is(err, broken) {
				t.Errorf("it does not say what: %v", err)
			}
		})
	}
}

// tried makes a change on trial, and looks at what is left of it.
func tried(t *testing.T, within time.Duration, failed error, talk Talk, kept bool) error {
	t.Helper()
	t.Cleanup(func() { signal.Reset() })
	m := newMachine(path(1))
	trial := open(t, m, Options{}).Try(within)
	if _, err := trial.Write(change(path(1), path(2))); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := trial.End(failed, talk)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	want := path(1)
	if kept {
		want = path(2)
	}
	if d := cmp.Diff(want.String(), m.owned()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	return err
}

// TestTrialSignalInWrite: a signal during the write waits until the write is
// made, and then takes it back.
func TestTrialSignalInWrite(t *testing.T) {
	t.Cleanup(func() { signal.Reset() })
	m := newMachine(routing.State{})
	trial := open(t, m, Options{}).Try(long)
	m.before = func(routing.Op) error {
		m.before = nil
		return syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
	}
	done, err := trial.Write(change(routing.State{}, path(1)))
	if err != nil || len(done) != 3 {
		t.Errorf("%d writes, %v, want 3", len(done), err)
	}
	err = trial.End(err,
		Talk{Show: func() error { return nil }, Ask: func() {}, Answers: never{}})
	if err == nil || !strings.Contains(err.Error(),
		"interrupted by terminated: lasthop undid the change") ||
		m.owned() != "" {
		t.Errorf("got %v, and the kernel holds\n%s", err, m.owned())
	}
}

// TestTrialStuckLog: a log daemon that does not read keeps nothing from going
// back.
func TestTrialStuckLog(t *testing.T) {
	t.Cleanup(func() { signal.Reset() })
	s := newSyslog(t)
	m := newMachine(routing.State{})
	w := opened(t, m, Options{Syslog: []string{s.path}})
	for w.audit.Lost() == 0 {
		w.audit.Put(syslogLines("fill")...)
	}
	start := time.Now()
	trial := w.Try(time.Millisecond)
	_, err := trial.Write(change(routing.State{}, path(1)))
	err = trial.End(err,
		Talk{Show: func() error { return nil }, Ask: func() {}, Answers: never{}})
	if err == nil || !strings.Contains(err.Error(),
		"not confirmed in time: lasthop undid the change") ||
		m.owned() != "" {
		t.Errorf("got %v, and the kernel holds\n%s", err, m.owned())
	}
	w.Close()
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestTrialHalfWay: a write that fails half-way goes back. A write that fails
// at the beginning has nothing to undo, and asks no question.
func TestTrialHalfWay(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails func(routing.Op) bool
		want  string
	}{
		{"half-way", func(op routing.Op) bool { return op.Rule != nil && !op.Delete },
			"that did not work: lasthop undid the change, all is as before"},
		{"at once", func(routing.Op) bool { return true }, ""},
	} {
		t.Cleanup(func() { signal.Reset() })
		m := newMachine(path(1))
		trial := open(t, m, Options{}).Try(long)
		broken := errors.New("broken")
		m.before = func(op routing.Op) error {
			if tt.fails(op) {
				return broken
			}
			return nil
		}
		_, failed := trial.Write(change(path(1), path(2)))
		shown := false
		err := trial.End(failed, Talk{Show: func() error { shown = true; return nil },
			Ask: func() { t.Error("it asks") }, Answers: never{}})
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), tt.want) ||
			shown != (tt.want != "") {
			t.Errorf("%s: got %v, shown %t, want %s", tt.name, err, shown, tt.want)
		}
		if d := cmp.Diff(path(1).String(), m.owned()); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

// TestTrialGoesBackFromAnything: nothing may be left to undo, another program
// may have changed what lasthop owns meanwhile, and a request may fail once.
func TestTrialGoesBackFromAnything(t *testing.T) {
	for _, tt := range []struct {
		name      string
		meanwhile func(*machine)
		want      string
	}{
		{"nothing left to undo", func(m *machine) { m.Write(routing.Compare(path(2), path(1))) }, "lasthop undid the change, all is as before"},
		{"all gone", func(m *machine) { m.Write(routing.Compare(path(2), routing.State{})) }, "lasthop undid the change, all is as before"},
		{"a read fails once", func(m *machine) {
			m.reads = func() error { m.reads = nil; return errors.New("interrupted") }
		}, "lasthop undid the change, all is as before"},
		{"a write fails once", func(m *machine) {
			m.before = func(routing.Op) error {
				m.before = nil
				return errors.New("interrupted")
			}
		}, "lasthop undid the change, all is as before"},
		{"no read works", func(m *machine) { m.reads = func() error { return errors.New("no") } },
			"not confirmed, and the undo failed: no"},
		{"no write works", func(m *machine) { m.before = func(routing.Op) error { return errors.New("no") } },
			"not confirmed, and lasthop could not undo all of it"},
	} {
		t.Cleanup(func() { signal.Reset() })
		m := newMachine(path(1))
		trial := open(t, m, Options{}).Try(long)
		if _, err := trial.Write(change(path(1), path(2))); err != nil {
			t.Fatal(err)
		}
		tt.meanwhile(m)
		err := trial.End(nil, Talk{Show: func() error { return nil }, Ask: func() {},
			Answers: strings.NewReader("no\n")})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if got := m.owned(); strings.HasPrefix(tt.want, "lasthop undid") &&
			got != path(1).String() {
			t.Errorf("%s: the kernel holds\n%s", tt.name, got)
		}
	}
}

// TestTrialAudit: going back is audited as what it is, by the same person.
func TestTrialAudit(t *testing.T) {
	t.Cleanup(func() { signal.Reset() })
	s := newSyslog(t)
	trial := open(t, newMachine(routing.State{}), Options{Syslog: []string{s.path}}).Try(long)
	if _, err := trial.Write(change(routing.State{}, path(1))); err != nil {
		t.Fatal(err)
	}
	trial.End(nil, Talk{Show: func() error { return nil }, Ask: func() {},
		Answers: strings.NewReader("no\n")})
	var heads []string
	for range 8 {
		if text := s.next(5 * time.Second); strings.Contains(text, " by ") {
			heads = append(heads, text)
		}
	}
	want := []string{"apply by alice: 3 changes, digest sha256:0123456789abcdef",
		"apply went back by alice: 3 changes, digest sha256:0123456789abcdef"}
	if d := cmp.Diff(want, heads); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestNoTrial: without a time there is no question, and signals do what they
// always do.
func TestNoTrial(t *testing.T) {
	m := newMachine(routing.State{})
	trial := open(t, m, Options{}).Try(0)
	if _, err := trial.Write(change(routing.State{}, path(1))); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, shown := range []error{nil, broken} {
		err := trial.End(nil, Talk{Show: func() error { return shown },
			Ask: func() { t.Error("it asks") }, Answers: never{}})
		if !errors.Is(err, shown) || m.owned() != path(1).String() {
			t.Errorf("got %v, and the kernel holds\n%s", err, m.owned())
		}
	}
}
