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

	"lasthop/internal/survey"
	"lasthop/nginxconf"
)

// TestAudit: what no event tells is found by an audit: a rule that is gone, a
// load that was not seen. It looks at everything where something is wrong or
// the time has come, and else reads nothing but what is ours.
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
		again  bool // in five minutes the next whole look, however soon it was due
	}{
		{"nothing", func(time.Time) {}, false, false},
		{"a rule is gone", func(time.Time) { s.Lines("rule del priority 5198") }, true, true},
		{"a route is gone", func(time.Time) { s.Lines("route flush table 20431") }, true, true},
		{"the time has come", func(now time.Time) { s.d.wholeAudit = now }, true, true},
		{"the last sync failed", func(time.Time) { s.d.troubles.note(aboutSync, unix.EINVAL) }, true, true},
		{"no event can be heard", func(time.Time) { s.d.troubles.note(aboutEvents, unix.EMFILE) }, true, true},
		{"a load was not seen", func(time.Time) { i.loaded = &nginxconf.Config{} }, true, false},
	} {
		s.loop(func() { // the loop hears of nothing meanwhile
			now := time.Now()
			delete(s.d.agenda, doAudit)
			s.d.wholeAudit = now.Add(time.Hour)
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
			again := s.d.wholeAudit.Sub(now)
			if soon := again < 10*time.Minute; soon != tt.again ||
				again < wholeAuditEvery {
				t.Errorf("%s: everything is looked at again in %v", tt.name, again)
			}
			if next := s.d.agenda[doAudit].Sub(now); next <= 0 ||
				next > 2*auditEvery {
				t.Errorf("%s: the next one comes in %v", tt.name, next)
			}
			s.d.troubles.note(aboutEvents, nil)
		})
	}
	s.Until("peace", func() bool { return s.status().InSync })
}

// TestDropStale: what is there no more is forgotten once another takes its
// place, and not before.
func TestDropStale(t *testing.T) {
	made := func(name, root string, ran, runs bool) *instance {
		i := newInstance(survey.Source{Conf: name, Root: root})
		if i.ran = ran; runs {
			i.masters = []nginxconf.Master{{PID: 7}}
		}
		return i
	}
	disk := made("disk", "", false, false)
	host, ended := made("host", "", true, true), made("ended", "", true, false)
	old, next := made("c", "/proc/8/root", true, false), made("c", "/proc/9/root", true, true)
	other, same := made("d", "/proc/9/root", true, true), made("c", "", true, true)
	for _, tt := range []struct {
		name      string
		are, want []*instance
	}{
		{"the default, and nothing runs", []*instance{disk}, []*instance{disk}},
		{"the default, and another has run", []*instance{disk, ended}, []*instance{disk, ended}},
		{"the default, and another runs", []*instance{disk, host}, []*instance{host}},
		{"one that has ended, and another runs", []*instance{ended, host}, []*instance{ended, host}},
		{"a container that has ended", []*instance{old}, []*instance{old}},
		{"a container that came back", []*instance{old, next}, []*instance{next}},
		{"a container, and another file in the new one", []*instance{old, other}, []*instance{old, other}},
		{"a container, and the host with the same file", []*instance{old, same}, []*instance{old, same}},
	} {
		f := &fleet{instances: slices.Clone(tt.are)}
		if f.dropStale(); !slices.Equal(f.instances, tt.want) {
			t.Errorf("%s: %d of %d are left", tt.name, len(f.instances), len(tt.are))
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
			t.Errorf("%v: %d sockets are others, want %d", err, len(gone), want)
		}
		s.loop(func() { s.d.options.Kernel.Fault = nil; s.d.sync() })
		if st := s.status(); !st.InSync {
			t.Errorf("%v: not in sync afterwards: %q", err, st.Wrong)
		}
	}
}
