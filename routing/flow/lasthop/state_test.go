package lasthop_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
)

// hop is that of a router, as the host sees its frames.
func (l *lab) hop(router string) (h lasthop.Hop) {
	l.t.Helper()
	link := "e1"
	if router == "c" {
		link = "e2"
	}
	l.host.Do(func() { h.Link = uint32(indexOf(link)) })
	h.Router = lasthop.MAC(macOf(l.t, l.routers[router], "r0"))
	h.Own = lasthop.MAC(macOf(l.t, l.host, link))
	return h
}

func steered(t testing.TB) *steer {
	t.Helper()
	l := newLab(t)
	l.serve()
	s := l.steer(1 << 12)
	s.install()
	return s
}

// TestState: counters, hops and entries say what clients have done, from the
// process that loaded the programs and from another.
func TestState(t *testing.T) {
	s := steered(t)
	vip := netip.AddrPortFrom(vips["lo"][4], tcpPort)
	c, err := dial(s.clients["b"], "tcp", vip.Addr(), tcpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := c.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	s.wantFlow(client, vip, lasthop.Handshakes, "b")
	if err := request(c, 10, 10); err != nil {
		t.Fatal(err)
	}
	s.wantFlow(client, vip, lasthop.Connections, "b")
	if err := udp(8, 18, 0)(s.clients["c"], vip.Addr()); err != nil {
		t.Fatal(err)
	}
	if err := ping(56)(s.clients["c"], vip.Addr()); err != nil {
		t.Fatal(err)
	}
	n := s.counts()
	if n.Learned != 3 || n.Moved != 0 || n.Refused != 0 || n.Answered < 4 || n.ByTable != 0 ||
		n.Dead != 0 {
		t.Errorf("a connection, a datagram and an echo counted %+v", n)
	}
	other, err := s.control.Place.Maps()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if m, err := other.Counts(); err != nil || m.Learned != n.Learned {
		t.Errorf("pinned counters: %+v, %v", m, err)
	}
	hops, err := other.Hops()
	if err != nil || len(hops) != 2 {
		t.Errorf("hops: %v, %v", hops, err)
	}
	for _, r := range []string{"b", "c"} {
		last := hops[s.hop(r)]
		if age := time.Since(last.At); age < 0 || age > time.Minute ||
			last.Client != clientAddr(4, r) {
			t.Errorf("router %s was heard %v ago, for %v", r, age, last.Client)
		}
	}
	flows, err := other.FlowsByHop()
	if err != nil || flows[s.hop("b")][lasthop.Connections] != 1 ||
		flows[s.hop("b")][lasthop.Handshakes] != 1 ||
		flows[s.hop("c")][lasthop.Datagrams] != 2 {
		t.Errorf("flows: %v, %v", flows, err)
	}
	if _, ok, err := other.Flow(vip, client, routing.TCP); ok || err != nil {
		t.Errorf("a flow that is not there: %v, %v", ok, err)
	}
}

func (s *steer) wantFlow(remote, local netip.AddrPort, kind lasthop.Kind, router string) {
	s.t.Helper()
	var f lasthop.Flow
	want := lasthop.Flow{Kind: kind, Transport: routing.TCP, Remote: remote, Local: local,
		Hop: s.hop(router)}
	if !eventually(func() bool {
		f, _, _ = s.maps().Flow(remote, local, routing.TCP)
		return f == want
	}) {
		s.t.Errorf("flow %v, want %v", f, want)
	}
}

// TestSetDead: what only the host sends goes by the stand-in of a dead router,
// or by the table; a router that is no longer dead answers again. A router is
// no longer dead when a connection comes in by it.
func TestSetDead(t *testing.T) {
	s := steered(t)
	d := s.dialogue("b")
	m := s.maps()
	a, b, c := s.hop("a"), s.hop("b"), s.hop("c")
	for _, tt := range []struct {
		name   string
		dead   map[lasthop.Hop]lasthop.Hop
		astray bool // of packets for the client of b
	}{
		{"none", nil, false},
		{"another", map[lasthop.Hop]lasthop.Hop{c: a, a: b}, false},
		{"with a stand-in", map[lasthop.Hop]lasthop.Hop{b: c, a: b}, true},
		{"with none", map[lasthop.Hop]lasthop.Hop{b: {}}, true},
		{"no longer", map[lasthop.Hop]lasthop.Hop{}, false},
	} {
		d.hear()
		if err := m.SetDead(tt.dead); err != nil {
			t.Fatal(err)
		}
		if got, err := m.Dead(); err != nil || len(got) != len(tt.dead) {
			t.Errorf("%s: dead are %v, %v", tt.name, got, err)
		}
		before, astray := s.counts(), s.astray()
		err, counted, strayed := d.say(tt.astray), uint64(0), 0
		if !eventually(func() bool {
			counted, strayed = s.counts().Dead-before.Dead, s.astray()-astray
			return (counted > 0) == tt.astray && (strayed > 0) == tt.astray
		}) || (err == nil) == tt.astray {
			t.Errorf("%s: %v; %d astray, %d counted", tt.name, err, strayed, counted)
		}
	}
	if err := m.SetDead(map[lasthop.Hop]lasthop.Hop{b: c, a: c}); err != nil {
		t.Fatal(err)
	}
	noted, _ := m.Hops()
	d.hear()
	dead, _ := m.Dead()
	later, err := m.Hops()
	if _, still := dead[b]; err != nil || still || len(dead) != 1 ||
		!later[b].At.After(noted[b].At) {
		t.Errorf("heard again: dead are %v, noted %v, before %v", dead, later[b], noted[b])
	}
}

// dialogue is a client and a server of UDP, which send on command.
type dialogue struct {
	t      testing.TB
	client net.Conn
	server net.PacketConn
	from   net.Addr
}

func (s *steer) dialogue(router string) *dialogue {
	s.t.Helper()
	d, addr := &dialogue{t: s.t}, netip.AddrPortFrom(vips["lo"][4], closedPort)
	var err error
	s.host.Do(func() { d.server, err = net.ListenPacket("udp", addr.String()) })
	if err == nil {
		s.t.Cleanup(func() { d.server.Close() })
		d.client, err = dial(s.clients[router], "udp", addr.Addr(), addr.Port())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { d.client.Close() })
	return d
}

// hear has the client send, and the server receive.
func (d *dialogue) hear() {
	d.t.Helper()
	_, err := d.client.Write([]byte("?"))
	if err == nil {
		d.server.SetReadDeadline(time.Now().Add(patience))
		_, d.from, err = d.server.ReadFrom(make([]byte, 8))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// say makes the server send, and the client receive, or wait in vain.
func (d *dialogue) say(inVain bool) error {
	within := patience
	if inVain {
		within = soon
	}
	_, err := d.server.WriteTo([]byte("!"), d.from)
	if err == nil {
		d.client.SetReadDeadline(time.Now().Add(within))
		_, err = d.client.Read(make([]byte, 8))
	}
	return err
}

// TestFill: the estimate is right for maps that are empty, half full and full.
func TestFill(t *testing.T) {
	l := nstest.New(t)
	s := newSteer(t, l, 1<<16)
	if err := s.control.Load(); err != nil {
		t.Fatal(err)
	}
	m := s.maps()
	for _, n := range []int{0, 1 << 15, 1 << 16} {
		if err := m.Stuff(n); err != nil {
			t.Fatal(err)
		}
		for _, k := range []lasthop.Kind{lasthop.Connections, lasthop.Datagrams} {
			got, err := m.Fill(k)
			if want := float64(n) / (1 << 16); err != nil || got < want-0.1 ||
				got > want+0.1 {
				t.Errorf("%d of %d entries: %s is full to %.2f, %v", n, 1<<16, k,
					got, err)
			}
		}
	}
}

// TestMemory: maps for a million flows take 300 MB at most, and take them all.
func TestMemory(t *testing.T) {
	flows := pick(1<<16, 1<<20)
	s := newSteer(t, nstest.New(t), flows)
	if err := s.control.Load(); err != nil {
		t.Fatal(err)
	}
	empty, err := s.maps().Memory()
	if err != nil {
		t.Fatal(err)
	}
	if empty == 0 {
		t.Skip("this kernel does not tell")
	}
	start := time.Now()
	if err := s.maps().Stuff(flows); err != nil {
		t.Fatal(err)
	}
	stuffed := time.Since(start)
	got, err := s.maps().Memory()
	if err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	n := 0
	if err := s.maps().Each(func(lasthop.Flow) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d and %d flows: %d MB, with entries %d MB; filled in %v, read in %v", flows, flows,
		empty/1e6, got/1e6, stuffed, time.Since(start))
	fixed := uint64(30e6) // of the maps whose size does not depend on it
	if limit := 257*uint64(flows) + fixed; got > limit {
		t.Errorf("%d bytes, more than %d", got, limit)
	}
	if n < 2*flows*95/100 {
		t.Errorf("%d of %d entries are there", n, 2*flows)
	}
}
