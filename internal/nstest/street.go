package nstest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// Street is a host, a router, and a client behind the router, each in a
// namespace of its own:
//
//	client 198.51.100.2 --- router 10.7.0.1 --- eth0 10.7.0.10  host
//	                               10.7.1.1 --- eth1 10.7.1.10, 10.7.1.100
//
// and the same in IPv6: 2001:db8:c::2, 2001:db8:0::1, 2001:db8:1::1. The host's
// default is by eth0.
type Street struct {
	Host, Router, Client *NS

	t testing.TB
}

// NewStreet builds a Street.
func NewStreet(t testing.TB) *Street {
	t.Helper()
	s := &Street{t: t, Host: New(t), Router: New(t), Client: New(t)}
	s.Cable(s.Router, "r0", s.Host, "eth0")
	s.Cable(s.Router, "r1", s.Host, "eth1")
	s.Cable(s.Router, "rc", s.Client, "c0")
	s.Router.Sysctl("net.ipv4.ip_forward=1")
	s.Router.Sysctl("net.ipv6.conf.all.forwarding=1")
	s.Lines(s.Router, "addr add 10.7.0.1/24 dev r0", "addr add 10.7.1.1/24 dev r1",
		"addr add 198.51.100.1/24 dev rc", "addr add 2001:db8:0::1/64 dev r0 nodad",
		"addr add 2001:db8:1::1/64 dev r1 nodad", "addr add 2001:db8:c::1/64 dev rc nodad")
	s.Lines(s.Client, "addr add 198.51.100.2/24 dev c0", "addr add 198.51.100.3/24 dev c0",
		"addr add 2001:db8:c::2/64 dev c0 nodad", "route add default via 198.51.100.1",
		"-6 route add default via 2001:db8:c::1")
	s.Lines(s.Host, "addr add 10.7.0.10/24 dev eth0", "addr add 10.7.1.10/24 dev eth1",
		"addr add 10.7.1.100/24 dev eth1", "addr add 2001:db8:0::10/64 dev eth0 nodad",
		"addr add 2001:db8:1::10/64 dev eth1 nodad", "route add default via 10.7.0.1",
		"-6 route add default via 2001:db8:0::1")
	for i, link := range []string{"r0", "r1", "rc"} { // a forwarding host asks from fe80::
		s.Router.IP(fmt.Sprintf("addr add fe80::1:%d/64 dev %s nodad", i, link))
	}
	s.Lines(s.Host, "addr add fe80::10/64 dev eth0 nodad",
		"addr add fe80::10/64 dev eth1 nodad")
	return s
}

// Cable joins two namespaces by a veth.
func (s *Street) Cable(a *NS, nameA string, b *NS, nameB string) {
	s.t.Helper()
	a.IP(fmt.Sprintf("link add %s type veth peer name %s netns %s", nameA, nameB, b.Path))
	a.IP("link set " + nameA + " up")
	b.IP("link set " + nameB + " up")
}

// Lines runs `ip` commands in a namespace.
func (s *Street) Lines(n *NS, lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		n.IP(line)
	}
}

// Serve accepts TCP connections on an address of a namespace, and answers each
// line with one.
func (s *Street) Serve(n *NS, addr string) {
	s.t.Helper()
	var l net.Listener
	var err error
	n.Do(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go Answer(l)
}

// Answer accepts connections and answers each line with one, until the listener
// is closed.
func Answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answer(c)
	}
}

func answer(c net.Conn) {
	defer c.Close()
	b := make([]byte, 64)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
		if _, err := c.Write([]byte("hello\n")); err != nil {
			return
		}
	}
}

// Ask opens a connection from a namespace, asks once, and closes it. It reports
// no result: the packets show whether it is answered.
func Ask(n *NS, network, from, to string, patience time.Duration) {
	n.Do(func() {
		d := net.Dialer{Timeout: patience}
		if from != "" {
			ip := net.ParseIP(from)
			d.LocalAddr = &net.TCPAddr{IP: ip}
			if network == "udp" {
				d.LocalAddr = &net.UDPAddr{IP: ip}
			}
		}
		c, err := d.Dial(network, to)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte("GET\n"))
		_, _ = c.Read(make([]byte, 64))
	})
}

// Knock returns a function that asks several times together, from several
// addresses.
func Knock(n *NS, to string, times int, from ...string) func() {
	return func() {
		var all sync.WaitGroup
		for i := range times {
			all.Go(func() {
				source := ""
				if len(from) > 0 {
					source = from[i%len(from)]
				}
				Ask(n, "tcp", source, to, 3*time.Second)
			})
		}
		all.Wait()
	}
}
