package daemon

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lasthop/internal/survey"
	"lasthop/routing"
)

// faultChanges are changes and their way back, over which every fault is tried,
// and none.
var faultChanges = []struct {
	name       string
	there, and func(s *server)
}{
	{"a listener on another link", func(s *server) { s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443;") }, func(s *server) { s.Conf("listen 10.0.1.100:80;") }},
	{"another gateway", func(s *server) { s.IP("route replace default via 10.0.1.2 dev eth1 metric 100") },
		func(s *server) { s.IP("route replace default via 10.0.1.1 dev eth1 metric 100") }},
	{"an address that is no listener's", func(s *server) { s.IP("addr add 10.0.1.99/24 dev eth1") }, func(s *server) { s.IP("addr del 10.0.1.99/24 dev eth1") }},
	{"a group taken away", func(s *server) { s.IP("link set eth1 group 0") }, func(s *server) { s.IP("link set eth2 group 0") }},
	{"a catch-all rule in front", func(s *server) {
		s.Lines("link add vpn0 type bridge\nlink set vpn0 up\n" +
			"route add default dev vpn0 table 51820\nrule add priority 300 table 51820")
	}, func(s *server) { s.Lines("rule del priority 300\nlink del vpn0") }},
}

var faultKinds = map[string]int{"RTM_GETLINK": unix.RTM_GETLINK, "RTM_GETADDR": unix.RTM_GETADDR,
	"RTM_GETNEXTHOP": unix.RTM_GETNEXTHOP,
	"RTM_GETROUTE":   unix.RTM_GETROUTE, "RTM_GETRULE": unix.RTM_GETRULE, "RTM_GETNEIGH": unix.RTM_GETNEIGH, "RTM_NEWROUTE": unix.RTM_NEWROUTE,
	"RTM_DELROUTE": unix.RTM_DELROUTE, "RTM_NEWRULE": unix.RTM_NEWRULE, "RTM_DELRULE": unix.RTM_DELRULE, "RTM_SETLINK": unix.RTM_SETLINK}

var faultErrors = []error{unix.EINTR, unix.ENOBUFS, unix.ENODEV, unix.ENETUNREACH, unix.EPERM,
	netlink.ErrDumpInterrupted, net.ErrClosed}

// fault is one request that fails; the zero value is none.
type fault struct {
	kind   int
	err    error
	always bool
}

// TestRunFaults: whichever request to the kernel fails, once or until further
// notice: wanted objects of lasthop stay, no rule is without its table, no
// foreign object changes, one line is logged, and one sync afterwards corrects
// everything.
func TestRunFaults(t *testing.T) {
	t.Parallel()
	for n, change := range faultChanges {
		t.Run(change.name, func(t *testing.T) {
			s := newServer(t)
			s.start()
			s.faulty("no fault", fault{}, change.there)
			s.faulty("no fault, and back", fault{}, change.and)
			tried := 0
			for i, kind := range slices.Sorted(keys(faultKinds)) {
				for j, err := range faultErrors {
					if n > 0 && j != (i+n)%len(faultErrors) {
						// the first change meets all
						// errors, each other change
						// each kind of request with one
						// of them
						continue
					}
					for _, always := range []bool{false, true} {
						f := fault{faultKinds[kind], err, always}
						s.faulty(fmt.Sprintf("%s: %v, always %t", kind, err,
							always), f, change.there)
						s.faulty(fmt.Sprintf("%s: %v, always %t, and back",
							kind, err, always), f, change.and)
						tried += 2
					}
				}
			}
			t.Logf("%d faults", tried)
		})
	}
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// loop runs a function in the daemon's loop and waits for it.
func (s *server) loop(f func()) {
	done := make(chan struct{})
	s.d.calls <- func() { f(); close(done) }
	<-done
}

// faulty makes a change while requests fail, and looks at what is left of what
// lasthop owns; then nothing fails any more, and one sync must do.
func (s *server) faulty(what string, f fault, change func(*server)) {
	s.t.Helper()
	before := s.state()
	s.log.Take()
	s.loop(func() {
		s.d.options.Kernel.Fault = f.function()
		s.d.reconciler.healer.fights = fights{} // no other program deletes here
	})
	change(s)
	foreign := s.foreign()
	for range 3 {
		s.loop(func() { s.d.fleet.filesChanged(time.Now()); s.d.sync() })
	}
	want := s.freshState()
	held := s.state()
	if lost := lost(before, want, held); f.err != nil && len(lost) > 0 {
		s.t.Errorf("%s: lost, though it was there and is wanted:\n%s", what,
			strings.Join(lost, "\n"))
	}
	s.wantTables(what)
	if d := cmp.Diff(foreign, s.foreign()); d != "" {
		s.t.Errorf("%s: foreign objects have changed: -before +after\n%s", what, d)
	}
	if log := s.log.Take(); strings.Count(log, "level=ERROR") > 1 {
		s.t.Errorf("%s: more than one line:\n%s", what, log)
	}
	s.loop(func() { s.d.options.Kernel.Fault = nil; s.d.sync() })
	if d := routing.Compare(s.state(), want); !d.Empty() {
		s.t.Errorf("%s: one sync does not put it right, left: %v", what, d.Ops())
	}
	if st := s.status(); !st.InSync {
		s.t.Errorf("%s: not in sync: %q", what, st.Wrong)
	}
}

func (f fault) function() func(int) error {
	if f.err == nil {
		return nil
	}
	fired := false
	return func(kind int) error {
		if kind != f.kind || fired && !f.always {
			return nil
		}
		fired = true
		return f.err
	}
}

// freshState is what a first start would install.
func (s *server) freshState() routing.State {
	s.t.Helper()
	c, err := survey.Source{Conf: s.File("nginx.conf")}.Load()
	if err != nil {
		s.t.Fatal(err)
	}
	var n survey.NGINX
	n.Add(c)
	h := routing.Without(s.host(), routing.DefaultNumbers)
	d, err := routing.Decide(n.Inputs(h, *s.d.fleet.settings))
	if err != nil {
		s.t.Fatal(err)
	}
	return d.Plan.State
}

// lost returns what was there and is wanted, and is gone. A default whose
// gateway changes is there as long as one is.
func lost(before, want, now routing.State) (out []string) {
	gone := routing.Compare(now, before)
	for _, r := range gone.AddRules {
		if slices.Contains(want.Rules, r) {
			out = append(out, r.String())
		}
	}
	for _, r := range gone.SetRoutes {
		is := func(x routing.Route) bool { return x.RouteKey == r.RouteKey }
		if slices.ContainsFunc(want.Routes, is) && !slices.ContainsFunc(now.Routes, is) {
			out = append(out, r.String())
		}
	}
	return out
}
