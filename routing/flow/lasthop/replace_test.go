package lasthop_test

import (
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/routing/flow/lasthop"
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

// load is what clients do beside a test.
type load struct {
	connections, datagrams, bytes atomic.Int64

	mu     sync.Mutex
	errors []error
	stop   chan struct{}
	done   sync.WaitGroup
	ended  sync.Once
}

func (l *load) run(f func() error) {
	l.done.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			if err := f(); err != nil {
				l.mu.Lock()
				l.errors = append(l.errors, err)
				l.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		}
	})
}

// startLoad starts connections, datagrams and a download, by the routers b and
// c, whose clients the table knows nothing of.
func (l *lab) startLoad() *load {
	load := &load{stop: make(chan struct{})}
	l.t.Cleanup(load.end)
	vip := vips["lo"]
	for _, client := range []string{"b", "c"} {
		for _, to := range []netip.Addr{vip[4], vip[6], vip[4]} {
			load.run(func() error {
				load.connections.Add(1)
				return tcp(10, 10)(l.clients[client], to)
			})
		}
		c, err := dial(l.clients[client], "udp", vip[4], udpPort)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { c.Close() })
		load.run(func() error {
			load.datagrams.Add(1)
			if _, err := ask8(c, patience); err != nil {
				return fmt.Errorf("udp: %w", err)
			}
			return nil
		})
		d, err := dial(l.clients[client], "tcp", vip[4], tcpPort)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { d.Close() })
		load.run(func() error {
			load.bytes.Add(1 << 18)
			if err := request(d, 0, 1<<18); err != nil {
				return fmt.Errorf("download: %w", err)
			}
			return nil
		})
	}
	return load
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
// flows of the pinned ones. If there are no pins the maps begin empty, and a
// connection in which only the server speaks at that moment may be lost.
func TestNewMaps(t *testing.T) {
	for name, unpin := range map[string]bool{"another size": false, "empty": true} {
		t.Run(name, func(t *testing.T) {
			swaps := pick(10, 100)
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
			// a machine that has no time for servers has more of
			// them wait
			if got >= pick(30, 10)*swaps || len(load.errors) > pick(2, 1)*swaps {
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
	if _, _, _, err := c.Programs(); err != nil {
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
