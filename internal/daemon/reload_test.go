package daemon

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

func has(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, part) })
}

// TestRunReload: a load is followed, and nothing else of what NGINX does makes
// a write.
func TestRunReload(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.StartNginx()
		foreign := s.foreign()
		s.start(detector)
		if o := s.owned(); !has(o, "from 10.0.1.") || has(o, "from 10.0.2.") {
			t.Fatalf("after the start: %q", o)
		}
		s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
		s.quiet()
		if o := s.owned(); has(o, "from 10.0.2.") {
			t.Fatal("installed what NGINX has not loaded")
		}
		s.Reload()
		s.Until("the new listener's path", func() bool {
			return has(s.owned(), "from 10.0.2.")
		})
		s.quiet()
		s.same("a reload that changes nothing", func() { s.Reload() })
		s.Conf("listen 10.0.1.100:80;")
		s.Reload()
		s.Until("the removed listener's path to go", func() bool {
			return !has(s.owned(), "from 10.0.2.")
		})

		s.noLoads()
		if d := cmp.Diff(foreign, s.foreign()); d != "" {
			t.Errorf("foreign objects have changed: -before +after\n%s", d)
		}
		before := s.owned()
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, s.owned()); d != "" {
			t.Errorf("the end of the daemon has changed: -before +after\n%s", d)
		}
	})
}

// noLoads wants that nothing of what NGINX does besides loads makes a write.
func (s *server) noLoads() {
	s.t.Helper()
	s.Replace(s.Head() + "events {} http { server { listen 10.0.2.100:80; bogus; } }")
	s.same("nginx -t of what is broken", func() {
		_ = s.Command("nginx", "-t", "-p", s.Dir, "-c", s.File("nginx.conf")).Run()
	})
	s.same("a failed reload", func() { s.Reload() })
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.same("nginx -t", func() { s.Nginx("-t") })
	s.same("nginx -T", func() { s.Nginx("-T") })
	s.same("log rotation", func() { s.Nginx("-s", "reopen") })
	s.same("a worker's crash", func() {
		victim := s.workers()[0]
		if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
			s.t.Fatal(err)
		}
		s.Until("its successor", func() bool {
			now := s.workers()
			return len(now) == 2 && !slices.Contains(now, victim)
		})
	})
}

// same wants that f makes no write.
func (s *server) same(what string, f func()) {
	s.t.Helper()
	before, writes := s.quiet(), s.owned()
	f()
	after := s.quiet()
	if after.Counts.Changes != before.Counts.Changes || cmp.Diff(writes, s.owned()) != "" {
		s.t.Errorf("%s: %d writes\n%s", what, after.Counts.Changes-before.Counts.Changes,
			cmp.Diff(writes, s.owned()))
	}
}

// torn counts the loads that a busy machine has torn: NGINX waited so long
// before it forked the next worker that the watcher may take it for another
// load.
// It is asked when no worker of an earlier load is left.
func (s *server) torn() (n int) {
	for _, m := range s.d.watcher.Workers() {
		var started []uint64
		for _, p := range slices.Concat(m.Current, m.Old) {
			started = append(started, p.Started)
		}
		slices.Sort(started)
		for i := 1; i < len(started); i++ {
			if started[i] >= started[i-1]+9 { // 90 ms: burst of package watcher
				n++
			}
		}
	}
	return n
}

// workers are NGINX's workers that are not shutting down.
func (s *server) workers() []int {
	var out []int
	for _, m := range s.d.watcher.Workers() {
		for _, p := range m.Current {
			out = append(out, p.PID)
		}
	}
	return out
}

// TestRunStartStop: without NGINX the disk is the plan; start, stop and the
// upgrade of the binary are followed.
func TestRunStartStop(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.start(detector)
		if o := s.owned(); !has(o, "from 10.0.1.") {
			t.Fatalf("before NGINX starts: %q", o)
		}
		s.Conf("listen 10.0.2.100:80;")
		s.Until("the disk's plan", func() bool {
			return has(s.owned(), "from 10.0.2.") && !has(s.owned(), "from 10.0.1.")
		})
		old := s.StartNginx()
		s.Until("the master", func() bool {
			return len(s.status().Masters) == 1 && s.status().Masters[0].PID == old
		})
		s.Conf("listen 10.0.1.100:80;")
		if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		s.Until("the new master's listeners, and those of the old one", func() bool {
			return len(s.status().Masters) == 2 && has(s.owned(), "from 10.0.1.") &&
				has(s.owned(), "from 10.0.2.")
		})
		if err := syscall.Kill(old, syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		s.Until("the old listeners to go with the old master", func() bool {
			return !has(s.owned(), "from 10.0.2.")
		})
		s.quiet() // a reload in the moment of the start would count as the start
		s.Conf("listen 10.0.2.100:80;")
		s.Reload()
		s.Until("a reload of the new master", func() bool {
			return has(s.owned(), "from 10.0.2.") && !has(s.owned(), "from 10.0.1.")
		})
		s.StopNginx()
		s.Until("the end of NGINX", func() bool {
			m := s.status().Masters
			return len(m) == 1 && m[0].PID == 0
		})
		if o := s.owned(); !has(o, "from 10.0.2.") {
			t.Errorf("after the end of NGINX: %q", o)
		}
		_ = os.Remove(s.File("nginx.pid"))
	})
}

// TestRunOnePlan: each load is followed once, whatever it forks; the writes are
// the difference of the plans; and if nothing happens the daemon does nothing:
// no write, no sync, and with the connector no look in between.
func TestRunOnePlan(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.StartNginx()
		s.start(detector)
		before, writes := s.quiet(), s.writes()
		changes, loads := 0, 0
		for i := range 6 {
			state := s.state()
			s.Conf([]string{"listen 10.0.2.100:80; listen 10.0.1.100:80;",
				"listen 10.0.1.100:80;"}[i%2])
			s.Reload()
			loads++
			s.Until("the load", func() bool {
				return s.status().Counts.Reloads >= before.Counts.Reloads+loads
			})
			s.Until("the routes", func() bool {
				return has(s.owned(), "from 10.0.2.") == (i%2 == 0)
			})
			seen := s.quiet().Counts.Reloads - before.Counts.Reloads
			if torn := s.torn(); seen < loads || seen > loads+torn {
				t.Errorf("%d loads followed, want %d and at most %d more", seen,
					loads, torn)
			}
			loads = seen
			changes += len(routing.Compare(state, s.state()).Ops())
		}
		after := s.quiet()
		if got := after.Counts.Reloads - before.Counts.Reloads; got != loads {
			t.Errorf("%d loads followed, want %d", got, loads)
		}
		if made := after.Counts.Changes - before.Counts.Changes; made != changes ||
			s.writes()-writes != changes {
			t.Errorf("%d changes said, %d messages sent, want %d", made,
				s.writes()-writes, changes)
		}
		if syncs := after.Counts.Syncs - before.Counts.Syncs; syncs > 2*loads+1 {
			t.Errorf("%d syncs for %d loads: one for the load, one "+
				"for the end of old workers", syncs, loads)
		}
		idle := s.quiet()
		if idle.Counts != after.Counts || s.writes()-writes != changes {
			t.Errorf("while nothing happens: %+v, then %+v", after.Counts, idle.Counts)
		}
	})
}

// state is what lasthop owns in the kernel.
func (s *server) state() routing.State { return routing.Owned(s.host(), routing.DefaultNumbers) }

// writes is how many messages that change something the daemon has sent.
func (s *server) writes() int {
	c := make(chan int)
	s.d.calls <- func() { c <- s.d.options.Kernel.Writes() }
	return <-c
}
