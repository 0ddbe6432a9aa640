package writer

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/internal/nstest"
	"lasthop/report"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// machine is a kernel in memory. Like the kernel it makes no fuss of adding
// what is there and of deleting what is not there.
type machine struct {
	mu     sync.Mutex
	routes map[routing.RouteKey]routing.Route
	rules  map[routing.Rule]bool
	groups map[string]int
	before func(routing.Op) error // called before each write; nil does nothing
	reads  func() error           // called before each read; nil does nothing
}

func newMachine(s routing.State) *machine {
	m := &machine{routes: map[routing.RouteKey]routing.Route{}, rules: map[routing.Rule]bool{},
		groups: map[string]int{}}
	if _, err := m.Write(routing.Compare(routing.State{}, s)); err != nil {
		panic(err)
	}
	return m
}

func (m *machine) Write(d routing.Diff) ([]routing.Op, error) { return routing.Execute(d, m.do) }

func (m *machine) do(op routing.Op) error {
	if m.before != nil {
		if err := m.before(op); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case op.Route != nil && op.Delete:
		delete(m.routes, op.Route.RouteKey)
	case op.Route != nil:
		m.routes[op.Route.RouteKey] = *op.Route
	case op.Rule != nil && op.Delete:
		delete(m.rules, *op.Rule)
	case op.Rule != nil:
		m.rules[*op.Rule] = true
	case op.Delete:
		delete(m.groups, op.Group.Link)
	default:
		m.groups[op.Group.Link] = op.Group.Group
	}
	return nil
}

func (m *machine) Read() (h routing.Host, err error) {
	if m.reads != nil {
		err = m.reads()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, link := range slices.Sorted(maps.Keys(m.groups)) {
		h.Links = append(h.Links, routing.Link{Name: link, Group: m.groups[link]})
	}
	h.Routes = slices.Collect(maps.Values(m.routes))
	h.Rules = slices.Collect(maps.Keys(m.rules))
	return h, err
}

// owned is what lasthop owns, as text.
func (m *machine) owned() string {
	m.mu.Lock()
	reads := m.reads
	m.reads = nil
	m.mu.Unlock()
	h, _ := m.Read()
	m.mu.Lock()
	m.reads = reads
	m.mu.Unlock()
	return routing.Owned(h, numbers).String()
}

var numbers = routing.DefaultNumbers

// path is what lasthop owns for a path by a link, number n.
func path(n int) routing.State {
	link, table := fmt.Sprint("eth", n), numbers.TableFirst+uint32(n)
	prefix := netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", n))
	return routing.State{
		Routes: []routing.Route{{RouteKey: routing.RouteKey{Table: table,
			Dst: routing.IPv4.All()},
			Type:     routing.Unicast,
			Protocol: numbers.Protocol, Hops: []routing.Hop{{Link: link, Via: prefix.Addr().Next()}}}},
		Rules: []routing.Rule{{Priority: numbers.Base + 3, From: prefix, Table: table,
			Protocol: numbers.Protocol,
			Family:   routing.IPv4, Action: routing.ToTable}},
		Groups: []routing.LinkGroup{{Link: link, Group: numbers.Group}},
	}
}

// change is one from a state to another.
func change(before, after routing.State) Change {
	return Change{Command: "apply", Numbers: numbers, Before: before, After: after,
		Diff: routing.Compare(before, after), Digest: "sha256:0123456789abcdef",
		By: "alice"}
}

// logs is a log that is read while it is written.
type logs struct{ nstest.Log }

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == journal.EventKey ||
				a.Key == journal.DigestKey {
				return slog.Attr{}
			}
			return a
		}}))
}

// open opens a writer that ends with the test.
func open(t *testing.T, m Machine, o Options) *Writer {
	t.Helper()
	w := opened(t, m, o)
	t.Cleanup(func() { w.Close() })
	return w
}

// opened opens a writer that the test closes. Without a socket in o it audits
// to none.
func opened(t *testing.T, m Machine, o Options) *Writer {
	t.Helper()
	if o.RunDir == "" {
		o.RunDir = filepath.Join(t.TempDir(), "run")
	}
	if o.Syslog == nil {
		o.Syslog = []string{filepath.Join(o.RunDir, "no-log")}
	}
	w, err := Open(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWrite(t *testing.T) {
	var l logs
	m := newMachine(path(1))
	w := open(t, m, Options{Log: l.logger()})
	c := change(path(1), path(2))
	c.Cause = "reload of NGINX 4711"
	done, err := w.Write(c)
	if err != nil || len(done) != 6 {
		t.Fatalf("%d writes, %v, want 6", len(done), err)
	}
	if d := cmp.Diff(path(2).String(), m.owned()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if _, err := w.ReadBack(c); err != nil {
		t.Error(err)
	}
	got := w.Memory()
	if got.Last.Time.IsZero() {
		t.Error("the last change has no time")
	}
	got.Last.Time = got.Last.Time.Truncate(1 << 62)
	want := Memory{Installed: path(2), Changes: 6,
		Last: report.Change{Time: got.Last.Time, Cause: "reload of NGINX 4711", Done: done}}
	if d := cmp.Diff(want.Installed.String(), got.Installed.String()); d != "" ||
		want.Changes != got.Changes || want.Heals != got.Heals ||
		want.Last.Cause != got.Last.Cause {
		t.Errorf("it remembers %+v, want %+v", got, want)
	}
	first := `level=INFO msg=changed op="ip route append 0.0.0.0/0`
	if text := l.String(); strings.Count(text, "\n") != 6 ||
		strings.Count(text, `cause="reload of NGINX 4711" by=alice`+"\n") != 6 {
		t.Errorf("the log is not a line for each write (%s...):\n%s", first, text)
	}
}

// TestWriteNothing: what the kernel holds already is remembered as installed.
func TestWriteNothing(t *testing.T) {
	var l logs
	w := open(t, newMachine(path(1)), Options{Log: l.logger()})
	if _, err := w.Write(Change{Command: "run", After: path(1)}); err != nil {
		t.Fatal(err)
	}
	got := w.Memory()
	if got.Installed.String() != path(1).String() || !got.Last.Time.IsZero() ||
		got.Changes != 0 || l.String() != "" {
		t.Errorf("it remembers %+v, and logs %q", got, l.String())
	}
}

// TestHeals: what is put back and what is new are distinguished.
func TestHeals(t *testing.T) {
	var l logs
	w := open(t, newMachine(routing.State{}), Options{Log: l.logger()})
	c := change(routing.State{}, path(1))
	asked := 0
	c.By, c.Cause = "", "route deleted"
	c.Suspect = func() string { asked++; return "systemd-networkd?" }
	ops := c.Diff.Ops()
	c.Heals = map[string]bool{ops[0].String(): true, ops[1].String(): false}
	if _, err := w.Write(c); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(
		`level=WARN msg="deleted by another program, restored" op=%q suspect=systemd-networkd?
level=INFO msg="gone or changed, restored" op=%q cause="route deleted"
level=INFO msg=changed op=%q cause="route deleted"
`, ops[0], ops[1], ops[2])
	if d := cmp.Diff(want, l.String()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if got := w.Memory().Heals; got != 2 || asked != 1 {
		t.Errorf("%d heals, asked for suspects %d times, want 2 and once", got, asked)
	}
}

// TestWriteFails: what was installed before stays remembered, and so is the
// failure.
func TestWriteFails(t *testing.T) {
	m := newMachine(path(1))
	w := open(t, m, Options{})
	w.Write(Change{After: path(1)})
	m.before = func(op routing.Op) error {
		if op.Rule != nil {
			return errors.New("no")
		}
		return nil
	}
	done, err := w.Write(change(path(1), path(2)))
	if err == nil || len(done) != 2 {
		t.Errorf("%d writes and %v, want 2 and an error", len(done), err)
	}
	if got := w.Memory(); got.Installed.String() != path(1).String() ||
		got.Last.Error != err.Error() || got.Changes != 2 {
		t.Errorf("it remembers %+v", got)
	}
}

// TestReadBack: it sees what another program undoes immediately, except for
// deletions that were left out.
func TestReadBack(t *testing.T) {
	both := path(1)
	both.Routes, both.Rules, both.Groups = append(both.Routes, path(2).Routes...),
		append(both.Rules, path(2).Rules...), append(both.Groups, path(2).Groups...)
	for _, tt := range []struct {
		name    string
		there   routing.State
		addOnly bool
		ok      bool
	}{
		{"as it should be", path(2), false, true},
		{"undone", path(1), false, false},
		{"not deleted", both, false, false},
		{"not deleted on purpose", both, true, true},
		{"undone, nothing was to be deleted", path(1), true, false},
	} {
		c := change(path(1), path(2))
		c.AddOnly = tt.addOnly
		if _, err := open(t, newMachine(tt.there),
			Options{}).ReadBack(c); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestLock(t *testing.T) {
	o := Options{RunDir: filepath.Join(t.TempDir(), "run"), Inode: 4711}
	w := opened(t, newMachine(routing.State{}), o)
	if _, err := Open(nil, o); !errors.Is(err, ErrLocked) ||
		!strings.Contains(hint.Of(err), "netns-4711.lock") {
		t.Errorf("a second writer: %v", err)
	}
	other := o
	other.Inode = 1
	open(t, newMachine(routing.State{}), other)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(nil, o)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.Close()
}

func TestKeepUndo(t *testing.T) {
	o := Options{RunDir: filepath.Join(t.TempDir(), "run")}
	c := change(path(1), path(2))
	p, err := open(t, newMachine(path(1)), o).KeepUndo(
		report.Plan{Diff: c.Diff, Digest: c.Digest}, routing.Compare(path(2), path(1)))
	if err != nil {
		t.Fatal(err)
	}
	if want := o.RunDir + "-undo/undo-0123456789ab.sh"; p != want {
		t.Errorf("kept at %s, want %s", p, want)
	}
	text, err := os.ReadFile(p)
	if err != nil || !strings.Contains(string(text), "undo() {") {
		t.Errorf("%v, the script is\n%s", err, text)
	}
}
