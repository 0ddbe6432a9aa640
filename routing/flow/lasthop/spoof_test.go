package lasthop_test

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"lasthop/routing"
	"lasthop/routing/flow/lasthop"

	"golang.org/x/sys/unix"
)

// inject sends packets to the host as a router would.
func (l *lab) inject(router string, packets ...[]byte) {
	l.t.Helper()
	h := l.hop(router)
	s := newSender(l.t, l.routers[router], "r0")
	defer s.close()
	for _, p := range packets {
		s.send(framed(h.Own[:], h.Router[:], -1, p))
	}
}

// talk is a connection of a client that has sent and got something.
type talk struct {
	net.Conn
	client, server netip.AddrPort
}

func (l *lab) talk(client string, to netip.Addr) talk {
	l.t.Helper()
	c, err := dial(l.clients[client], "tcp", to, tcpPort)
	if err == nil {
		err = request(c, 10, 10)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return talk{c, addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())}
}

func addrPort(a net.Addr) netip.AddrPort {
	p := a.(interface{ AddrPort() netip.AddrPort }).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// TestSpoofedSegments: an attacker that knows the addresses and ports of a
// connection sends by another router, and does not move it. The host's answers
// go to the true router.
func TestSpoofedSegments(t *testing.T) {
	s := steered(t)
	for place, addrs := range vips {
		for _, vip := range addrs {
			c := s.talk("a", vip)
			astray, before := s.astray(), s.counts()
			spoof := func(flags byte, n int) (packets [][]byte) {
				for range n {
					packets = append(packets, segment{from: c.client,
						to:    c.server,
						flags: flags, seq: rand.Uint32(),
						ack: rand.Uint32()}.packet())
				}
				return packets
			}
			for _, tt := range []struct {
				name    string
				packets [][]byte
				refused bool
			}{
				{"SYN", spoof(syn, 1), false}, {"RST", spoof(rst, 1), false},
				{"RST and ACK", spoof(rst|ack, 1), false},
				{"SYN and ACK", spoof(syn|ack, 1), false},
				{"ACK", spoof(ack, 1000), true}, {"data", spoof(ack|psh, 10), true},
				{"FIN", spoof(fin|ack, 10), true}, {"none", spoof(0, 10), true}} {
				was := s.counts().Refused
				s.inject("b", tt.packets...)
				if err := request(c, 10, 1000); err != nil {
					t.Errorf("%s on %s: %v", tt.name, place, err)
				}
				n, want := uint64(0), 0
				if tt.refused {
					want = len(tt.packets)
				}
				if !eventually(func() bool {
					n = s.counts().Refused - was
					return n == uint64(want)
				}) {
					t.Errorf("%s on %s: %d are counted as refused, want %d",
						tt.name, place, n, want)
				}
				s.wantFlow(c.client, c.server, lasthop.Connections, "a")
			}
			if n := s.astray() - astray; n != 0 {
				t.Errorf("%d packets went astray", n)
			}
			if n := s.counts(); n.Moved != before.Moved || n.ByTable != before.ByTable {
				t.Errorf("counted %+v, before %+v", n, before)
			}
		}
	}
}

// TestSpoofedDatagrams: one datagram by another router moves nothing while the
// true one is heard. Two do, and one does after a second of silence.
func TestSpoofedDatagrams(t *testing.T) {
	t.Parallel()
	s := steered(t)
	for _, vip := range vips["lo"] {
		client := netip.AddrPortFrom(clientAddr(family(vip), "a"), 4000)
		server := netip.AddrPortFrom(vip, udpPort)
		moved := s.counts().Moved
		for i, step := range []struct{ by, want string }{
			{"a", "a"}, {"b", "a"}, {"a",
				"a"}, {"b", "a"},
			{"a", "a"}, {"b", "a"}, {"c", "a"}, {"b", "a"}, {"b", "b"}, {"a", "b"}, {"a", "a"},
			{"", "a"}, {"b", "b"}} {
			if step.by == "" {
				time.Sleep(1100 * time.Millisecond)
				continue
			}
			s.inject(step.by, datagram(client, server))
			var f lasthop.Flow
			if !eventually(func() (ok bool) {
				f, ok, _ = s.maps().Flow(client, server, routing.UDP)
				return ok && f.Hop == s.hop(step.want)
			}) {
				t.Errorf("%v, step %d: after one by %s it is %+v", vip, i,
					step.by, f)
			}
		}
		if n := s.counts().Moved - moved; n != 3 {
			t.Errorf("%d moves are counted", n)
		}
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// TestStray: a reset for a segment of no connection goes back to where that
// came from, also where nothing listens, and moves nothing.
func TestStray(t *testing.T) {
	s := steered(t)
	for _, vip := range vips["lo"] {
		for _, port := range []uint16{tcpPort, closedPort} {
			for _, by := range []string{"a", "b", "c"} {
				client := netip.AddrPortFrom(clientAddr(family(vip), by), 4000)
				server := netip.AddrPortFrom(vip, port)
				heard := s.listen(by)
				s.inject(by, segment{from: client, to: server, flags: ack, seq: 5,
					ack: 77}.packet())
				if got := heard(1); len(got) != 1 || got[0].flags&rst == 0 ||
					got[0].to != client {
					t.Errorf("%v: to router %s came %+v, not a reset", server,
						by, got)
				}
			}
		}
	}
	if n := s.astray(); n != 0 {
		t.Errorf("%d packets went astray", n)
	}
}

// listen returns a function that waits for TCP segments which the host sends to
// a router, for half a second at most.
func (l *lab) listen(router string) func(n int) []segment {
	l.t.Helper()
	var fd int
	var err error
	l.routers[router].Do(func() {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300,
				Ifindex: indexOf("r0")})
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { unix.Close(fd) })
	mac := l.hop(router).Router
	return func(n int) (got []segment) {
		b := make([]byte, 1<<16)
		for end := time.Now().Add(500 * time.Millisecond); len(got) < n &&
			time.Now().Before(end); {
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO,
				&unix.Timeval{Usec: 50000})
			size, _, err := unix.Recvfrom(fd, b, 0)
			if err == nil && size >= 54 && lasthop.MAC(b[:6]) == mac {
				if s, ok := parse(b[14:size]); ok {
					got = append(got, s)
				}
			}
		}
		return got
	}
}

// parse reads a packet of TCP without options of IP.
func parse(p []byte) (s segment, ok bool) {
	at, protocol := 40, p[6]
	from, to := p[8:24], p[24:40]
	if p[0]>>4 == 4 {
		at, protocol, from, to = 20, p[9], p[12:16], p[16:20]
	}
	if protocol != unix.IPPROTO_TCP || len(p) < at+20 {
		return s, false
	}
	t := p[at:]
	a, _ := netip.AddrFromSlice(from)
	b, _ := netip.AddrFromSlice(to)
	return segment{from: netip.AddrPortFrom(a, be.Uint16(t)), to: netip.AddrPortFrom(b,
		be.Uint16(t[2:])),
		flags: t[13], seq: be.Uint32(t[4:]), ack: be.Uint32(t[8:])}, true
}

// accept lets the client of router a accept one connection.
func (l *lab) accept(at netip.AddrPort) <-chan net.Conn {
	l.t.Helper()
	accepted := make(chan net.Conn, 1)
	l.clients["a"].Do(func() {
		listener, err := net.Listen("tcp", at.String())
		if err != nil {
			l.t.Error(err)
			return
		}
		l.t.Cleanup(func() { listener.Close() })
		go func() {
			if c, err := listener.Accept(); err == nil {
				accepted <- c
			}
		}()
	})
	return accepted
}

// TestOwnConnections: connections that the host opens go by the table, and no
// packet moves them: not a stray before one begins, nor one with its own
// numbers later.
func TestOwnConnections(t *testing.T) {
	s := steered(t)
	s.routers["a"].Run("nft", "insert rule inet strict forward tcp dport 9000 accept")
	for _, vip := range vips["lo"] {
		remote := netip.AddrPortFrom(clientAddr(family(vip), "a"), 9000)
		local := netip.AddrPortFrom(vip, 5555)
		accepted := s.accept(remote)
		astray := s.astray()
		s.inject("b", segment{from: remote, to: local, flags: ack, seq: 5, ack: 7}.packet())
		s.wantFlow(remote, local, lasthop.Handshakes, "b") // for its reset
		heard := s.listen("a")
		var c net.Conn
		var err error
		s.host.Do(func() {
			d := net.Dialer{Timeout: patience,
				LocalAddr: net.TCPAddrFromAddrPort(local)}
			c, err = d.Dial("tcp", remote.String())
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peer := <-accepted
		defer peer.Close()
		first := heard(2)[1] // the ACK of the handshake
		for _, flags := range []byte{syn, ack, ack | psh, fin | ack, syn | ack} {
			s.inject("b", segment{from: remote, to: local, flags: flags,
				seq: first.ack + 1e6,
				ack: first.seq}.packet())
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		peer.SetDeadline(time.Now().Add(patience))
		if n, err := peer.Read(make([]byte, 5)); n != 5 {
			t.Errorf("%v: the peer got %d bytes, %v", vip, n, err)
		}
		if f, ok, err := s.maps().Flow(remote, local, routing.TCP); ok || err != nil {
			t.Errorf("%v: learned is %+v, %v", vip, f, err)
		}
		if n := s.astray() - astray; n > 1 { // the reset before
			t.Errorf("%v: %d packets went astray", vip, n)
		}
	}
}
