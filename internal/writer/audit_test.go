package writer

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// syslog is a log daemon's socket. Nothing is read from it but by next.
type syslog struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newSyslog(t *testing.T) *syslog {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &syslog{t, path, c}
}

// next waits for a line and returns its text, "" if none comes.
func (s *syslog) next(within time.Duration) string {
	s.t.Helper()
	b := make([]byte, 4096)
	if err := s.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.t.Fatal(err)
	}
	n, err := s.conn.Read(b)
	if err != nil {
		return ""
	}
	head, text, ok := strings.Cut(string(b[:n]), "]: ")
	if !ok || !strings.HasPrefix(head, "<29>") || !strings.Contains(head, " lasthop[") ||
		!strings.HasSuffix(text, "\n") {
		s.t.Errorf("not a line of syslog: %q", b[:n])
	}
	return strings.TrimSuffix(text, "\n")
}

// TestAuditLines: the log names the person, and a name cannot make a line of
// its own.
func TestAuditLines(t *testing.T) {
	done := []routing.Op{{Group: &routing.LinkGroup{Link: "e\x1b[1m", Group: 76}},
		{Group: &routing.LinkGroup{Link: "eth1", Group: 76}, Delete: true}}
	c := Change{Command: "apply", By: Asker(0, "ann\nroot"), Digest: "sha256:12"}
	want := []string{
		`apply by ann\nroot: 2 changes, digest sha256:12`,
		"ip link set dev \"$(printf 'e\\033\\1331m')\" group 76",
		"ip link set dev eth1 group 0",
		`failed: no\nway`,
	}
	if d := cmp.Diff(want, c.auditLines(done, errors.New("no\nway"))); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	c.Command, c.Cause = "run", "link e\nx is up"
	if got, want := c.auditLines(nil, nil)[0],
		`run (link e x is up) by ann\nroot: 0 changes, digest sha256:12`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPerson: root's claim about the user of sudo is believed. A name is short,
// and makes no line of its own.
func TestPerson(t *testing.T) {
	for _, tt := range []struct {
		uid    int
		sudoer string
		want   Person
	}{
		{0, "", "root"},
		{0, "root", "root"},
		{0, "alice", "alice"},
		{4242424, "", "uid 4242424"},
		{4242424, "alice", "alice via uid 4242424"},
		{0, "a\nb\x1b[2J\u202e", `a\nb\x1b[2J\u202e`},
		{0, strings.Repeat("x", 5000), Person(strings.Repeat("x", 32) + "…")},
	} {
		if got := Asker(tt.uid, tt.sudoer); got != tt.want {
			t.Errorf("user %d, sudo by %q: got %q, want %q", tt.uid, tt.sudoer,
				got, tt.want)
		}
	}
}

// TestAudit: two users that ask one writer, and the writer itself.
func TestAudit(t *testing.T) {
	s := newSyslog(t)
	w := opened(t, newMachine(routing.State{}), Options{Syslog: []string{s.path}})
	here, there := change(routing.State{}, path(1)), change(path(1), routing.State{})
	for _, tt := range []struct {
		c    Change
		by   Person
		want string
	}{
		{here, Asker(0, "alice"), "apply by alice: 3 changes, digest sha256:0123456789abcdef"},
		{there, Asker(0, "bob"), "apply by bob: 3 changes, digest sha256:0123456789abcdef"},
		{here, "", "apply by " + string(Self()) + ": 3 changes, digest sha256:0123456789abcdef"},
	} {
		tt.c.By = tt.by
		done, err := w.Write(tt.c)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{tt.want}
		for _, op := range done {
			want = append(want, op.String())
		}
		for _, want := range want {
			if got := s.next(5 * time.Second); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestAuditRestart: a log daemon that was restarted gets the next line.
func TestAuditRestart(t *testing.T) {
	s := newSyslog(t)
	a := newAudit([]string{s.path})
	a.Put(syslogLines("one")...)
	if got := s.next(5 * time.Second); got != "one" {
		t.Fatalf("got %q", got)
	}
	s.conn.Close()
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.conn = c
	a.Put(syslogLines("two")...)
	if got := s.next(5 * time.Second); got != "two" {
		t.Errorf("got %q", got)
	}
	if lost := a.Close(); lost != 0 {
		t.Errorf("%d lines lost", lost)
	}
}

// TestAuditStream: some log daemons listen on a stream.
func TestAuditStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := newAudit([]string{path})
	a.Put(syslogLines("one", "two")...)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if lost := a.Close(); lost != 0 {
		t.Errorf("%d lines lost", lost)
	}
	b := make([]byte, 1000)
	n, _ := c.Read(b)
	if got := string(b[:n]); !strings.Contains(got, "]: one\n<29>") ||
		!strings.HasSuffix(got, "]: two\n") {
		t.Errorf("got %q", got)
	}
}

// TestAuditStuck: a log that does not read costs its own lines. Neither a write
// nor the end waits for it, the loss is reported once, and the lines come again
// once it reads.
func TestAuditStuck(t *testing.T) {
	s := newSyslog(t)
	m := newMachine(routing.State{})
	w := opened(t, m, Options{Syslog: []string{s.path}})
	turn := func(n int) {
		t.Helper()
		c := change(routing.State{}, path(1))
		if n%2 == 1 {
			c = change(path(1), routing.State{})
		}
		start := time.Now()
		if _, err := w.Write(c); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Fatalf("write %d took %v", n, took)
		}
	}
	n := 0
	for ; w.audit.Lost() == 0; n++ { // the socket's queue is full when lines are lost
		turn(n)
	}
	end := time.Now().Add(20 * time.Second)
	for text := ""; !strings.HasSuffix(text, " audit lines lost"); {
		if text = s.next(100 * time.Millisecond); text == "" {
			turn(n)
			n++
		}
		if time.Now().After(end) {
			t.Fatal("the loss is not told")
		}
	}
	turn(n)
	n++
	last := ""
	for text := s.next(time.Second); text != ""; text = s.next(time.Second) {
		last = text
	}
	if done := w.Memory().Last.Done; last != done[len(done)-1].String() {
		t.Errorf("the last line is %q, want that of the last write", last)
	}
	for w.audit.Lost() == 0 {
		turn(n)
		n++
	}
	start := time.Now()
	err := w.Close()
	if took := time.Since(start); took > 200*time.Millisecond || err == nil ||
		!strings.Contains(err.Error(), "audit lines lost") {
		t.Errorf("the end took %v, %v", took, err)
	}
}
