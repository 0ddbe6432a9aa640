package lasthop_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

const table, protocol = 20000, 76

// steer is the mode last-hop as package routing decides it for a lab; the test
// installs and removes it.
type steer struct {
	*lab
	kernel  *host.Kernel
	control *lasthop.Control
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
	s := newSteer(l.t, l.host, flows)
	s.lab = l
	s.state = labState(s.name())
	return s
}

// newSteer loads programs for a host, and skips the test where that cannot be.
func newSteer(t testing.TB, host *nstest.NS, flows int) *steer {
	t.Helper()
	s := &steer{lab: &lab{t: t, host: host}, kernel: open(t, host),
		control: &lasthop.Control{Flows: flows}}
	s.control.Place = lasthop.Place{Root: bpffs(t), Namespace: s.kernel.Inode()}
	s.kernel.LastHop = s.control
	t.Cleanup(func() { s.control.Close() })
	support := s.control.Support(nil)
	if support.Missing != "" || !support.Known {
		t.Skipf("last-hop is not possible here: %+v", support)
	}
	return s
}

func open(t testing.TB, ns *nstest.NS) *host.Kernel {
	t.Helper()
	k, err := host.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.AskedLastHop = true
	return k
}

// name is the name for routes and filters.
func (s *steer) name() string { return routing.LastHopPrefix + s.control.Support(nil).Tag }

// counts returns the counters.
func (s *steer) counts() lasthop.Counts {
	s.t.Helper()
	c, err := s.maps().Counts()
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// maps are those of the programs, open until the test ends.
func (s *steer) maps() *lasthop.Maps {
	s.t.Helper()
	m, done, err := s.control.Maps()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(done)
	return m
}

// labState is what package routing would install for a lab.
func labState(name string) routing.State {
	var w routing.State
	for _, link := range []string{"e1", "e2"} {
		w.Filters = append(w.Filters, filter(link, name))
	}
	for _, place := range vips {
		for _, a := range place {
			w.Wanted = append(w.Wanted, wanted(a)...)
			w.Rules = append(w.Rules, rule(a, table))
		}
	}
	for _, f := range routing.Families {
		via := "10.%d.0.1"
		on := routing.Route{RouteKey: routing.RouteKey{Table: table,
			Dst: netip.MustParsePrefix("10.1.0.0/24")}, Type: routing.Unicast,
			Protocol: protocol, Scope: routing.ScopeLink,
			Hops: []routing.Hop{{Link: "e1", Weight: 1}}}
		if f == routing.IPv6 {
			via = "fd0%d::1"
			on.Dst, on.Metric, on.Scope = netip.MustParsePrefix("fd01::/64"), 256, 0
		}
		w.Routes = append(w.Routes, on)
		for n := range 2 {
			gateway := netip.MustParseAddr(fmt.Sprintf(via, n+1))
			r := byGateway(table, fmt.Sprintf("e%d", n+1), gateway, name)
			r.Metric += uint32(n) * 100
			w.Routes = append(w.Routes, r)
		}
	}
	w.Sort()
	return w
}

func filter(link, name string) routing.Filter {
	return routing.Filter{Link: link, Pref: 1, Handle: 1, Kind: "bpf", Name: name}
}

// wanted are the entries for an address of a listener.
func wanted(a netip.Addr) []routing.Wanted {
	return []routing.Wanted{{Addr: a, Port: tcpPort, Transport: routing.TCP},
		{Addr: a, Port: udpPort, Transport: routing.UDP},
		{Addr: a, Port: closedPort, Transport: routing.UDP},
		{Addr: a, Transport: routing.TCP}, {Addr: a, Transport: routing.ICMP},
		{Addr: a, Port: greetPort, Transport: routing.TCP},
		{Addr: a, Port: anyPort, Transport: routing.UDP},
		{Addr: a, Port: pairPort, Transport: routing.UDP}}
}

func rule(a netip.Addr, table uint32) routing.Rule {
	r := routing.NewRule(routing.FamilyOf(a), 5099, table)
	r.From, r.IIF, r.Protocol = netip.PrefixFrom(a, a.BitLen()), "lo", protocol
	return r
}

// byGateway is a default route; name is that of its program, or "".
func byGateway(table uint32, link string, gateway netip.Addr, name string) routing.Route {
	f := routing.FamilyOf(gateway)
	r := routing.Route{RouteKey: routing.RouteKey{Table: table, Dst: f.All()},
		Type: routing.Unicast, Protocol: protocol, Encap: name,
		Hops: []routing.Hop{{Link: link, Weight: 1, OnLink: true, Via: gateway}}}
	if f == routing.IPv6 {
		r.Metric = 1024
	}
	return r
}

// install writes what is missing.
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
	l.serveMore()
	s := l.steer(1 << 12)
	s.alone()
	s.install()
	for _, r := range routers {
		_, err := dialWithin(soon, l.clients[r.name], "tcp", vips["nic"][4], tcpPort)
		if (err == nil) != (r.name == "a") {
			t.Errorf("without last-hop, by router %s: %v", r.name, err)
		}
	}
	before := l.astray()
	if before == 0 {
		t.Error("without last-hop nothing went astray: the lab sees nothing")
	}
	s.state = labState(s.name())
	s.install()
	cases := 0
	for place, addrs := range vips {
		for family, addr := range addrs {
			for _, r := range routers {
				for _, k := range slices.Concat(kinds, moreKinds) {
					cases++
					if err := k.ask(l.clients[r.name], addr); err != nil {
						t.Errorf("%s by router %s, to %s IPv%d: %v",
							k.name, r.name, place, family, err)
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
