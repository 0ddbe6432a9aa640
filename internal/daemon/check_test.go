package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// found runs check against the server and returns the codes of its findings.
func (s *server) found() (codes []string) {
	for _, f := range s.checked() {
		codes = append(codes, string(f.Code))
	}
	return codes
}

// checked are check's findings.
func (s *server) checked() []routing.Finding {
	s.T.Helper()
	out, log, code := s.lasthop("check", "-c", s.File("nginx.conf"), "-o", "json",
		"--config", "", "--root", s.File("nowhere"))
	if code == exitFailed {
		s.T.Fatal(log)
	}
	if log != "" {
		s.T.Errorf("check says: %s", log)
	}
	var doc struct{ Findings []routing.Finding }
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		s.T.Fatal(err)
	}
	return doc.Findings
}

func (s *server) wantFound(what string, want ...string) {
	s.T.Helper()
	diff := ""
	defer func() {
		if diff != "" {
			s.T.Logf("-want +got\n%s", diff)
		}
	}()
	s.Until(fmt.Sprintf("%s: %q", what, want), func() bool {
		diff = cmp.Diff(want, s.found())
		return diff == ""
	})
}

// TestCheckNotLoaded: with a daemon contents count, without one times do. A
// port that another program has keeps NGINX from loading.
func TestCheckNotLoaded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	s.wantFound("with a daemon")
	now, err := os.ReadFile(s.File("nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s.Replace(string(now))
	s.wantFound("the same file, written again")
	s.Conf("listen 10.0.1.100:80; listen 10.0.1.101:80;")
	s.wantFound("an edit", "not-loaded")
	s.Reload()
	s.wantFound("loaded")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.wantFound("without a daemon")
	leisure := time.Now().Add(200 * time.Millisecond)
	s.Until("an edit at leisure", func() bool { return time.Now().After(leisure) })
	s.Replace(string(now))
	s.wantFound("an edit without a daemon", "not-loaded")
	s.Reload()
	s.wantFound("loaded without a daemon", "not-installed") // and no user applied it
	var stranger net.Listener
	s.Do(func() { stranger, err = net.Listen("tcp", "10.0.1.101:81") })
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	s.Conf("listen 10.0.1.100:80; listen 10.0.1.101:81;")
	s.Reload()
	s.wantFound("a port of another's", "port-taken", "not-loaded")
	s.StopNginx()
	s.wantFound("and no NGINX", "port-taken")
}

// TestRestartAdvised: if a reload cannot open a port, check gives the same
// remedy, whether it asks the daemon or looks itself.
func TestRestartAdvised(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80;")
	s.StartNginx()
	s.start()
	leisure := time.Now().Add(200 * time.Millisecond)
	s.Until("an edit at leisure", func() bool { return time.Now().After(leisure) })
	s.Conf("listen 80;")
	advised := func(by string) {
		t.Helper()
		const want = "restart NGINX: a reload cannot open `listen 80` while " +
			"`listen 10.0.1.100:80` is open"
		var all []routing.Finding
		defer func() {
			if t.Failed() {
				t.Logf("%s: %+v", by, all)
			}
		}()
		s.Until(by, func() bool {
			all = s.checked()
			return slices.ContainsFunc(all, func(f routing.Finding) bool {
				return f.Code == "not-loaded" && f.Hint == want
			})
		})
	}
	advised("with a daemon")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	advised("without one")
}

// TestRestartEverywhere: if a reload cannot open a port, every command says to
// restart NGINX, and none to reload it or to run what apply refuses.
func TestRestartEverywhere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 80;")
	s.StartNginx()
	conf := []string{"-c", s.File("nginx.conf"), "--config", ""}
	if _, errs, code := s.lasthop(append(conf, "apply")...); code != exitDone {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	leisure := time.Now().Add(200 * time.Millisecond)
	s.Until("an edit at leisure", func() bool { return time.Now().After(leisure) })
	s.Conf("listen 10.0.1.100:80;")
	says := func(part string, args ...string) {
		t.Helper()
		out, errs, _ := s.lasthop(args...)
		text := strings.Join(strings.Fields(out+errs), " ")
		if !strings.Contains(text, part) || strings.Contains(text, "nginx -s reload") ||
			strings.Contains(text, "as planned: lasthop apply") {
			t.Errorf("%s: not %q, or to reload:\n%s%s", args, part, out, errs)
		}
	}
	const restart = "restart NGINX: a reload cannot open `listen 10.0.1.100:80` while " +
		"`listen *:80` is open"
	says(restart, append(conf, "plan")...)
	says(restart, append(conf, "apply")...)
	says(restart, append(conf, "check")...)
	says("To make the kernel as planned: restart NGINX, then run: ",
		append(conf, "check")...)
	s.start()
	says(restart, "status")
}

// TestApplyNotLoaded: without a daemon apply removes nothing that NGINX still
// listens on, but waits for a reload that is under way. plan says so.
func TestApplyNotLoaded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.StartNginx()
	apply := func(args ...string) (string, int) {
		_, errs, code := s.lasthop(append([]string{"apply", "-c",
			s.File("nginx.conf")}, args...)...)
		return errs, code
	}
	wantPlan := func(when string, refused bool) {
		t.Helper()
		out, errs, code := s.lasthop("plan", "-c", s.File("nginx.conf"))
		if code != exitDone || strings.Contains(out, "not-loaded") != refused ||
			strings.Contains(out, "To do exactly this") == refused {
			t.Errorf("plan, %s: exit code %d, %s%s", when, code, out, errs)
		}
	}
	wantPlan("at first", false)
	if errs, code := apply(); code != exitDone {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	before := s.owned()
	leisure := time.Now().Add(200 * time.Millisecond)
	s.Until("an edit at leisure", func() bool { return time.Now().After(leisure) })
	s.Conf("listen 10.0.1.100:80;")
	wantPlan("an edit that is not loaded", true)
	errs, code := apply()
	if code != exitFailed || !strings.Contains(errs, "nothing is changed") ||
		!strings.Contains(errs, "hint: nginx -t && nginx -s reload") {
		t.Errorf("an edit that is not loaded: exit code %d, %s", code, errs)
	}
	if errs, code := apply("--no-delete"); code != exitDone {
		t.Errorf("--no-delete: exit code %d, %s", code, errs)
	}
	if d := cmp.Diff(before, s.owned()); d != "" {
		t.Errorf("the ways of what NGINX listens on: -before +after\n%s", d)
	}
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80; listen 127.0.0.1:80;")
	s.Reload()
	s.Until("a load", func() bool { return s.serves("127.0.0.1:80") })
	s.Conf("listen 10.0.1.100:80;") // too soon for the times to show it
	wantPlan("an edit right after a load", true)
	if errs, code := apply(); code != exitFailed || !has(s.owned(), "from 10.0.2.") ||
		!strings.Contains(errs, "nothing is changed") {
		t.Errorf("an edit right after a load: exit code %d, %s", code, errs)
	}
	s.Reload()
	s.Until("the reload", func() bool { return !s.serves("10.0.2.100:80") })
	wantPlan("after the reload", false)
	if errs, code := apply(); code != exitDone || has(s.owned(), "from 10.0.2.") {
		t.Errorf("after the reload: exit code %d, %s\n%q", code, errs, s.owned())
	}
}
