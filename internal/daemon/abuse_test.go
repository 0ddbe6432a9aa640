package daemon

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/internal/procfs"
	"lasthop/routing"
)

// abuses are what happens to nginx.conf.
var abuses = []struct {
	name string
	do   func(s *server) error
}{
	{"truncated", func(s *server) error { return os.Truncate(s.File("nginx.conf"), 100) }},
	{"emptied", func(s *server) error { return os.Truncate(s.File("nginx.conf"), 0) }},
	{"deleted", func(s *server) error { return os.Remove(s.File("nginx.conf")) }},
	{"replaced by a directory", func(s *server) error {
		if err := os.Remove(s.File("nginx.conf")); err != nil {
			return err
		}
		return os.Mkdir(s.File("nginx.conf"), 0o755)
	}},
	{"swapped for a link to nothing", func(s *server) error {
		if err := os.Symlink("/nonexistent/nginx.conf",
			s.File("link")); err != nil {
			return err
		}
		return os.Rename(s.File("link"), s.File("nginx.conf"))
	}},
	{"replaced by rename with what NGINX refuses", func(s *server) error {
		s.Replace(s.Head() + "events {} http { server { listen 10.0.2.100:80;")
		return nil
	}},
	{"without listeners", func(s *server) error { s.Replace(s.Head() + "events {}"); return nil }},
}

// TestRunAbusedFiles: whatever happens to nginx.conf while NGINX and the daemon
// run, the last good state stays; the fault is logged once, is a finding, and
// ends when the file is good again.
func TestRunAbusedFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range abuses {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.StartNginx()
			s.start()
			before := s.owned()
			s.log.Take()
			if err := tt.do(s); err != nil {
				t.Fatal(err)
			}
			noticed := func(f routing.Finding) bool {
				return f.Code == "config-broken" || f.Code == "not-loaded"
			}
			s.Until("the finding", func() bool {
				return slices.ContainsFunc(s.status().Plan.Findings, noticed)
			})
			s.Reload() // NGINX refuses all except an empty one
			s.quiet()
			if d := cmp.Diff(before, s.owned()); d != "" {
				t.Errorf("the last good state has changed: -before +after\n%s", d)
			}
			if lines := strings.Count(s.log.Take(), "level=ERROR"); lines > 1 {
				t.Errorf("%d lines were logged, want one:\n%s", lines, s.log)
			}
			if tt.name == "replaced by a directory" {
				if err := os.Remove(s.File("nginx.conf")); err != nil {
					t.Fatal(err)
				}
			}
			s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
			s.Until("the end of the finding", func() bool {
				return !slices.ContainsFunc(s.status().Plan.Findings,
					func(f routing.Finding) bool {
						return f.Code == "config-broken"
					})
			})
			s.Reload()
			s.Until("the new configuration", func() bool {
				return has(s.owned(), "from 10.0.2.") && s.status().InSync
			})
		})
	}
}

// TestRunHidden: a daemon that may not see the files of an NGINX names the
// capability, and no path that no user has configured.
func TestRunHidden(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.Command("/bin/bash", "-c",
		"exec -a 'nginx: master process nginx -c /nowhere.conf' /bin/cat")
	if _, err := c.StdinPipe(); err != nil { // it ends with the pipe
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	s.Until("the title", func() bool {
		title, _ := procfs.Dir("").Cmdline(c.Process.Pid)
		return strings.HasPrefix(title, "nginx: ")
	})
	p := s.launch(true, []string{"setpriv", "--bounding-set=-sys_ptrace"}, "--config", "")
	s.Until("the finding", func() bool { return p.finds("config-broken") })
	want := fmt.Sprintf("lasthop may not see the files of NGINX %d: this needs the capability "+
		"SYS_PTRACE", c.Process.Pid)
	if w := p.status().Wrong; len(w) != 1 || w[0] != want {
		t.Errorf("got  %q\nwant %q", w, want)
	}
	if log := s.log.String(); !strings.Contains(log, "give lasthop SYS_PTRACE") {
		t.Errorf("no remedy in the log:\n%s", log)
	}
}

// TestRunUnreadable: a daemon without the right to read everything keeps the
// last good state while nginx.conf is root's alone, logs it once, and goes on
// when it may read it again.
func TestRunUnreadable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	p := s.startProcess(false, "setpriv", "--bounding-set=-dac_override,-dac_read_search")
	before := s.owned()
	s.log.Take()
	if err := os.Chmod(s.File("nginx.conf"), 0); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	s.Until("the finding", func() bool { return p.finds("config-broken") })
	changes := p.status().Counts.Changes
	s.Reload()
	s.Until("another look", func() bool {
		return strings.Count(s.log.String(), "permission denied") > 0
	})
	if d := cmp.Diff(before, s.owned()); d != "" || p.status().Counts.Changes != changes {
		t.Errorf("the last good state has changed: -before +after\n%s", d)
	}
	if err := os.Chmod(s.File("nginx.conf"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Conf("listen 10.0.2.100:80;")
	s.Reload()
	s.Until("the new configuration", func() bool {
		return has(s.owned(), "from 10.0.2.") &&
			!p.finds("config-broken")
	})
	errors := regexp.MustCompile(`level=ERROR .*permission denied`)
	if lines := len(errors.FindAllString(s.log.String(), -1)); lines != 1 {
		t.Errorf("%d lines were logged, want one:\n%s", lines, s.log)
	}
}
