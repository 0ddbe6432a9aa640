package lasthop_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
)

// secondWay gives the client of router a another cable, to another router, by
// which it can send and be reached. That router has no firewall then.
func (l *lab) secondWay(router string) {
	l.t.Helper()
	r, client := l.routers[router], l.clients["a"]
	l.cable(r, "r2", client, "c1")
	r.Batch(fmt.Sprintf(`addr add 198.51.110.1/24 dev r2
addr add 2001:db8:b0::1/64 dev r2 nodad
addr add fe80::1/64 dev r2 nodad
route add %s/32 via 198.51.110.2
route add %s/128 via 2001:db8:b0::2
`, clientAddr(4, "a"), clientAddr(6, "a")))
	client.Batch("addr add 198.51.110.2/24 dev c1\naddr add 2001:db8:b0::2/64 dev c1 nodad\n" +
		fmt.Sprintf("neigh add 2001:db8:b0::1 lladdr %v dev c1\n", macOf(l.t, r, "r2")))
	r.Batch(fmt.Sprintf("neigh add 2001:db8:b0::2 lladdr %v dev r2\n", macOf(l.t, client,
		"c1")))
	r.Run("nft", "flush ruleset")
}

// goBy sends the client of router a by its second way, or back by the first.
func (l *lab) goBy(second bool) {
	l.t.Helper()
	via4, via6 := "198.51.100.1", "2001:db8:a0::1"
	if second {
		via4, via6 = "198.51.110.1", "2001:db8:b0::1"
	}
	l.clients["a"].IP(fmt.Sprintf("route replace default via %s src %s", via4, clientAddr(4,
		"a")))
	l.clients["a"].IP(fmt.Sprintf("-6 route replace default via %s src %s", via6,
		clientAddr(6, "a")))
}

// fetch asks for bytes, and runs at in the middle of them.
func fetch(c net.Conn, bytes int, at func()) error {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(c, "0 %d\n", bytes); err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	for got := 0; got < bytes; {
		n, err := c.Read(b)
		if err != nil {
			return fmt.Errorf("at %d of %d: %w", got, bytes, err)
		}
		if at != nil && got+n >= bytes/2 {
			at()
			at = nil
		}
		got += n
	}
	return nil
}

// TestSoftFailover: a client that comes by another router of the same link, or
// of another link, is answered by it from the first segment on.
func TestSoftFailover(t *testing.T) {
	for _, to := range []string{"b", "c"} {
		t.Run(to, func(t *testing.T) {
			steered(t).failOver(to, 30_000_000)
		})
	}
}

// failOver has the client of router a go on by another router: while nothing
// is on its way, and in the middle of a download.
func (s *steer) failOver(to string, bytes int) {
	s.t.Helper()
	s.secondWay(to)
	for _, vip := range vips["lo"] {
		s.goBy(false)
		c := s.talk("a", vip)
		moved := s.counts().Moved
		s.goBy(true)
		if err := request(c, 10, 1000); err != nil {
			s.t.Error(err)
		}
		s.wantFlow(c.client, c.server, lasthop.Connections, to)
		if n := s.counts().Moved - moved; n != 1 {
			s.t.Errorf("%d moves are counted", n)
		}
		s.goBy(false)
		c = s.talk("a", vip) // router a knows the other no more
		if err := fetch(c, bytes, func() { s.goBy(true) }); err != nil {
			s.t.Error(err)
		}
		s.wantFlow(c.client, c.server, lasthop.Connections, to)
	}
}

// TestForeignFailover: so is a connection of another program at a listener's
// address, SSH for example, or of a listener that NGINX has closed; and no
// other packet moves it.
func TestForeignFailover(t *testing.T) {
	s := steered(t)
	s.secondWay("b")
	for _, vip := range vips["lo"] {
		s.goBy(false)
		closed := s.talk("a", vip)
		listener := routing.Wanted{Addr: vip, Port: tcpPort, Transport: routing.TCP}
		if err := s.control.SetWanted(listener, true); err != nil {
			t.Fatal(err)
		}
		c := s.talk("a", vip)
		for _, flags := range []byte{syn, ack, rst, fin | ack} {
			s.inject("c", segment{from: c.client, to: c.server, flags: flags, seq: 5,
				ack: 7}.packet())
		}
		s.wantFlow(c.client, c.server, lasthop.Handshakes, "a")
		s.goBy(true)
		if err := request(c, 10, 1000); err != nil {
			t.Error(err)
		}
		s.wantFlow(c.client, c.server, lasthop.Handshakes, "b")
		if err := request(closed, 10, 1000); err != nil {
			t.Error(err)
		}
		s.wantFlow(closed.client, closed.server, lasthop.Connections, "b")
	}
}

// TestHardFailover: a router dies while a client only receives. The client
// sends nothing, so the download waits until Watch reports that the router is
// dead.
func TestHardFailover(t *testing.T) {
	s := steered(t)
	s.secondWay("b")
	a, b := s.hop("a"), s.hop("b")
	vip := vips["lo"][4]
	s.goBy(false)
	c := s.talk("a", vip)
	m, done := s.maps(), make(chan struct{})
	var died, said time.Time
	err := fetch(c, 60_000_000, func() {
		s.routers["a"].IP("link set r0 down")
		died = time.Now()
		go func() {
			defer close(done)
			time.Sleep(soon) // packets on their way have arrived, and were acknowledged
			s.goBy(true)
			time.Sleep(soon)
			said = time.Now()
			if err := m.SetDead(map[lasthop.Hop]lasthop.Hop{a: b}); err != nil {
				t.Error(err)
			}
		}()
	})
	end := time.Now()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if end.Before(said) {
		t.Error("the download went on before anything was said: nothing is shown")
	}
	t.Logf("done %v after the router's death, %v after that was said", end.Sub(died),
		end.Sub(said))
	s.wantFlow(c.client, c.server, lasthop.Connections, "b")
	if n := s.counts().Dead; n == 0 {
		t.Error("no packet is counted whose router was dead")
	}
}

// TestLinkDown: the link of a flow's router goes down, and the client comes by
// another. New connections by that are answered, too.
func TestLinkDown(t *testing.T) {
	s := steered(t)
	s.secondWay("c")
	s.goBy(false)
	var talks []talk
	for _, vip := range vips["lo"] {
		talks = append(talks, s.talk("a", vip))
	}
	s.host.IP("link set e1 down")
	s.goBy(true)
	start := time.Now()
	for _, c := range talks {
		if err := request(c, 10, 1000); err != nil {
			t.Error(err)
		}
		s.wantFlow(c.client, c.server, lasthop.Connections, "c")
		for _, client := range []string{"a", "c"} {
			if n := s.replies(client, c.server.Addr(), 5); n != 5 {
				t.Errorf("%d of 5 new connections of %s to %v are answered", n,
					client, c.server)
			}
		}
	}
	t.Logf("answered after %v", time.Since(start))
}

// TestFailoverAlone prints what source routing alone does where the tests above
// fail over: the client goes on by another router in the middle of a download.
// A router that lives sees the host's side alone, and may drop it.
func TestFailoverAlone(t *testing.T) {
	for _, tt := range []struct {
		name, to string
		cut      func(s *steer)
	}{
		{"the router lives", "b", func(*steer) {}},
		{"the router dies", "b", func(s *steer) { s.routers["a"].IP("link set r0 down") }},
		{"the link goes down", "c", func(s *steer) { s.host.IP("link set e1 down") }},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.serve()
			s := l.steer(1 << 12)
			s.alone()
			s.install()
			s.secondWay(tt.to)
			s.goBy(false)
			c := s.talk("a", vips["lo"][4])
			var start time.Time
			err := fetch(c, 30_000_000, func() {
				tt.cut(s)
				s.goBy(true)
				start = time.Now()
				c.SetDeadline(start.Add(patience))
			})
			if err != nil {
				t.Logf("with source tables alone never done: %v", err)
			} else {
				t.Logf("with source tables alone done after %v", time.Since(start))
			}
			if err == nil && tt.name != "the router lives" {
				t.Error("the lab shows nothing")
			}
		})
	}
}

// alone leaves source routing alone, with one way a table.
func (s *steer) alone() {
	s.state.Filters, s.state.Wanted = nil, nil
	s.state.Routes = slices.DeleteFunc(s.state.Routes, func(r routing.Route) bool {
		return r.Encap != "" && r.Hops[0].Link != "e1"
	})
	for i := range s.state.Routes {
		s.state.Routes[i].Encap = ""
	}
}

// BenchmarkSoftFailover downloads 300 MB with and without a soft failover in
// the middle: the ratio of the times.
func BenchmarkSoftFailover(b *testing.B) {
	s := steered(b)
	s.secondWay("b")
	var times [2]time.Duration
	for b.Loop() {
		for i, second := range []bool{false, true} {
			at := func() { s.goBy(second) } // its commands take time, too
			s.goBy(false)
			c := s.talk("a", vips["lo"][4])
			start := time.Now()
			if err := fetch(c, 300_000_000, at); err != nil {
				b.Fatal(err)
			}
			times[i] += time.Since(start)
			c.Close()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(times[0].Seconds()/float64(b.N), "s/undisturbed")
	b.ReportMetric(times[1].Seconds()/times[0].Seconds(), "failover/undisturbed")
}
