package lasthop_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

const table, protocol = 20000, 76

// steer is last-hop as package routing decides it for a lab, put in and taken
// out by hand.
type steer struct {
	*lab
	kernel  *host.Kernel
	control *lasthop.Control
	flows   int
	state   routing.State
}

// bpffs mounts one for the test; "" where that is not allowed.
func bpffs(t testing.TB) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "bpf")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", folder, "bpf", 0, ""); err != nil {
		t.Logf("no bpffs: %v", err)
		return "/nonexistent"
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	return folder
}

func (l *lab) steer(flows int) *steer {
	l.t.Helper()
	k, err := host.Open(l.host.Path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(k.Close)
	s := &steer{lab: l, kernel: k, flows: flows, control: &lasthop.Control{
		Place: lasthop.Place{Root: bpffs(l.t), Namespace: k.Inode()}, Flows: flows}}
	l.t.Cleanup(func() { s.control.Close() })
	k.LastHop = s.control
	support := s.control.Support(nil)
	if support.Missing != "" || !support.Known {
		l.t.Skipf("last-hop is not to be had: %+v", support)
	}
	s.state = s.wanted(routing.LastHopPrefix + support.Tag)
	return s
}

// wanted is what package routing would install.
func (s *steer) wanted(name string) routing.State {
	var w routing.State
	for _, link := range []string{"e1", "e2"} {
		w.Filters = append(w.Filters, routing.Filter{Link: link, Pref: 1, Handle: 1, Kind: "bpf", Name: name})
	}
	for _, place := range vips {
		for _, a := range place {
			w.Wanted = append(w.Wanted, routing.Wanted{Addr: a, Port: tcpPort, Transport: routing.TCP},
				routing.Wanted{Addr: a, Port: udpPort, Transport: routing.UDP},
				routing.Wanted{Addr: a, Port: closedPort, Transport: routing.UDP},
				routing.Wanted{Addr: a, Transport: routing.TCP},
				routing.Wanted{Addr: a, Transport: routing.ICMP})
			rule := routing.NewRule(routing.FamilyOf(a), 5099, table)
			rule.From, rule.IIF, rule.Protocol = netip.PrefixFrom(a, a.BitLen()), "lo", protocol
			w.Rules = append(w.Rules, rule)
		}
	}
	for _, f := range routing.Families {
		for n, via := range []string{"10.%d.0.1", "10.%d.0.1"} {
			if f == routing.IPv6 {
				via = "fd0%d::1"
			}
			r := routing.Route{RouteKey: routing.RouteKey{Table: table, Dst: f.All(), Metric: uint32(n) * 100},
				Type: routing.Unicast, Protocol: protocol, Encap: name,
				Hops: []routing.Hop{{Link: fmt.Sprintf("e%d", n+1), Weight: 1, OnLink: true,
					Via: netip.MustParseAddr(fmt.Sprintf(via, n+1))}}}
			if f == routing.IPv6 {
				r.Metric += 1024
			}
			on := routing.Route{RouteKey: routing.RouteKey{Table: table}, Type: routing.Unicast,
				Protocol: protocol, Scope: routing.ScopeLink, Hops: []routing.Hop{{Link: "e1", Weight: 1}}}
			on.Dst = netip.MustParsePrefix("10.1.0.0/24")
			if f == routing.IPv6 {
				on.Dst, on.Metric, on.Scope = netip.MustParsePrefix("fd01::/64"), 256, 0
			}
			if n == 0 {
				w.Routes = append(w.Routes, on)
			}
			w.Routes = append(w.Routes, r)
		}
	}
	w.Sort()
	return w
}

// install writes what lacks.
func (s *steer) install() {
	s.t.Helper()
	h, err := s.kernel.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	owned := routing.Owned(h, routing.DefaultNumbers)
	if _, err := s.kernel.Write(routing.Compare(owned, s.state)); err != nil {
		s.t.Fatal(err)
	}
	if h, err = s.kernel.Read(); err != nil {
		s.t.Fatal(err)
	}
	owned = routing.Owned(h, routing.DefaultNumbers)
	if d := routing.Compare(owned, s.state); !d.Empty() {
		s.t.Fatalf("what was written is not read back:\n%v", d.Ops())
	}
}

// TestTraffic: whatever a client sends, by whichever router, to an address on
// the NIC or on lo, in both families: it is answered, and no packet comes to
// another router. Without the programs, a client of the second and third router
// is not answered at all.
func TestTraffic(t *testing.T) {
	l := newLab(t)
	l.serve()
	s := l.steer(1 << 12)
	s.state.Filters, s.state.Wanted = nil, nil // source routing alone
	for i := range s.state.Routes {
		s.state.Routes[i].Encap = ""
	}
	s.install()
	for _, r := range routers {
		err := kinds[0].ask(l.clients[r.name], vips["nic"][4])
		if (err == nil) != (r.name == "a") {
			t.Errorf("without last-hop, by router %s: %v", r.name, err)
		}
	}
	before := l.astray()
	if before == 0 {
		t.Error("without last-hop nothing went astray: the lab sees nothing")
	}
	s.state = s.wanted(routing.LastHopPrefix + s.control.Support(nil).Tag)
	s.install()
	cases := 0
	for place, addrs := range vips {
		for family, addr := range addrs {
			for _, r := range routers {
				for _, k := range kinds {
					cases++
					if err := k.ask(l.clients[r.name], addr); err != nil {
						t.Errorf("%s by router %s to the address on %s, IPv%d: %v", k.name,
							r.name, place, family, err)
					}
				}
			}
		}
	}
	if n := l.astray() - before; n != 0 {
		t.Errorf("%d packets went astray", n)
	}
	t.Logf("%d cases", cases)
}
