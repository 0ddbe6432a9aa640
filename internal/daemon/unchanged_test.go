package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// inLoop calls f in the daemon's loop, and waits for it.
func (s *server) inLoop(f func()) {
	done := make(chan struct{})
	s.d.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// A sync that changes nothing asks the kernel for these dumps, as many with
// 1,000 listeners as with one (routes and rules for each family), and writes
// nothing.
func TestSyncMessages(t *testing.T) {
	for _, n := range []int{1, 1000} {
		s := newServer(t)
		s.manyConf(s.many(n))
		s.start()
		s.quiet()
		counts, ok := map[int]int{}, false
		s.inLoop(func() {
			k := s.d.reconciler.kernel
			k.Fault = func(kind int) error {
				counts[kind]++
				return nil
			}
			ok = s.d.sync()
			k.Fault = nil
		})
		want := map[int]int{unix.RTM_GETLINK: 1, unix.RTM_GETADDR: 1, unix.RTM_GETROUTE: 2,
			unix.RTM_GETNEIGH: 1, unix.RTM_GETRULE: 2, unix.RTM_GETNEXTHOP: 1,
			unix.RTM_GETQDISC: 1}
		if d := cmp.Diff(want, counts); d != "" || !ok {
			t.Errorf("%d listeners: messages: -want +got\n%s", n, d)
		}
	}
}

// BenchmarkSyncUnchanged are syncs that find nothing changed, each with a host
// read again. The listeners are on 100 addresses; nothing listens on the other
// ones.
func BenchmarkSyncUnchanged(b *testing.B) {
	for _, size := range []struct{ listeners, addresses int }{
		{10, 0}, {1000, 0}, {10000, 0}, {10000, 10000},
	} {
		name := fmt.Sprintf("listeners=%d", size.listeners)
		if size.addresses > 0 {
			name += fmt.Sprintf("/addresses=%d", size.addresses)
		}
		b.Run(name, func(b *testing.B) {
			s := newServer(b)
			s.manyConf(s.many(size.listeners))
			var more strings.Builder
			for i := range size.addresses {
				fmt.Fprintf(&more, "addr add 10.77.%d.%d/16 dev eth1\n", i>>8,
					i&255)
			}
			s.Lines(more.String())
			s.start()
			s.quiet()
			var times []time.Duration
			before := s.kernel.Writes()
			for b.Loop() {
				s.inLoop(func() {
					start := time.Now()
					s.d.sync()
					times = append(times, time.Since(start))
				})
			}
			quantiles(b, "sync", times)
			b.ReportMetric(float64(s.kernel.Writes()-before), "writes")
		})
	}
}
