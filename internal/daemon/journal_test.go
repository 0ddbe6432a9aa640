package daemon

import (
	"bytes"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/journal"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// TestRunJournal: the journal has each change once, with what was done, why,
// for which user, by which plan, and what kind of line it is. Standard error
// and the system's log have nothing.
func TestRunJournal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.logOf()
	s.start(func(o *Options) {
		o.Journal = journal.Place{Stream: true, Socket: s.File("log")}
		o.Syslog = []string{s.File("log")}
	})
	s.loop(func() { // the loop gets no event of a file meanwhile
		s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443;")
		if a, err := s.d.requested(request{by: "ann"}); err != nil || len(a.Done) == 0 {
			t.Errorf("%d writes, %v", len(a.Done), err)
		}
	})
	s.quiet()
	want, changes := s.owned(), s.status().Counts.Changes
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	ops, causes, all := map[string]int{}, map[string]bool{}, 0
	for _, entry := range entriesOf(t, c) {
		if !strings.Contains(entry, "\nMESSAGE_ID="+string(journal.Changed)+"\n") {
			continue
		}
		all++
		field := func(name string) string {
			m := regexp.MustCompile("(?m)^LASTHOP_" + name + "=(.*)$").
				FindStringSubmatch(entry)
			return slices.Concat(m, []string{"", ""})[1]
		}
		ops[field("OP")]++
		causes[field("CAUSE")+", "+field("BY")] = strings.HasPrefix(field("DIGEST"),
			"sha256:")
	}
	for _, op := range want {
		if ops[op] != 1 {
			t.Errorf("%d lines say %s, want one", ops[op], op)
		}
	}
	if d := cmp.Diff(map[string]bool{"start, ": true, "lasthop apply, ann": true}, causes); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if log := s.log.Take(); all != changes || log != "" {
		t.Errorf("%d lines for %d changes; standard error:\n%s", all, changes, log)
	}
}

// entriesOf reads what waits in the socket of a journal.
func entriesOf(t *testing.T, c net.Conn) (out []string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil {
			return out
		}
		if !bytes.HasPrefix(buf[:n], []byte("MESSAGE=")) {
			t.Errorf("no entry of the journal: %q", buf[:n])
		}
		out = append(out, string(buf[:n]))
	}
}

// TestNotices: the log has each warning and error that stays, once, and its
// end; and not what comes and goes, or informs.
func TestNotices(t *testing.T) {
	var b bytes.Buffer
	log := journal.Open(journal.Place{Stream: true}, journal.Text{Writer: &b})
	n := notices{log.Logger, agenda{}, map[notice]*told{}}
	start := time.Unix(1e9, 0)
	find := func(s routing.Severity, code routing.Code, count int) routing.Finding {
		return s.Finding(code, "eth9", "%d of them", count).Advise("do this")
	}
	for _, tt := range []struct {
		at       time.Duration
		findings []routing.Finding
		want     string
	}{
		{0, []routing.Finding{find(routing.Warning, "a", 1), find(routing.Info, "b", 1), find(routing.Error, "c", 1)}, ""},
		{settled - 1, []routing.Finding{find(routing.Warning, "a", 2), find(routing.Info, "b", 1)}, ""},
		{settled, []routing.Finding{find(routing.Warning, "a", 2), find(routing.Info, "b", 1), find(routing.Error, "c", 1)},
			"<4>level=WARN msg=\"2 of them\" code=a subject=eth9 hint=\"do this\"\n"},
		{2 * settled, []routing.Finding{find(routing.Warning, "a", 3), find(routing.Error, "c", 1)},
			"<3>level=ERROR msg=\"1 of them\" code=c subject=eth9 hint=\"do this\"\n"},
		{2 * settled, []routing.Finding{find(routing.Error, "c", 1)}, "<6>level=INFO msg=\"good again\" code=a subject=eth9\n"},
		{3 * settled, []routing.Finding{find(routing.Error, "c", 1)}, ""},
		{3 * settled, nil, "<6>level=INFO msg=\"good again\" code=c subject=eth9\n"},
	} {
		n.note(tt.findings, start.Add(tt.at))
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("at %v: -want +got\n%s", tt.at, d)
		}
		b.Reset()
	}
	if due, ok := n.agenda[doTell]; !ok || !due.Equal(start.Add(settled)) {
		t.Errorf("it looks again at %v", due)
	}
	var many []routing.Finding
	for i := range 3 * mostTold {
		many = append(many, routing.Warning.Finding("a", string(rune('a'+i)), "x"))
	}
	n.note(many, start)
	n.note(many, start.Add(settled))
	if got := strings.Count(b.String(), "\n"); got != mostTold+1 ||
		!strings.Contains(b.String(), "lasthop status\" more=40\n") {
		t.Errorf("%d lines:\n%s", got, b.String())
	}
}
