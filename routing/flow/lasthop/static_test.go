package lasthop_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
)

// replies asks n times over a new connection each, and returns how many were
// answered.
func (l *lab) replies(client string, to netip.Addr, n int) (answered int) {
	for range n {
		if tcp(10, 10)(l.clients[client], to) == nil {
			answered++
		}
	}
	return answered
}

// failures are what may be missing.
var failures = []struct {
	name  string
	fail  func(s *steer)
	new   string // clients whose new connections are answered
	known string // and those whose old ones are
}{
	{"nothing", func(*steer) {}, "abc", "abc"},
	{"filter removed", func(s *steer) {
		s.host.Run("tc", "filter", "del", "dev", "e1", "ingress", "pref", "1")
		s.host.Run("tc", "filter", "del", "dev", "e2", "ingress", "pref", "1")
	}, "a", "abc"},
	{"qdisc removed", func(s *steer) {
		s.host.Run("tc", "qdisc", "del", "dev", "e1", "clsact")
		s.host.Run("tc", "qdisc", "del", "dev", "e2", "clsact")
	}, "a", "abc"},
	{"pins removed", func(s *steer) {
		if err := s.control.Place.Unpin(0); err != nil {
			s.t.Error(err)
		}
	}, "abc", "abc"},
	{"pins removed and programs closed", func(s *steer) {
		s.control.Close()
		if err := s.control.Place.Unpin(0); err != nil {
			s.t.Error(err)
		}
	}, "abc", "abc"},
	{"encap lost", func(s *steer) {
		s.host.IP("route replace default via 10.1.0.1 dev e1 table 20000")
		s.host.IP("-6 route replace default via fd01::1 dev e1 table 20000")
	}, "a", "a"},
	{"the table's gateway does not answer ARP", func(s *steer) {
		s.routers["a"].IP("link set r0 down")
		for _, family := range []string{"-4", "-6"} {
			s.host.IP(family + " neigh flush dev e1")
		}
	}, "bc", "bc"},
	{"a program is refused", func(s *steer) {
		s.control.Close() // what is attached stays
		c := &lasthop.Control{Place: s.control.Place, Flows: 1 << 31}
		s.kernel.LastHop = c
		s.state = labState(routing.LastHopPrefix + "other.7")
		h, err := s.kernel.Read()
		if err == nil {
			_, err = s.kernel.Write(routing.Compare(routing.Owned(h,
				routing.DefaultNumbers),
				s.state))
		}
		if support := c.Support(nil); err == nil || support.Missing == "" {
			s.t.Errorf("not refused: %v, %+v", err, support)
		}
	}, "abc", "abc"},
}

// wantNew expects new connections of a client to be answered, or not.
func (s *steer) wantNew(client string, to netip.Addr, answered bool) {
	s.t.Helper()
	if !answered {
		if _, err := dialWithin(soon, s.clients[client], "tcp", to, tcpPort); err == nil {
			s.t.Errorf("by router %s, a new connection is answered", client)
		}
	} else if n := s.replies(client, to, 5); n != 5 {
		s.t.Errorf("by router %s, %d of 5 new connections are answered", client, n)
	}
}

// TestFailStatic: whatever is missing, new connections are answered by the
// table's router, and known connections by theirs.
func TestFailStatic(t *testing.T) {
	for _, tt := range failures {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := steered(t)
			var known []talk
			for _, vip := range vips["lo"] {
				for _, r := range routers {
					known = append(known, s.talk(r.name, vip))
				}
			}
			tt.fail(s)
			for i, c := range known {
				r, within := routers[i%3].name, soon
				want := strings.Contains(tt.known, r)
				if want {
					within = patience
				}
				if err := requestWithin(within, c, 10, 1000); (err == nil) != want {
					t.Errorf("an old connection by router %s: %v", r, err)
				}
			}
			for _, vip := range vips["lo"] {
				for _, r := range routers {
					s.wantNew(r.name, vip, strings.Contains(tt.new, r.name))
				}
			}
		})
	}
}

// again is a Control whose programs have a tag of their own, as those of
// another version would. It fails after some calls.
type again struct {
	*lasthop.Control
	prefix string
	calls  int // that succeed; negative: all
}

var errInterrupted = errors.New("interrupted")

func (a *again) Learn() (int, string, error) { return a.call(a.Control.Learn) }

func (a *again) Answer() (int, string, error) { return a.call(a.Control.Answer) }

func (a *again) call(load func() (int, string, error)) (program int, tag string, err error) {
	if a.calls == 0 {
		return 0, "", errInterrupted
	}
	a.calls--
	program, tag, err = load()
	return program, a.prefix + tag, err
}

// replace puts other programs into every filter and route, calls of them at
// most.
func (s *steer) replace(c *lasthop.Control, prefix string, calls int) {
	s.t.Helper()
	a := &again{c, prefix, calls}
	s.kernel.LastHop = a
	name := routing.LastHopPrefix + prefix + c.Support(nil).Tag
	h, err := s.kernel.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range s.state.Filters {
		f := &s.state.Filters[i]
		f.Name = name
		*f = f.Placed(h.Filters)
	}
	for i := range s.state.Routes {
		if s.state.Routes[i].Encap != "" {
			s.state.Routes[i].Encap = name
		}
	}
	d := routing.Compare(routing.Owned(h, routing.DefaultNumbers), s.state)
	if d.Empty() {
		s.t.Fatal("nothing is to be replaced")
	}
	ops := d.Ops()
	filters := slices.IndexFunc(ops, func(o routing.Op) bool {
		return o.Filter != nil && !o.Delete
	})
	routes := slices.IndexFunc(ops, func(o routing.Op) bool { return o.Route != nil })
	if filters > routes && routes >= 0 && filters >= 0 {
		s.t.Errorf("routes are replaced before filters: %v", ops)
	}
	if _, err := s.kernel.Write(d); !errors.Is(err, errInterrupted) && (err != nil ||
		calls >= 0) {
		s.t.Fatalf("after %d of %d: %v", calls, len(ops), err)
	}
}
