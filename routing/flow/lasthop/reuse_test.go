package lasthop_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/routing"
	"lasthop/routing/flow/lasthop"

	"golang.org/x/sys/unix"
)

// TestWindows: a segment by another router moves a connection if its numbers
// fit the socket's windows, and only then.
func TestWindows(t *testing.T) {
	s := steered(t)
	for _, vip := range vips["lo"] {
		c := s.talk("a", vip)
		heard := s.listen("a")
		if err := request(c, 10, 10); err != nil {
			t.Fatal(err)
		}
		all := heard(3)
		last := all[len(all)-1] // of the host: what it has sent, and what it expects
		if n := len(all); n == 0 || last.to != c.client {
			t.Fatalf("router a got %+v", all)
		}
		next := last.seq + 10 // the answer
		for _, tt := range []struct {
			name     string
			seq, ack uint32
			moves    bool
		}{
			{"too far ahead", last.ack + 4<<20 + 1, next, false},
			{"too old", last.ack - 1<<20 - 1, next, false},
			{"of what was never sent", last.ack, next + 1000, false},
			{"of what was sent long ago", last.ack, next - 2<<20, false},
			{"right", last.ack, next, true},
		} {
			seg := segment{from: c.client, to: c.server, flags: ack, seq: tt.seq,
				ack: tt.ack}
			s.inject("b", seg.packet())
			if !eventually(func() bool {
				f, _, err := s.maps().Flow(c.client, c.server, routing.TCP)
				return err == nil && (f.Hop == s.hop("b")) == tt.moves
			}) {
				t.Errorf("%v, %s: moved %v", vip, tt.name, !tt.moves)
			}
		}
	}
}

// TestGone: where a connection has ended, a segment by another router does not
// move what is known; the SYN of a new one does. A SYN-ACK is no beginning.
func TestGone(t *testing.T) {
	s := steered(t)
	s.serveMore()
	s.secondWay("b")
	s.goBy(false)
	for _, vip := range vips["lo"] {
		local := netip.AddrPortFrom(clientAddr(family(vip), "a"), 7777)
		server := netip.AddrPortFrom(vip, greetPort)
		if err := s.greetedFrom(local, server); err != nil {
			t.Fatal(err)
		}
		s.wantFlow(local, server, lasthop.Connections, "a")
		refused, heard := s.counts().Refused, s.listen("a")
		s.inject("b", segment{from: local, to: server, flags: ack, seq: 5, ack: 7}.packet())
		if got := heard(1); len(got) != 1 || got[0].flags&rst == 0 {
			t.Errorf("router a got %+v, not the reset", got)
		}
		if n := s.counts().Refused - refused; n != 1 {
			t.Errorf("%d are counted as refused", n)
		}
		s.wantFlow(local, server, lasthop.Connections, "a")

		s.goBy(true)
		if err := s.greetedFrom(local, server); err != nil {
			t.Errorf("a new connection with the old ports, by another router: %v", err)
		}
		s.wantFlow(local, server, lasthop.Connections, "b")
		s.goBy(false)

		stranger := netip.AddrPortFrom(local.Addr(), 7778)
		s.inject("b", segment{from: stranger, to: server, flags: syn | ack}.packet())
		if f, ok, err := s.maps().Flow(stranger, server, routing.TCP); ok || err != nil {
			t.Errorf("a SYN-ACK is learned: %+v, %v", f, err)
		}
	}
}

// greetedFrom opens a connection from a port, waits for the greeting, and ends
// it with a reset.
func (l *lab) greetedFrom(local, server netip.AddrPort) error {
	l.t.Helper()
	var c net.Conn
	var err error
	l.clients["a"].Do(func() {
		d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(local),
			Control: reuse}
		c, err = d.Dial("tcp", server.String())
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(patience))
	for got := 0; got < 3000; {
		n, err := c.Read(make([]byte, 4096))
		if err != nil {
			return err
		}
		got += n
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%d bytes in place of the end: %w", n, err)
	}
	return nil
}

// ping has the host send one echo request, with an identifier.
func (s *steer) ping(from, to netip.Addr, id uint16) (err error) {
	network, header := "ip4:icmp", 20
	if to.Is6() {
		network, header = "ip6:ipv6-icmp", 40
	}
	s.host.Do(func() {
		var c *net.IPConn
		c, err = net.DialIP(network, &net.IPAddr{IP: from.AsSlice()},
			&net.IPAddr{IP: to.AsSlice()})
		if err != nil {
			return
		}
		defer c.Close()
		_, err = c.Write(echo(from, to, id)[header:])
	})
	return err
}

// TestOwnEcho: the host's own ping goes by the table, also with the identifier
// of an echo that came by another router.
func TestOwnEcho(t *testing.T) {
	t.Parallel()
	s := steered(t)
	for _, vip := range vips["lo"] {
		client := clientAddr(family(vip), "a")
		s.inject("b", echo(client, vip, 77))
		if !eventually(func() bool {
			f, _, err := s.maps().Flow(netip.AddrPortFrom(client, 77),
				netip.AddrPortFrom(vip, 0), routing.ICMP)
			return err == nil && f.Hop == s.hop("b")
		}) {
			t.Fatal("the echo is not learned")
		}
		astray, table := s.astray(), s.counts().ByTable
		if err := s.ping(vip, client, 77); err != nil { // ping -e came with Debian 12
			t.Fatal(err)
		}
		if n := s.astray() - astray; n != 0 || s.counts().ByTable == table {
			t.Errorf("%v: the ping went by router b", vip)
		}
	}
}

// TestRejected: an ICMP error that quotes a SYN goes back to where that came
// from.
func TestRejected(t *testing.T) {
	t.Parallel()
	s := steered(t)
	c := s.host.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(fmt.Sprintf(`table inet refusing {
	chain input {
		type filter hook input priority 0;
		tcp dport { %d, %d } reject with icmpx type port-unreachable
	}
}
`, tcpPort, closedPort))
	if out, err := c.CombinedOutput(); err != nil {
		t.Skipf("no reject here: %v\n%s", err, out)
	}
	for _, addrs := range vips {
		for _, vip := range addrs {
			for _, r := range routers {
				s.wantRejected(r.name, netip.AddrPortFrom(vip, tcpPort))
				s.wantRejected(r.name, netip.AddrPortFrom(vip, closedPort))
			}
		}
	}
	if n := s.astray(); n != 0 {
		t.Errorf("%d packets went astray", n)
	}
}

// wantRejected expects a client to get an ICMP error for its SYN. Over IPv6 the
// kernel does not give up for it, so it is counted.
func (l *lab) wantRejected(client string, to netip.AddrPort) {
	l.t.Helper()
	unreachable := func() string {
		return l.clients[client].Run("grep", "Icmp6InDestUnreachs", "/proc/net/snmp6")
	}
	before, within := unreachable(), patience
	if to.Addr().Is6() {
		within = soon
	}
	_, err := dialWithin(within, l.clients[client], "tcp", to.Addr(), to.Port())
	if !errors.Is(err, unix.ECONNREFUSED) &&
		!eventually(func() bool { return unreachable() != before }) {
		l.t.Errorf("%v by router %s: %v", to, client, err)
	}
}
