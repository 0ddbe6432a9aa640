package lasthop_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing/flow/lasthop"

	"golang.org/x/sys/unix"
)

// long makes the tests as long as the design asks for.
var long = flag.Bool("long", false, "100 replacements, 300,000 SYNs, a million flows")

// pick returns the second number with -long.
func pick(short, full int) int {
	if *long {
		return full
	}
	return short
}

// load is what clients do during a test.
type load struct {
	connections, datagrams, bytes atomic.Int64

	mu     sync.Mutex
	errors []error
	stop   chan struct{}
	done   sync.WaitGroup
	ended  sync.Once
}

// run does something again and again, in a namespace.
func (l *load) run(ns *nstest.NS, f func() error) {
	l.done.Go(func() {
		ns.Do(func() {
			for !isDone(l.stop) {
				if err := f(); err != nil {
					l.mu.Lock()
					l.errors = append(l.errors, err)
					l.mu.Unlock()
					time.Sleep(time.Millisecond)
				}
			}
		})
	})
}

// rest is a pause, so that most of the machine's work is connections.
const rest = 2 * time.Millisecond

// startLoad starts connections, datagrams and a download, by the routers b and
// c, whose clients the table knows nothing of.
func (l *lab) startLoad() *load {
	load := &load{stop: make(chan struct{})}
	l.t.Cleanup(load.end)
	vip := vips["lo"]
	for _, client := range []string{"b", "c"} {
		ns := l.clients[client]
		ns.Sysctl("net.ipv4.ip_local_port_range=1024 65535")
		for _, to := range []netip.Addr{vip[4], vip[6], vip[4]} {
			load.run(ns, func() error {
				load.connections.Add(1)
				return visit(netip.AddrPortFrom(to, tcpPort))
			})
		}
		c, err := dial(ns, "udp", vip[4], udpPort)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { c.Close() })
		load.run(ns, func() error {
			load.datagrams.Add(1)
			if _, err := ask8(c, patience); err != nil {
				return fmt.Errorf("udp: %w", err)
			}
			time.Sleep(rest)
			return nil
		})
		d, err := dial(ns, "tcp", vip[4], tcpPort)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { d.Close() })
		load.run(ns, func() error {
			load.bytes.Add(1 << 18)
			if err := request(d, 0, 1<<18); err != nil {
				return fmt.Errorf("download: %w", err)
			}
			time.Sleep(rest)
			return nil
		})
	}
	return load
}

// visit opens a connection, asks for ten bytes and resets it: connections that
// wait for late segments would fill the routers' tables. The namespace is that
// of the thread. A signal from the Go runtime is no error of the connection.
func visit(to netip.AddrPort) error {
	if err := visitOnce(to); !errors.Is(err, unix.EINTR) {
		return err
	}
	return nil
}

func visitOnce(to netip.AddrPort) error {
	domain, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()),
		Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		domain, at = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()),
			Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER,
			&unix.Linger{Onoff: 1})); err != nil {
		return err
	}
	if err := unix.Connect(fd, at); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := unix.Write(fd, []byte("0 10\n")); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if n, err := unix.Read(fd, make([]byte, 10)); err != nil || n < 10 {
		return fmt.Errorf("%d bytes: %w", n, err)
	}
	return nil
}

func (l *load) String() string {
	return fmt.Sprintf("%d connections, %d datagrams, %d MB", l.connections.Load(),
		l.datagrams.Load(), l.bytes.Load()>>20)
}

func (l *load) end() {
	l.ended.Do(func() { close(l.stop) })
	l.done.Wait()
}

// TestReplacement: other programs are attached again and again, half of the
// times interrupted between two writes, and no client notices.
func TestReplacement(t *testing.T) {
	swaps := pick(10, 100)
	s := steered(t)
	astray, load, start := s.astray(), s.startLoad(), time.Now()
	for i := range swaps {
		calls := -1
		if i%2 == 1 {
			calls = i/2%5 + 1
		}
		s.replace(s.control, fmt.Sprint("x", i), calls)
		time.Sleep(50 * time.Millisecond)
	}
	load.end()
	for _, err := range load.errors {
		t.Error(err)
	}
	n := s.counts()
	t.Logf("%d in %v: %v; %d packets answered", swaps,
		time.Since(start).Round(time.Millisecond), load, n.Answered)
	if got := s.astray() - astray; got != 0 || n.ByTable != 0 {
		t.Errorf("%d packets went astray, %d left by the table", got, n.ByTable)
	}
}

// TestNewMaps: the same with new maps each time. Those of another size take the
// flows of the pinned ones. If there are no pins the maps begin empty, and
// learn for a moment before they are asked.
func TestNewMaps(t *testing.T) {
	for name, unpin := range map[string]bool{"another size": false, "empty": true} {
		t.Run(name, func(t *testing.T) {
			swaps := pick(5, 100)
			s := steered(t)
			astray, load, start := s.astray(), s.startLoad(), time.Now()
			for i := range swaps {
				s.renew(i, unpin)
				time.Sleep(50 * time.Millisecond)
			}
			load.end()
			got := s.astray() - astray
			t.Logf("%d in %v: %v; %d packets astray, %d errors", swaps,
				time.Since(start).Round(time.Millisecond), load, got,
				len(load.errors))
			if unpin && got < 10*swaps {
				got = 0 // what sent nothing while the filter learned
			}
			if got > 0 || len(load.errors) > 0 {
				t.Errorf("%d packets went astray: %v", got, load.errors)
			}
		})
	}
}

// renew replaces programs and maps, half of the times in two steps.
func (s *steer) renew(i int, unpin bool) {
	s.t.Helper()
	c := &lasthop.Control{Place: s.control.Place, Flows: 1<<12 + 1024*(1+i%2)}
	s.t.Cleanup(func() { c.Close() })
	attached := s.control.Support(nil).Tag
	if unpin {
		if err := c.Place.Unpin(0); err != nil {
			s.t.Fatal(err)
		}
	}
	c.Support([]string{attached})
	if err := c.Load(); err != nil {
		s.t.Fatal(err)
	}
	for _, w := range s.state.Wanted {
		if err := c.SetWanted(w, false); err != nil {
			s.t.Fatal(err)
		}
	}
	if i%2 == 1 {
		s.replace(c, "", i/2%5+1)
	}
	s.replace(c, "", -1)
	s.control.Close()
	s.control = c
	c.Support([]string{c.Support(nil).Tag})
	if err := c.Attached(); err != nil {
		s.t.Error(err)
	}
}
