package daemon

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
)

// TestAudit: an audit finds what no event reports: a rule that is gone, a load
// that was not seen. It reads everything if something is wrong or the time has
// come, and else only what lasthop owns.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	s.quiet()
	want := s.owned()
	i := s.d.fleet.instances[0]
	for _, tt := range []struct {
		name   string
		before func(now time.Time)
		whole  bool // it looks at everything
		again  bool // the next whole look is in five minutes, however soon it was due
	}{
		{"nothing", func(time.Time) {}, false, false},
		{"a rule is gone", func(time.Time) { s.Lines("rule del priority 5198") }, true, true},
		{"a route is gone", func(time.Time) { s.Lines("route flush table 20431") }, true, true},
		{"the time has come", func(now time.Time) { s.d.pace.whole = now }, true, true},
		{"the last sync failed", func(time.Time) { s.d.troubles.note(aboutSync, unix.EINVAL) }, true, true},
		{"no event can be heard", func(time.Time) { s.d.troubles.note(aboutEvents, unix.EMFILE) }, true, true},
		{"a load was not seen", func(time.Time) { i.loaded = &nginxconf.Config{} }, true, false},
	} {
		s.loop(func() { // the loop gets no event meanwhile
			now := time.Now()
			delete(s.d.agenda, doAudit)
			delete(s.d.agenda, doTrim)
			s.d.pace.whole = now.Add(time.Hour)
			tt.before(now)
			last := s.d.reconciler.last
			s.d.audit(now)
			if d := cmp.Diff(want, s.owned()); d != "" {
				t.Errorf("%s: -want +got\n%s", tt.name, d)
			}
			if whole := s.d.reconciler.last != last; whole != tt.whole {
				t.Errorf("%s: it looked at everything: %t", tt.name, whole)
			}
			if i.loaded != i.disk {
				t.Errorf("%s: not loaded: %+v", tt.name, i.loaded)
			}
			again := s.d.pace.whole.Sub(now)
			if soon := again < 10*time.Minute; soon != tt.again ||
				again < wholeAuditEvery {
				t.Errorf("%s: everything is looked at again in %v", tt.name, again)
			}
			next, trim := s.d.agenda[doAudit].Sub(now), s.d.agenda[doTrim].Sub(now)
			if next <= 0 || next > 2*auditEvery || trim < time.Second {
				t.Errorf("%s: the next one comes in %v, and memory is given back "+
					"in %v", tt.name, next, trim)
			}
			s.d.troubles.note(aboutEvents, nil)
		})
	}
	s.Until("peace", func() bool { return s.status().InSync })
}

// TestForget: what is kept for a load is kept until it has come, and no longer.
func TestForget(t *testing.T) {
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80;")
	s.StartNginx()
	s.start()
	s.quiet()
	kept := func() (ready bool, listened int) {
		s.loop(func() {
			forget(s.d.fleet, s.d.reconciler)
			ready = len(s.d.reconciler.ready.Plan.Outcomes) > 0
			listened = len(s.d.fleet.listened)
		})
		return ready, listened
	}
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.Until("a decision for the next load", func() bool {
		ready, listened := kept()
		return ready && listened == 2
	})
	s.loop(func() { s.d.fleet.instances[0].loaded = s.d.fleet.instances[0].disk })
	if ready, listened := kept(); ready || listened != 1 {
		t.Errorf("after the load a decision is kept: %t, and %d lists of listeners", ready,
			listened)
	}
}

// TestDropStale: an instance that is gone is dropped once another takes its
// place, and not before.
func TestDropStale(t *testing.T) {
	const old, new = "/proc/8/root", "/proc/9/root"
	for _, tt := range []struct {
		name string
		ran  []survey.Source // the followed ones: the first may be the default
		only bool            // it is
		runs []survey.Source
		want []survey.Source
	}{
		{"the default, and another has run", []survey.Source{{Conf: "/a"}, {Conf: "/b"}}, true, nil, []survey.Source{{Conf: "/a"}, {Conf: "/b"}}},
		{"the default, and another runs", []survey.Source{{Conf: "/a"}}, true, []survey.Source{{Conf: "/b"}}, []survey.Source{{Conf: "/b"}}},
		{"one that has ended, and another runs", []survey.Source{{Conf: "/a"}}, false, []survey.Source{{Conf: "/b"}}, []survey.Source{{Conf: "/a"}, {Conf: "/b"}}},
		{"a container that ended before it was read", []survey.Source{{Conf: "/unread", Root: old}, {Conf: "/a"}}, false, nil, []survey.Source{{Conf: "/a"}}},
		{"a container that has ended", []survey.Source{{Conf: "/a", Root: old}}, false, nil, []survey.Source{{Conf: "/a", Root: old}}},
		{"a container that came back", []survey.Source{{Conf: "/a", Root: old}}, false, []survey.Source{{Conf: "/a", Root: new}}, []survey.Source{{Conf: "/a", Root: new}}},
		{"a container, and another file in the new one", []survey.Source{{Conf: "/a", Root: old}}, false, []survey.Source{{Conf: "/b", Root: new}}, []survey.Source{{Conf: "/a", Root: old}, {Conf: "/b", Root: new}}},
		{"a container, and the host with the same file", []survey.Source{{Conf: "/a", Root: old}}, false, []survey.Source{{Conf: "/a"}}, []survey.Source{{Conf: "/a", Root: old}, {Conf: "/a"}}},
	} {
		f := &fleet{settings: &settings.Settings{}}
		for n, s := range tt.ran {
			i := newInstance(s)
			i.ran = n > 0 || !tt.only
			if s.Conf != "/unread" {
				i.loaded = &nginxconf.Config{}
			}
			f.instances = append(f.instances, i)
		}
		var masters []nginxconf.Master
		for n, s := range tt.runs {
			masters = append(masters, nginxconf.Master{PID: n + 1, Conf: s.Conf,
				Root: s.Root})
		}
		f.arrange(masters)
		var got []survey.Source
		for _, i := range f.instances {
			got = append(got, i.Source)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

// routing sockets of a namespace, by inode.
func (s *server) netlinkSockets() (out []string) {
	s.t.Helper()
	s.Do(func() {
		data, err := os.ReadFile("/proc/thread-self/net/netlink")
		if err != nil {
			s.t.Error(err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); f[1] == "0" {
				out = append(out, f[len(f)-1])
			}
		}
	})
	return out
}

// TestRunReopens: after an error of a socket the daemon opens its sockets
// again, and after one of the kernel's it does not.
func TestRunReopens(t *testing.T) {
	s := newServer(t)
	s.start()
	s.quiet()
	for err, want := range map[error]int{net.ErrClosed: 3, unix.EPERM: 0} {
		before := s.netlinkSockets()
		s.loop(func() {
			s.d.options.Kernel.Fault = fault{unix.RTM_GETRULE, err, false}.function()
			s.d.sync()
		})
		gone := slices.DeleteFunc(before, func(inode string) bool {
			return slices.Contains(s.netlinkSockets(), inode)
		})
		if len(gone) != want {
			t.Errorf("%v: %d sockets were replaced, want %d", err, len(gone), want)
		}
		s.loop(func() { s.d.options.Kernel.Fault = nil; s.d.sync() })
		if st := s.status(); !st.InSync {
			t.Errorf("%v: not in sync afterwards: %q", err, st.Wrong)
		}
	}
}
