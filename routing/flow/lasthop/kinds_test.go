package lasthop_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"golang.org/x/sys/unix"
)

const greetPort, anyPort, pairPort = 25, 54, 55

// moreKinds are requests that need another server, or other headers.
var moreKinds = []traffic{
	{"tcp, the server speaks first", greeted},
	{"udp, a wildcard socket", asks(anyPort, nil, 8)},
	{"udp, a wildcard socket, both in fragments", asks(anyPort, nil, 4000)},
	{"udp, a connected socket", asks(pairPort, nil, 8)},
	{"udp, with options", asks(udpPort, options, 8)},
	{"udp, with options in fragments", asks(udpPort, options, 4000)},
	{"tcp, with options", func(ns *nstest.NS, to netip.Addr) error {
		return withOptions(ns, to, options)
	}},
	{"tcp, with options for the destination", func(ns *nstest.NS, to netip.Addr) error {
		return withOptions(ns, to, destination)
	}},
	{"udp, with options for the destination in fragments", asks(udpPort, destination, 4000)},
}

// serveMore serves moreKinds.
func (l *lab) serveMore() {
	l.t.Helper()
	var greets net.Listener
	var wild, first *net.UDPConn
	var err error
	l.host.Do(func() {
		if greets, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", greetPort)); err != nil {
			return
		}
		if wild, err = net.ListenUDP("udp", &net.UDPAddr{Port: anyPort}); err != nil {
			return
		}
		var c net.PacketConn
		c, err = (&net.ListenConfig{Control: reuse}).ListenPacket(l.t.Context(), "udp",
			fmt.Sprintf("[::]:%d", pairPort))
		first, _ = c.(*net.UDPConn)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.tellAddr(wild)
	l.tellAddr(first)
	l.t.Cleanup(func() { greets.Close() })
	go greet(greets)
	go answerFrom(wild, func(b []byte, to netip.AddrPort, from netip.Addr, info []byte) {
		_, _, _ = wild.WriteMsgUDPAddrPort(b, info, to)
	})
	go answerFrom(first, func(b []byte, to netip.AddrPort, from netip.Addr, _ []byte) {
		l.host.Do(func() {
			local := netip.AddrPortFrom(from, pairPort)
			d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(local), Control: reuse}
			c, err := d.Dial("udp", to.String())
			if err != nil {
				l.t.Error(err)
				return
			}
			defer c.Close()
			_, _ = c.Write(b)
		})
	})
}

// tellAddr makes a socket tell the address that a datagram was sent to.
func (l *lab) tellAddr(c *net.UDPConn) {
	l.t.Helper()
	l.t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		l.t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1)
	})
}

// reuse lets two sockets have one port.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}), err)
}

// answerFrom sends each datagram back from the address that it was sent to.
func answerFrom(c *net.UDPConn, send func(b []byte, to netip.AddrPort, from netip.Addr,
	info []byte)) {
	b, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, cn, _, to, err := c.ReadMsgUDPAddrPort(b, control)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(control[:cn])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if m.Header.Level != unix.SOL_IPV6 || m.Header.Type != unix.IPV6_PKTINFO {
				continue // an IPv4 packet has one of either family
			}
			from := netip.AddrFrom16([16]byte(m.Data)).Unmap()
			send(b[:n], netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), from,
				unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()}))
		}
	}
}

// greet sends 3,000 bytes to each client.
func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = c.Write(make([]byte, 3000))
			_, _ = c.Read(make([]byte, 1))
		}()
	}
}

func greeted(ns *nstest.NS, to netip.Addr) error {
	c, err := dial(ns, "tcp", to, greetPort)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for got := 0; got < 3000; {
		n, err := c.Read(make([]byte, 4096))
		if err != nil {
			return fmt.Errorf("%d bytes of the greeting: %w", got, err)
		}
		got += n
	}
	return nil
}

// option puts options into what a socket sends.
type option func(fd int, v6 bool) error

// options are no operations of IPv4, and padding for each hop of IPv6.
func options(fd int, v6 bool) error {
	if v6 {
		return unix.SetsockoptString(fd, unix.SOL_IPV6, unix.IPV6_HOPOPTS,
			"\x00\x00\x01\x04\x00\x00\x00\x00")
	}
	return unix.SetsockoptString(fd, unix.SOL_IP, unix.IP_OPTIONS,
		"\x01\x01\x01\x01\x01\x01\x01\x01")
}

// destination are options of IPv6 for both ends.
func destination(fd int, v6 bool) error {
	if !v6 {
		return options(fd, false)
	}
	if err := options(fd, true); err != nil {
		return err
	}
	return unix.SetsockoptString(fd, unix.SOL_IPV6, unix.IPV6_DSTOPTS,
		"\x00\x00\x01\x04\x00\x00\x00\x00")
}

// asks sends a datagram of a size, and waits for as much.
func asks(port uint16, set option, size int) func(*nstest.NS, netip.Addr) error {
	return func(ns *nstest.NS, to netip.Addr) error {
		c, err := dialWith(ns, "udp", to, port, set)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		b := make([]byte, size)
		be.PutUint32(b, uint32(size))
		if _, err := c.Write(b); err != nil {
			return err
		}
		if n, err := c.Read(make([]byte, 1<<16)); err != nil || n != size {
			return fmt.Errorf("%d of %d bytes: %w", n, size, err)
		}
		return nil
	}
}

func withOptions(ns *nstest.NS, to netip.Addr, set option) error {
	c, err := dialWith(ns, "tcp", to, tcpPort, set)
	if err != nil {
		return err
	}
	defer c.Close()
	return request(c, 3000, 20_000)
}

func dialWith(ns *nstest.NS, network string, to netip.Addr, port uint16, set option) (c net.Conn,
	err error) {
	ns.Do(func() {
		d := net.Dialer{Timeout: patience}
		d.Control = func(network, _ string, c syscall.RawConn) (err error) {
			if set != nil {
				_ = c.Control(func(fd uintptr) { err = set(int(fd), to.Is6()) })
			}
			return err
		}
		c, err = d.Dial(network, netip.AddrPortFrom(to, port).String())
	})
	return c, err
}

// TestFrames: what a link carries besides plain frames. A VLAN tag of id 0 is
// none; a tagged frame is not this link's; nor is one for another station, for
// a group, or from one.
func TestFrames(t *testing.T) {
	s := steered(t)
	a, b, c := s.hop("a"), s.hop("b"), s.hop("c")
	for i, tt := range []struct {
		name     string
		to, from []byte
		tag      int
		learned  bool
	}{
		{"plain", b.Own[:], b.Router[:], -1, true},
		{"VLAN id 0", b.Own[:], b.Router[:], 0, true},
		{"VLAN id 0 with a priority", b.Own[:], b.Router[:], 5 << 13, true},
		{"VLAN 5", b.Own[:], b.Router[:], 5, false},
		{"another station", a.Router[:], b.Router[:], -1, false},
		{"broadcast", []byte{255, 255, 255, 255, 255, 255}, b.Router[:], -1, false},
		{"from a group", c.Own[:], []byte{3, 0, 0, 0, 0, 1}, -1, false},
	} {
		for _, vip := range vips["lo"] {
			by := "b"
			if tt.from[0]&1 == 1 {
				by = "c" // the switch would drop it
			}
			client := netip.AddrPortFrom(clientAddr(family(vip), by), uint16(4000+i))
			server := netip.AddrPortFrom(vip, udpPort)
			out := newSender(t, s.routers[by], "r0")
			out.send(framed(tt.to, tt.from, tt.tag, datagram(client, server)))
			if !eventually(func() bool {
				_, ok, err := s.maps().Flow(client, server, routing.UDP)
				return err == nil && ok == tt.learned
			}) {
				t.Errorf("%s, to %v: learned %v", tt.name, vip, !tt.learned)
			}
		}
	}
	// the kernel takes a frame for all stations, and one from a group; the
	// table answers
	n := 0
	if !eventually(func() bool { n = s.astray(); return n >= 4 }) || n != 4 {
		t.Errorf("%d packets went astray, want 4", n)
	}
}
