package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/report"

	"github.com/google/go-cmp/cmp"
)

// watched starts a Watch of the server's daemon, whether one runs or not.
func (s *server) watched(format string) (*nstest.Log, func() error) {
	out, ended := &nstest.Log{}, make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	client := Client{SocketPath(s.File("run"), s.kernel.Inode())}
	go func() { ended <- client.Watch(ctx, out, format, report.Style{}) }()
	return out, func() error { cancel(); return <-ended }
}

// TestWatch: each change writes a line of JSON, and nothing is written without
// a change. A restart of the daemon is a change.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	s.quiet()
	out, end := s.watched("json")
	lines := func(n int) func() bool {
		return func() bool { return strings.Count(out.String(), "\n") >= n }
	}
	s.Until("the first line", lines(1))
	s.loop(func() { s.d.sync() }) // no change
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443;")
	s.Until("the edit", func() bool {
		return strings.Contains(last(out.String()), "not-loaded")
	})
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.Until("the end of the daemon", func() bool {
		return strings.Contains(last(out.String()), `"wrong":["not running: no lasthop `)
	})
	s.start()
	s.Until("another daemon", func() bool {
		return strings.HasPrefix(last(out.String()), `{"version":1,"kind":"status"`) &&
			strings.Contains(last(out.String()), `"in_sync":true`)
	})
	if err := end(); err != nil {
		t.Error(err)
	}
	var got []bool // in sync, each change of it
	for line := range strings.Lines(out.String()) {
		s.valid("status", line)
		var doc struct {
			InSync bool `json:"in_sync"`
		}
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatal(err)
		}
		got = append(got, doc.InSync)
	}
	if d := cmp.Diff([]bool{true, false, true}, slices.Compact(got)); d != "" {
		t.Errorf("in sync: -want +got\n%s", d)
	}
}

func last(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestWatchCommand: lasthop status --watch goes on without a daemon, shows one
// that starts, and ends at Ctrl-C with exit code 0.
func TestWatchCommand(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "status", "-w", "--netns", s.Path, "--run-dir", s.File("run"))
	out, errs := &nstest.Log{}, &bytes.Buffer{}
	c.Stdout, c.Stderr = out, errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	s.Until("no daemon", func() bool {
		return strings.HasPrefix(out.String(), "lasthop: not running, since ")
	})
	s.start()
	s.Until("the daemon", func() bool {
		return strings.Contains(out.String(), "\n\nlasthop: in sync\n")
	})
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil || errs.Len() > 0 {
		t.Errorf("Ctrl-C: %v\n%s", err, errs)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("control sequences where there is no terminal:\n%q", out.String())
	}
}

// TestView: an error in place of the status is shown once, with its start, and
// a status without a change writes no line.
func TestView(t *testing.T) {
	v, first, lines := view{style: report.Style{}}, time.Time{}, bytes.Buffer{}
	well := report.Status{InSync: true}
	looked := report.Status{InSync: true, Synced: time.Unix(9, 0)}
	for i, tt := range []struct {
		status report.Status
		err    error
		state  string
		news   bool
	}{{err: ErrNone, state: "not running", news: true}, {err: ErrNone, state: "not running"},
		{err: errors.New("busy"), state: "no answer", news: true},
		{status: well, news: true}, {status: well}, {status: looked},
		{err: ErrNone, state: "not running", news: true}} {
		news := v.take(tt.status, tt.err)
		if err := v.line(&lines, news); err != nil || news != tt.news {
			t.Errorf("%d: news %t, want %t; %v", i, news, tt.news, err)
		}
		a, _ := v.result.(report.Absence)
		if a.State != tt.state {
			t.Errorf("%d: %+v, want %q", i, v.result, tt.state)
		}
		if i == 0 {
			first = a.Since
		} else if i == 1 && a.Since != first {
			t.Errorf("since %v, want %v", a.Since, first)
		}
	}
	if n := strings.Count(lines.String(), "\n"); n != 4 {
		t.Errorf("%d lines, want 4", n)
	}
}
