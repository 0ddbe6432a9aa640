package host

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// many are routes and rules of lasthop: n of each.
func many(t testing.TB, n int) (s routing.State) {
	t.Helper()
	r, err := routing.ParseRoute(routing.IPv4,
		"20.0.0.0/24 via 10.0.1.1 dev eth1 table 20337 proto 76")
	if err != nil {
		t.Fatal(err)
	}
	ru, err := routing.ParseRule(routing.IPv4,
		"5102: from 20.0.0.0/32 iif lo lookup 20337 proto 76")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r.Dst = netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i)}), 24)
		ru.From = netip.PrefixFrom(r.Dst.Addr(), 32)
		s.Routes, s.Rules = append(s.Routes, r), append(s.Rules, ru)
	}
	return s
}

// One Write reads the links once and each table that it deletes from once,
// however many routes it writes.
func TestWriteReadsOnce(t *testing.T) {
	_, k := open(t, uplinks)
	want := many(t, 20)
	for i := range want.Routes[:10] {
		want.Routes[i].Table++
	}
	want.Routes = append(want.Routes,
		*route(t, "::/0 via 2001:db8:1::1 dev eth1 table 20337 proto 76"))
	counts := map[int]int{}
	k.Fault = func(kind int) error {
		counts[kind]++
		return nil
	}
	for _, tt := range []struct {
		diff routing.Diff
		want map[int]int
	}{
		{routing.Compare(routing.State{}, want),
			map[int]int{unix.RTM_GETLINK: 1, unix.RTM_NEWROUTE: 21, unix.RTM_NEWRULE: 20}},
		{routing.Compare(want, routing.State{}),
			map[int]int{unix.RTM_GETLINK: 1, unix.RTM_GETROUTE: 3, unix.RTM_DELROUTE: 21, unix.RTM_DELRULE: 20}},
	} {
		clear(counts)
		if done, err := k.Write(tt.diff); err != nil || len(done) != 41 {
			t.Errorf("%d writes are done: %v", len(done), err)
		}
		if diff := cmp.Diff(tt.want, counts); diff != "" {
			t.Errorf("requests: -want +got\n%s", diff)
		}
	}
	if got := routing.Owned(read(t, k), routing.DefaultNumbers); !got.Empty() {
		t.Errorf("left over:\n%s", got)
	}
}

// A route that this Write has deleted is not there any more: the kernel would
// take its metric 0 for any.
func TestWriteDeletesOnce(t *testing.T) {
	_, k := open(t, uplinks)
	r := route(t, "default via 10.0.1.1 dev eth1 table 20337 proto 76")
	kept := route(t, "default via 10.0.1.1 dev eth1 table 20337 proto 76 metric 7")
	do(t, k, routing.Op{Route: r}, routing.Op{Route: kept})
	if _, err := k.Write(routing.Diff{DelRoutes: []routing.Route{*r, *r}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept.String()+"\n", routes(read(t, k), 20337)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A request that fails is asked again by the next write of the same Write, and
// each write has its own error.
func TestWriteFaults(t *testing.T) {
	for _, kind := range []int{unix.RTM_GETLINK, unix.RTM_GETROUTE} {
		_, k := open(t, uplinks)
		have := many(t, 3)
		have.Rules = nil
		if _, err := k.Write(routing.Compare(routing.State{}, have)); err != nil {
			t.Fatal(err)
		}
		failed := false
		k.Fault = func(got int) error {
			if got != kind || failed {
				return nil
			}
			failed = true
			return unix.EIO
		}
		w := k.writing()
		var errs []bool
		for i := range have.Routes {
			errs = append(errs,
				w.do(routing.Op{Delete: true, Route: &have.Routes[i]}) != nil)
		}
		if want := []bool{true, false, false}; !slices.Equal(errs, want) {
			t.Errorf("request %d failed once: errors %t, want %t", kind, errs, want)
		}
	}
}

// BenchmarkGrowth writes and clears 1,000 to 4,000 routes and rules, and
// reports the exponent with which the time grows: 1 where twice as many take
// twice as long. For rules the kernel's own grows, too: it looks through its
// list.
func BenchmarkGrowth(b *testing.B) {
	for _, what := range []string{"routes", "rules"} {
		_, k := open(b, uplinks)
		state := func(n int) (s routing.State) {
			if s = many(b, n); what == "routes" {
				s.Rules = nil
			} else {
				s.Routes = nil
			}
			return s
		}
		write := func(b *testing.B, have, want routing.State) time.Duration {
			b.Helper()
			d := routing.Compare(have, want)
			start := time.Now()
			if _, err := k.Write(d); err != nil {
				b.Fatal(err)
			}
			return time.Since(start)
		}
		b.Run("write-"+what, func(b *testing.B) {
			growth(b, func(n int) time.Duration {
				took := write(b, routing.State{}, state(n))
				write(b, state(n), routing.State{})
				return took
			})
		})
		b.Run("clear-"+what, func(b *testing.B) {
			growth(b, func(n int) time.Duration {
				write(b, routing.State{}, state(n))
				return write(b, state(n), routing.State{})
			})
		})
	}
}

// growth calls run with growing sizes, and reports the shortest times and their
// exponent.
func growth(b *testing.B, run func(n int) time.Duration) {
	b.Helper()
	sizes := []int{1000, 2000, 4000}
	best := map[int]time.Duration{}
	for b.Loop() {
		for _, n := range sizes {
			if took := run(n); best[n] == 0 || took < best[n] {
				best[n] = took
			}
		}
	}
	first, last := sizes[0], sizes[len(sizes)-1]
	for _, n := range sizes {
		b.ReportMetric(float64(best[n])/1e6, fmt.Sprint("ms/", n))
	}
	ratio := float64(best[last]) / float64(best[first])
	b.ReportMetric(math.Log(ratio)/math.Log(float64(last)/float64(first)), "exponent")
}
