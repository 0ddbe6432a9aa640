package lasthop_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"lasthop/internal/nstest"

	"golang.org/x/sys/unix"
)

const (
	tcpPort, udpPort, closedPort = 80, 53, 81
	patience                     = 2 * time.Second
)

// serve answers on the host. TCP: a line "N M\n" asks to read N bytes and to
// get M. UDP: two numbers of four bytes, how many bytes to send back and in
// segments of what size, 0 for one datagram.
func (l *lab) serve() {
	l.t.Helper()
	var listener net.Listener
	var err error
	l.host.Do(func() { listener, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", tcpPort)) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go answerTCP(c)
		}
	}()
	for _, place := range vips {
		for _, addr := range place {
			var c net.PacketConn
			l.host.Do(func() {
				c, err = net.ListenPacket("udp",
					netip.AddrPortFrom(addr, udpPort).String())
			})
			if err != nil {
				l.t.Fatal(err)
			}
			l.t.Cleanup(func() { c.Close() })
			go answerUDP(c.(*net.UDPConn))
		}
	}
}

func answerTCP(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		var take, give int
		if _, err := fmt.Fscanf(r, "%d %d\n", &take, &give); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, r, int64(take)); err != nil {
			return
		}
		if _, err := io.CopyN(c, zeros{}, int64(give)); err != nil {
			return
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func answerUDP(c *net.UDPConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if n < 8 {
			continue
		}
		size, segment := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		var control []byte
		if segment > 0 {
			control = make([]byte, unix.CmsgSpace(2))
			h := (*unix.Cmsghdr)(pointer(control))
			h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
			h.SetLen(unix.CmsgLen(2))
			binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(segment))
		}
		_, _, _ = c.WriteMsgUDPAddrPort(make([]byte, size), control, from)
	}
}

// traffic is a kind of request of a client; an error is one that was not
// answered as it should be.
type traffic struct {
	name string
	ask  func(client *nstest.NS, to netip.Addr) error
}

var kinds = []traffic{
	{"tcp", tcp(10, 10)},
	{"tcp, ten requests", func(ns *nstest.NS, to netip.Addr) error {
		c, err := dial(ns, "tcp", to, tcpPort)
		if err != nil {
			return err
		}
		defer c.Close()
		for range 10 {
			if err := request(c, 100, 20_000); err != nil {
				return err
			}
		}
		return nil
	}},
	{"download", tcp(0, 20_000_000)},
	{"upload", tcp(5_000_000, 10)},
	{"tcp, closed port", refused("tcp")},
	{"udp", udp(8, 18, 0)},
	{"udp, a stream", func(ns *nstest.NS, to netip.Addr) error {
		for range 20 {
			if err := udp(8, 1000, 0)(ns, to); err != nil {
				return err
			}
		}
		return nil
	}},
	{"udp, reply in fragments", udp(8, 8000, 0)},
	{"udp, request in fragments", udp(8000, 8, 0)},
	{"udp, both in fragments", udp(4000, 30000, 0)},
	{"udp, in segments", udp(8, 12000, 1200)},
	{"udp, closed port", refused("udp")},
	{"ping", ping(56)},
	{"ping in fragments", ping(4000)},
}

func dial(ns *nstest.NS, network string, to netip.Addr, port uint16) (net.Conn, error) {
	return dialWithin(patience, ns, network, to, port)
}

func dialWithin(d time.Duration, ns *nstest.NS, network string, to netip.Addr,
	port uint16) (c net.Conn, err error) {
	ns.Do(func() {
		d := net.Dialer{Timeout: d}
		c, err = d.Dial(network, netip.AddrPortFrom(to, port).String())
	})
	return c, err
}

func request(c net.Conn, send, get int) error {
	return requestWithin(patience+time.Duration(send+get)*time.Microsecond, c, send, get)
}

func requestWithin(d time.Duration, c net.Conn, send, get int) error {
	c.SetDeadline(time.Now().Add(d))
	fmt.Fprintf(c, "%d %d\n", send, get)
	if _, err := io.CopyN(c, zeros{}, int64(send)); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(get))
	return err
}

// soon is long enough to see that nothing comes.
const soon = 300 * time.Millisecond

func tcp(send, get int) func(*nstest.NS, netip.Addr) error {
	return func(ns *nstest.NS, to netip.Addr) error {
		c, err := dial(ns, "tcp", to, tcpPort)
		if err != nil {
			return err
		}
		defer c.Close()
		return request(c, send, get)
	}
}

func udp(send, get, segment int) func(*nstest.NS, netip.Addr) error {
	return func(ns *nstest.NS, to netip.Addr) error {
		c, err := dial(ns, "udp", to, udpPort)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		b := binary.BigEndian.AppendUint32(nil, uint32(get))
		b = binary.BigEndian.AppendUint32(b, uint32(segment))
		if _, err := c.Write(append(b, make([]byte, send-8)...)); err != nil {
			return err
		}
		for b := make([]byte, 1<<16); get > 0; {
			n, err := c.Read(b)
			if err != nil {
				return fmt.Errorf("%d bytes are missing: %w", get, err)
			}
			get -= n
		}
		return nil
	}
}

// refused connects to a port without a listener: the answer is a reset, or the
// ICMP error for it.
func refused(network string) func(*nstest.NS, netip.Addr) error {
	return func(ns *nstest.NS, to netip.Addr) error {
		port := uint16(closedPort)
		c, err := dial(ns, network, to, port)
		if err == nil {
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			if _, err = c.Write([]byte("x")); err == nil {
				_, err = c.Read(make([]byte, 1))
			}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("not refused: %v", err)
		}
		return nil
	}
}

func ping(size int) func(*nstest.NS, netip.Addr) error {
	return func(ns *nstest.NS, to netip.Addr) error {
		c := ns.Command("ping", "-n", "-c", "1", "-W", "2", "-s", strconv.Itoa(size),
			to.String())
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
			return fmt.Errorf("ping: %s", lines[len(lines)-1])
		}
		return err
	}
}

// ask8 asks a server of UDP for eight bytes.
func ask8(c net.Conn, within time.Duration) (int, error) {
	c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write([]byte{0, 0, 0, 8, 0, 0, 0, 0}); err != nil {
		return 0, err
	}
	return c.Read(make([]byte, 8))
}
