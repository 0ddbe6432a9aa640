package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"lasthop/report"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// lasthop runs a command line against the server's namespace and returns its
// output and exit code.
func (s *server) lasthop(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code = run(append(args, "--netns", s.Path, "--run-dir", s.path("run")),
		strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// TestStatus: the command says what the daemon does, and how it ends says
// whether all is well.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if _, errs, code := s.lasthop("status"); code != exitFailed ||
		!strings.Contains(errs, "no lasthop runs in this network namespace") ||
		!strings.Contains(errs, "hint: start it") {
		t.Errorf("without a daemon: exit code %d, %s", code, errs)
	}
	s.startNginx()
	s.start()
	out, errs, code := s.lasthop("status")
	if code != exitDone || errs != "" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, part := range []string{"lasthop: in sync", "NGINX (1)", "load 1", "2 workers",
		"Listeners (1): 1 ready", "10.0.1.1, from main's default", "Last change", ", start",
		"lookup 20431", "0 heals"} {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q:\n%s", part, out)
		}
	}
	s.valid("status", s.json("status"))

	s.replace("events {")
	s.until("trouble", func() bool { return !s.d.status().InSync })
	out, _, code = s.lasthop("status")
	if code != exitNotWanted || !strings.Contains(out, "NOT in sync") ||
		!strings.Contains(out, "nginx.conf:1: unexpected end of file") &&
			!strings.Contains(out, "nginx.conf") {
		t.Errorf("with a broken configuration: exit code %d\n%s", code, out)
	}
	s.valid("status", s.json("status"))
}

func (s *server) json(args ...string) string {
	s.t.Helper()
	out, errs, code := s.lasthop(append(args, "-o", "json")...)
	if code == exitFailed {
		s.t.Fatalf("%s: %s", args, errs)
	}
	return out
}

func (s *server) valid(schema, doc string) {
	s.t.Helper()
	c, err := jsonschema.NewCompiler().Compile(filepath.Join("../../docs/schema",
		schema+".json"))
	if err != nil {
		s.t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Validate(value); err != nil {
		s.t.Error(err)
	}
}

// TestOneWriter: while the daemon runs, apply asks it, and what would work
// against it is refused.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.startNginx()
	s.start()
	s.conf("listen 10.0.2.100:80;")
	out, errs, code := s.lasthop("apply", "--expect", "sha256:0")
	if code != exitFailed || !strings.Contains(errs, "another plan than the one expected") ||
		!strings.Contains(errs, "hint: the host or the configuration has changed") ||
		out != "" {
		t.Errorf("another digest: exit code %d, %s%s", code, out, errs)
	}
	before := s.owned()
	doc := s.json("apply")
	s.valid("apply", doc)
	var applied struct{ Done, Checks []any }
	if err := json.Unmarshal([]byte(doc), &applied); err != nil || len(applied.Done) != 4 ||
		len(applied.Checks) != 2 {
		t.Errorf("%d changes and %d checks, want 4 and 2, %v", len(applied.Done),
			len(applied.Checks), err)
	}
	if o := s.owned(); !has(o, "from 10.0.2.") || !has(o, "from 10.0.1.") {
		t.Errorf("what NGINX has loaded and what is on disk are to be served both: %q", o)
	}
	s.reload()
	s.until("the old listener to go", func() bool { return !has(s.owned(), "from 10.0.1.") })
	if out, _, code := s.lasthop("apply"); code != exitDone ||
		!strings.Contains(out, "nothing to do") {
		t.Errorf("a second time: exit code %d, %s", code, out)
	}
	installed := s.owned()
	for _, args := range [][]string{{"apply", "--gateway", "eth1=10.0.1.9"},
		{"apply", "-c", s.path("nginx.conf")}, {"apply", "--confirm", "5s"}, {"clear"},
		{"run", "-c", s.path("nginx.conf")}} {
		out, errs, code := s.lasthop(args...)
		if code != exitFailed || out != "" || args[0] != "run" &&
			!strings.Contains(errs, "hint: systemctl stop lasthop (the routes stay)") {
			t.Errorf("%q: exit code %d, %s%s", args, code, out, errs)
		}
	}
	if d := cmp.Diff(installed, s.owned()); d != "" {
		t.Errorf("a refused command has changed: -before +after\n%s", d)
	}
	if _, _, code := s.lasthop("clear", "--dry-run"); code != exitDone {
		t.Errorf("clear --dry-run: exit code %d", code)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := s.lasthop("clear"); code != exitDone || len(s.owned()) != 0 ||
		len(before) == 0 {
		t.Errorf("after the daemon's end: exit code %d, %s, left: %q", code,
			errs, s.owned())
	}
}

// asked is a daemon that answers as it is told.
type asked struct {
	report.Status
	apply report.Apply
	err   error
	got   *syncRequest
}

func (a asked) status() report.Status { return a.Status }
func (a asked) request(_ context.Context, r syncRequest) (report.Apply, error) {
	*a.got = r
	return a.apply, a.err
}

// TestLocalHandler: who may ask what, and how errors travel.
func TestLocalHandler(t *testing.T) {
	refused := hint(errors.New("no"), "do that")
	tests := []struct {
		name, method, path, body string
		uid                      any
		err                      error
		code                     int
		want                     string
	}{
		{"healthy", "GET", "/healthz", "", 1000, nil, 200, "ok\n"},
		{"status for anybody", "GET", "/status", "", 1000, nil, 200, `"kind": "status"`},
		{"sync for root", "POST", "/sync", `{"expect":"x","no_delete":true,"sudoer":"bob"}`, 0, nil, 200, ""},
		{"sync for others", "POST", "/sync", `{}`, 1000, nil, 403, `{"error":"only root may ask lasthop run for a sync","hint":"run it with sudo"}`},
		{"sync from the network", "POST", "/sync", `{}`, nil, nil, 403, "only root"},
		{"sync that is refused", "POST", "/sync", `{"expect":"x","no_delete":true,"sudoer":"bob"}`, 0, refused, 409, `{"error":"no","hint":"do that"}`},
		{"an unknown wish", "POST", "/sync", `{"gateway":"eth1"}`, 0, nil, 400, "unknown field"},
		{"no JSON", "POST", "/sync", "gibberish", 0, nil, 400, "read the request"},
		{"much too much", "POST", "/sync", `{"expect":"` + strings.Repeat("x", 5000) + `"}`, 0, nil, 400, "too large"},
		{"the wrong method", "GET", "/sync", "", 0, nil, 405, ""},
		{"something else", "GET", "/etc/passwd", "", 0, nil, 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got syncRequest
			h := localHandler(asked{Status: report.Status{InSync: true}, err: tt.err,
				got: &got}, "v0")
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r = r.WithContext(context.WithValue(r.Context(), peer{}, tt.uid))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.code, tt.want)
			}
			want := syncRequest{Expect: "x", NoDelete: true, Sudoer: "bob", by: "bob"}
			if tt.code == 200 && tt.method == "POST" && got != want {
				t.Errorf("asked for %+v, want %+v", got, want)
			}
		})
	}
}

// TestMetrics: the endpoint shows what the status says, and goes unhealthy with
// it.
func TestMetrics(t *testing.T) {
	t.Parallel()
	st := report.Status{Masters: []report.Master{{PID: 7, Conf: "/a.conf", Generation: 3},
		{PID: 8, Conf: "/a.conf", Generation: 3}},
		Counts: report.Counts{Syncs: 9, Changes: 8, Heals: 7, Fights: 6, Errors: 5,
			Reloads: 4},
		Wrong: []string{"something"}}
	st.Plan.Outcomes = []routing.Outcome{{Status: routing.Ready}, {Status: routing.Ready},
		{Status: routing.Unresolved}}
	st.Plan.Findings = []routing.Finding{{Code: "no-owner", Severity: routing.Error},
		{Code: "no-owner", Severity: routing.Error}}
	st.Plan.State.Rules = make([]routing.Rule, 4)
	st.Installed.Rules = make([]routing.Rule, 3)
	times := newReloadTimes()
	times.Observe(0.003)
	h := metricsHandler(asked{Status: st}, times)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	code, text := get("/metrics")
	for _, line := range []string{`lasthop_listeners{status="ready"} 2`,
		`lasthop_listeners{status="unresolved"} 1`, `lasthop_listeners{status="armed"} 0`,
		`lasthop_rules{state="wanted"} 4`, `lasthop_rules{state="present"} 3`, `lasthop_in_sync 0`, `lasthop_syncs_total 9`, `lasthop_changes_total 8`,
		`lasthop_heals_total 7`, `lasthop_fights_total 6`, `lasthop_errors_total 5`, `lasthop_reloads_total 4`, `lasthop_nginx_generation{conf="/a.conf"} 3`,
		`lasthop_findings{code="no-owner",severity="error"} 2`, `lasthop_reload_to_in_sync_seconds_bucket{le="0.005"} 1`, `lasthop_reload_to_in_sync_seconds_bucket{le="0.0025"} 0`,
		"lasthop_build_info{version=", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s (code %d) in\n%s", line, code, text)
		}
	}
	if code, text := get("/healthz"); code != http.StatusServiceUnavailable ||
		text != "not in sync\nsomething\n" {
		t.Errorf("/healthz: %d %q", code, text)
	}
}

// TestRequestedBy: what is asked of the daemon is logged with the person who
// asked. The sync that follows finds nothing to do, and nothing to restore.
func TestRequestedBy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	s.quiet()
	s.log.take()
	before := s.d.status().Counts
	s.loop(func() {
		s.conf("listen 10.0.1.100:80; listen 10.0.2.100:443;")
		if r, err := s.d.requested(syncRequest{by: "bob"}); err != nil || len(r.Done) == 0 {
			t.Errorf("%d writes, %v", len(r.Done), err)
		}
		s.d.sync()
	})
	log, after := s.log.take(), s.d.status()
	if n := strings.Count(log, `cause="lasthop apply" by=bob`); n != len(after.Last.Done) ||
		strings.Contains(log, "restored") {
		t.Errorf("%d lines name the person, want %d:\n%s", n, len(after.Last.Done), log)
	}
	if n := after.Counts.Changes - before.Changes; n != len(after.Last.Done) {
		t.Errorf("%d changes, want those of one write, %d", n, len(after.Last.Done))
	}
}
