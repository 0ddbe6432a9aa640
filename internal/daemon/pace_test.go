package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lasthop/report"
	"lasthop/routing"
)

// TestPace: events that keep coming do not keep a look waiting, and an urgent
// one not at all. Looks that cost much come less often.
func TestPace(t *testing.T) {
	start := time.Now()
	ms := func(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }
	for _, tt := range []struct {
		name          string
		cost, urgent  int // ms; of the last look, and when something urgent comes
		host, urgency int // when a look is due after events every 20 ms
	}{
		{"cheap", 5, -1, 100, 0},
		{"an urgent one", 5, 45, 100, 47},
		{"dear", 30, -1, 300, 0},
		{"dearer", 150, -1, 1000, 0},
		{"very dear", 500, 45, 2500, 47},
		{"dearest", 9000, 45, 5000, 47},
	} {
		p := pace{agenda: agenda{}}
		p.looked(time.Duration(tt.cost) * time.Millisecond)
		for at := 0; at < 7000; at += 5 {
			if at%20 == 0 {
				p.note(false, ms(at))
			}
			if at == tt.urgent {
				p.note(true, ms(at))
			}
		}
		want := agenda{doHost: ms(tt.host)}
		if tt.urgent >= 0 {
			want[doUrgent] = ms(tt.urgency)
		}
		if d := cmp.Diff(want, p.agenda); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
		if p.looked(0); len(p.agenda) > 0 || p.calm.Waiting() || p.urgent.Waiting() {
			t.Errorf("%s: after a look something waits: %v", tt.name, p.agenda)
		}
	}
}

// TestFights: a program that deletes again and again is answered every ten
// seconds in the end, and each longer wait is new once.
func TestFights(t *testing.T) {
	var f fights
	now := time.Now()
	rule := routing.NewRule(routing.IPv4, 5199, 20431)
	var waits []time.Duration
	for range 60000 { // ten minutes
		now = now.Add(10 * time.Millisecond)
		if s, ok := f.admit(routing.Op{Rule: &rule}, now); !ok && s.fresh {
			waits = append(waits, s.wait)
		} else if !ok && s.wait > longestWait {
			t.Fatalf("waits %v", s.wait)
		}
	}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
		10 * time.Second}
	if d := cmp.Diff(want, waits); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestPardon: a link that flaps is no adversary.
func TestPardon(t *testing.T) {
	var f fights
	now := time.Now()
	route := routing.Route{Type: routing.Unicast, Hops: []routing.Hop{{Link: "eth1"}}}
	route.Dst = netip.MustParsePrefix("0.0.0.0/0")
	for range 10 * patience {
		if _, ok := f.admit(routing.Op{Route: &route}, now); !ok {
			t.Fatal("a fight with a link that flaps")
		}
		now = now.Add(100 * time.Millisecond)
		f.pardon([]string{"eth1", "eth9"})
	}
}

// loopWith runs f in the loop of the daemon.
func (s *server) loopWith(f func(*daemon)) {
	s.t.Helper()
	s.loop(func() { f(s.d) })
}

// TestRunHealsFromMemory: what another program deletes is put back from memory,
// while nothing else of the host can be read.
func TestRunHealsFromMemory(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443; listen [2001:db8:1::100]:80;")
	s.start()
	want := s.owned()
	fault := func(err error) {
		s.loopWith(func(d *daemon) {
			d.options.Kernel.Fault = func(kind int) error {
				if kind == unix.RTM_GETNEIGH { // the last part of a look
					return err
				}
				return nil
			}
		})
	}
	fault(errors.New("not now"))
	for _, line := range []string{"rule del priority 5199", "route del default table 20431"} {
		s.Lines(line)
		s.Until(line+" to be undone", func() bool {
			return cmp.Diff(want, s.owned()) == ""
		})
	}
	s.deleteOwned()
	s.Until("all to be back", func() bool { return cmp.Diff(want, s.owned()) == "" })
	s.Until("the look to fail", func() bool { return len(s.status().Wrong) > 0 })
	fault(nil)
	s.Until("the look after it", func() bool { return s.status().InSync })
	if log := s.log.Take(); !strings.Contains(log, "deleted by another program, restored") {
		t.Errorf("nothing was said:\n%s", log)
	}
}

// TestRunUnheeded: changes that decide nothing cost no look, and those that may
// decide something do. The host of each is that of a fresh start.
func TestRunUnheeded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	syncs := s.quiet().Counts.Syncs
	for n := range 10 {
		s.Lines(fmt.Sprintf("route add 198.18.%d.0/24 via 10.0.0.1 table 500\n"+
			"link add v%d type veth peer name w%d\nlink set v%d up\nlink set w%d up\n",
			n, n, n, n, n))
	}
	s.Lines("route flush table 500\nlink del v3\nlink set v4 mtu 1400\n")
	if got := s.quiet().Counts.Syncs; got != syncs {
		t.Errorf("%d looks at what decides nothing", got-syncs)
	}
	for _, line := range []string{"route add 198.18.0.0/24 via 10.0.1.1 dev eth1",
		"route add default via 10.0.0.1 table 500", "addr add 192.0.2.1/24 dev v5",
		"link set v5 down", "rule add pref 9000 lookup 500",
		"route add 198.18.1.0/24 via 10.0.0.1 table 500", "link set eth2 mtu 1400"} {
		before := s.status().Counts.Syncs
		s.Lines(line)
		s.Until("a look after "+line, func() bool {
			return s.status().Counts.Syncs > before
		})
		s.quiet()
	}
	s.wantFresh("the end")
}

// TestUrgent: which events leave no time for patience.
func TestUrgent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	urgent := map[string]bool{}
	s.loopWith(func(d *daemon) {
		c, err := d.options.Kernel.Subscribe(t.Context(), routing.DefaultNumbers)
		if err != nil {
			t.Error(err)
			return
		}
		s.Lines("link add v0 type veth peer name v1\nlink set eth1 down\n" +
			"link set eth1 up\nroute add default via 10.0.1.1 dev eth1 metric 100\n" +
			"addr add 10.0.1.77/24 dev eth1\nrule del pref 5199")
		for end := time.After(time.Second); ; {
			select {
			case e := <-c:
				if d.reconciler.last.urgent(e) {
					urgent[e.Text] = true
				}
				continue
			case <-end:
			}
			break
		}
	})
	var got []string
	for text := range urgent {
		if !strings.Contains(text, "carrier") {
			got = append(got, text)
		}
	}
	slices.Sort(got)
	want := []string{"link eth1 up", "route added: default via 10.0.1.1 dev eth1 metric 100",
		"rule deleted: 5199: from 10.0.1.100 iif lo lookup 20431 proto 76"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestSaysIdle: that nothing is installed does not say that nothing is needed.
// Both the log and the line for systemd know a listener that is unresolved.
func TestSaysIdle(t *testing.T) {
	for status, want := range map[routing.Status][2]string{
		routing.Unchanged:  {"no listener needs a path", ", 0 unresolved, "},
		routing.Unresolved: {"lasthop status says what is missing", ", 1 unresolved, "},
	} {
		var log bytes.Buffer
		r := reconciler{log: slog.New(slog.NewTextHandler(&log, nil))}
		plan := routing.Plan{Outcomes: []routing.Outcome{{Status: status}}}
		r.sayIdle(plan)
		r.sayIdle(plan)
		got := log.String()
		if strings.Count(got, want[0]) != 1 || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: want %q once, logged %q", status, want[0], got)
		}
		if got := statusLine(report.Status{Plan: plan}); !strings.Contains(got, want[1]) {
			t.Errorf("%s: %q does not say %q", status, got, want[1])
		}
	}
}
