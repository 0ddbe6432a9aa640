package daemon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/plus"
)

// TestPlusCounts: two answers in a row that agree make a finding, and the next
// load that both see ends it.
func TestPlusCounts(t *testing.T) {
	var c plusCounts
	for i, tt := range []struct{ master, generation, seen, want int }{
		{800, 7, 1, 0}, {800, 7, 2, 0}, // NGINX has loaded between answer and look
		{800, 8, 2, 0}, {800, 8, 2, 0}, // in fact 6 ahead
		{800, 9, 2, 0}, {800, 9, 3, 0}, // the same again
		{800, 10, 3, 0}, {800, 10, 3, 1}, // missed
		{800, 10, 3, 1}, {800, 12, 3, 1}, {800, 12, 3, 3},
		{800, 13, 3, 3}, {800, 13, 4, 3}, {800, 13, 4, 0}, // seen by both: this ends it
		{800, 13, 5, 0}, {800, 13, 5, -1}, // seen only by the daemon
		{900, 1, 5, 0}, {900, 1, 5, 0}, // another NGINX
	} {
		got := c.missed(plus.Answer{Generation: tt.generation, Master: tt.master}, tt.seen)
		if got != tt.want {
			t.Errorf("answer %d: %d missed, want %d", i, got, tt.want)
		}
	}
}

// plusServer is an endpoint of the shape of NGINX Plus' API, whose numbers a
// test sets: no NGINX Plus was available.
type plusServer struct {
	generation, master, status atomic.Int64
	stuck                      chan struct{} // an answer waits until it is closed
}

func (p *plusServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.stuck != nil {
		select {
		case <-p.stuck:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case p.status.Load() != 0:
		http.Error(w, "", int(p.status.Load()))
	case r.URL.Path == "/api/":
		fmt.Fprint(w, "[1,2,3,4,5,6,7,8,9]")
	case r.URL.Path == "/api/9/nginx":
		fmt.Fprintf(w, `{"generation":%d,"load_timestamp":"2026-11-30T06:12:45.123Z",`+
			`"pid":1,"ppid":%d}`, p.generation.Load(), p.master.Load())
	default:
		http.NotFound(w, r)
	}
}

// asked makes the daemon ask n times, and returns the codes of its findings.
func (s *server) asked(n int) (codes []string) {
	s.t.Helper()
	for range n {
		s.loop(func() {
			s.d.fleet.plus.ask(s.d.fleet.settings.PlusAPI, time.Now())
		})
		s.Until("an answer of the API", func() bool {
			asking := true
			s.loop(func() { asking = s.d.fleet.plus.asking })
			return !asking
		})
	}
	for _, f := range s.status().Plan.Findings {
		if f.Code == "plus-api" || f.Code == "generation-differs" {
			codes = append(codes, string(f.Code))
		}
	}
	return codes
}

// TestPlusAPI: loads that the API counts and the daemon did not see are a
// finding, and so is a missing API; the daemon is in sync nevertheless.
func TestPlusAPI(t *testing.T) {
	t.Parallel()
	api := &plusServer{}
	web := httptest.NewServer(api)
	defer web.Close()
	s := newServer(t)
	yaml := s.File("lasthop.yaml")
	if err := os.WriteFile(yaml, []byte("plus_api: "+web.URL+"/api\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	api.master.Store(int64(s.StartNginx()))
	api.generation.Store(7)
	s.start(func(o *Options) { o.Flags.File = yaml })
	want := func(what string, n int, want ...string) {
		t.Helper()
		if got := s.asked(n); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		if !s.status().InSync {
			t.Errorf("%s: not in sync: %q", what, s.status().Wrong)
		}
	}
	want("an agreement", 3)
	s.Reload()
	s.Until("the reload", func() bool { return s.status().Masters[0].Generation == 2 })
	api.generation.Store(8)
	want("a reload", 3)
	api.generation.Store(9)
	want("a load that was not seen", 1)
	want("the same once more", 1, "generation-differs")
	if got := s.plusChecked(yaml); !slices.Equal(got, []string{"generation-differs"}) {
		t.Errorf("check says %q", got)
	}
	s.Reload()
	s.Until("the reload", func() bool { return s.status().Masters[0].Generation == 3 })
	api.generation.Store(10)
	want("the next reload", 2)
	api.status.Store(http.StatusForbidden)
	want("forbidden", 1, "plus-api")
	api.status.Store(0)
	want("an answer", 1)
}

// plusChecked returns the codes of these findings that `lasthop check` has.
func (s *server) plusChecked(yaml string) (codes []string) {
	s.t.Helper()
	out, _, _ := s.lasthop("check", "-c", s.File("nginx.conf"), "--config", yaml,
		"--root", s.File("nowhere"))
	for _, code := range []string{"generation-differs", "plus-api"} {
		if strings.Contains(out, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// TestPlusAPIStuck: an API that does not answer delays nothing: the daemon
// follows NGINX's reloads, reads settings again, and ends.
func TestPlusAPIStuck(t *testing.T) {
	t.Parallel()
	api := &plusServer{stuck: make(chan struct{})}
	web := httptest.NewServer(api)
	defer web.Close()
	defer close(api.stuck)
	r := reloading{newServer(t)}
	r.write("plus_api: " + web.URL + "/api\n")
	r.StartNginx()
	r.start(func(o *Options) { o.Flags.File = r.File("lasthop.yaml") })
	asking := false
	r.loop(func() { asking = r.d.fleet.plus.asking })
	if !asking {
		t.Error("it does not ask")
	}
	r.Conf("listen 10.0.1.100:80; listen 10.0.1.100:81;")
	r.Reload()
	r.Until("the reload", func() bool { return len(r.status().Plan.Outcomes) == 2 })
	r.write("")
	r.reload()
	began := time.Now()
	if err := r.end(); err != nil || time.Since(began) > endTime {
		t.Errorf("it ends after %s: %v", time.Since(began), err)
	}
}
