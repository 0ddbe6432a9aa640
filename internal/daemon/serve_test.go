package daemon

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"
)

// asked is a daemon that answers as the test sets.
type asked struct {
	report.Status
	apply report.Apply
	err   error
	got   *request
}

func (a asked) latest() *publication { return newPublication(a.Status) }
func (a asked) request(_ context.Context, r request) (report.Apply, error) {
	*a.got = r
	return a.apply, a.err
}

// TestLocalHandler: which user may ask what, and how errors travel.
func TestLocalHandler(t *testing.T) {
	refused := hint.New(errors.New("no"), "do that")
	tests := []struct {
		name, method, path, body string
		uid                      int
		err                      error
		code                     int
		want                     string
	}{
		{"healthy", "GET", "/healthz", "", 1000, nil, 200, "ok\n"},
		{"status for anybody", "GET", "/status", "", 1000, nil, 200, `"kind": "status"`},
		{"sync for root", "POST", "/sync", `{"expect":"x","no_delete":true,"sudoer":"bob"}`, 0, nil, 200, ""},
		{"sync for another user", "POST", "/sync", `{}`, 1000, nil, 403, `{"error":"only root may ask lasthop run for a sync","hint":"run it with sudo"}`},
		{"sync from an unknown user", "POST", "/sync", `{}`, -1, nil, 403, "only root"},
		{"sync that is refused", "POST", "/sync", `{"expect":"x","no_delete":true,"sudoer":"bob"}`, 0, refused, 409, `{"error":"no","hint":"do that"}`},
		{"an unknown wish", "POST", "/sync", `{"gateway":"eth1"}`, 0, nil, 400, "unknown field"},
		{"no JSON", "POST", "/sync", "gibberish", 0, nil, 400, "read the request"},
		{"much too much", "POST", "/sync", `{"expect":"` + strings.Repeat("x", 5000) + `"}`, 0, nil, 400, "too large"},
		{"reload for root", "POST", "/reload", `{"sudoer":"bob"}`, 0, nil, 200, ""},
		{"reload for another user", "POST", "/reload", `{}`, 1000, nil, 403, `{"error":"only root may ask lasthop run for a reload","hint":"run it with sudo"}`},
		{"reload of a busy daemon", "POST", "/reload", `{}`, 0, context.DeadlineExceeded, 409,
			"lasthop run is busy and did not finish it within 2m0s"},
		{"reload that is refused", "POST", "/reload", `{}`, 0, refused, 409, `{"error":"no","hint":"do that"}`},
		{"the wrong method", "GET", "/sync", "", 0, nil, 405, ""},
		{"something else", "GET", "/etc/passwd", "", 0, nil, 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got request
			h := localHandler(asked{Status: report.Status{InSync: true}, err: tt.err,
				got: &got})
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r = r.WithContext(context.WithValue(r.Context(), peer{},
				visitor{uid: tt.uid}))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.code, tt.want)
			}
			want := request{Request: Request{Expect: "x", NoDelete: true,
				Sudoer: "bob"}, by: "bob"}
			if tt.path == "/reload" {
				want = request{Request: Request{Sudoer: "bob"}, reload: true,
					by: "bob"}
			}
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
	h := metricsHandler(asked{Status: st}, times, nil)
	code, text := get(h, "/metrics")
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
	if code, text := get(h, "/healthz"); code != http.StatusServiceUnavailable ||
		text != "not in sync\nsomething\n" {
		t.Errorf("/healthz: %d %q", code, text)
	}
}

// TestRequestedBy: a request to the daemon is logged with the user that asked.
// The sync that follows finds nothing to do, and nothing to restore.
func TestRequestedBy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	s.quiet()
	s.log.Take()
	before := s.status().Counts
	s.loop(func() {
		s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443;")
		if r, err := s.d.requested(request{by: "bob"}); err != nil || len(r.Done) == 0 {
			t.Errorf("%d writes, %v", len(r.Done), err)
		}
		s.d.sync()
	})
	log, after := s.log.Take(), s.status()
	if n := strings.Count(log, `cause="lasthop apply" by=bob`); n != len(after.Last.Done) ||
		strings.Contains(log, "restored") {
		t.Errorf("%d lines name the person, want %d:\n%s", n, len(after.Last.Done), log)
	}
	if n := after.Counts.Changes - before.Changes; n != len(after.Last.Done) {
		t.Errorf("%d changes, want those of one write, %d", n, len(after.Last.Done))
	}
}

func get(h http.Handler, path string) (int, string) {
	return getFrom(h, "http://127.0.0.1"+path)
}

func getFrom(h http.Handler, url string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
	return w.Code, w.Body.String()
}

// scraped are the metrics of a status.
func scraped(t *testing.T, s report.Status) string {
	t.Helper()
	code, text := get(metricsHandler(asked{Status: s}, newReloadTimes(), nil), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("code %d: %s", code, text)
	}
	return text
}
