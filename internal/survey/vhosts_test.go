package survey

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"lasthop/internal/settings"
	"lasthop/nginxconf"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// vhosts is a configuration of n virtual servers with one listen.
func vhosts(n int) (c nginxconf.Config) {
	for i := range n {
		c.Listens = append(c.Listens, nginxconf.Listen{
			Addr: netip.MustParseAddr("10.7.1.100"), First: 443, Last: 443,
			Transport: "tcp", Context: "http", Text: "10.7.1.100:443",
			Origin:  fmt.Sprintf("/etc/nginx/sites/%d:3", i),
			Servers: []string{fmt.Sprintf("h%d.example.com", i), "www.example.com"}})
	}
	return c
}

// join makes listeners of a configuration.
func join(c nginxconf.Config) []routing.Listener {
	var n NGINX
	n.Add(c)
	return n.Inputs(routing.Host{}, settings.Settings{}).Listeners
}

// TestVirtualServers: virtual servers that share a socket are one listener,
// each of their names is there once, and very many are counted.
func TestVirtualServers(t *testing.T) {
	for _, n := range []int{1, 2, mostNamed - 1, mostNamed, mostNamed + 1, 10000} {
		c := vhosts(n)
		c.Listens = append(c.Listens, c.Listens...)
		list := join(c)
		if len(list) != 1 {
			t.Fatalf("%d virtual servers: %d listeners", n, len(list))
		}
		var origins, servers []string
		for _, l := range vhosts(n).Listens {
			origins = append(origins, l.Origin)
			servers = append(servers, l.Servers[0])
		}
		servers = slices.Insert(servers, 1, "www.example.com")
		l := list[0]
		if d := cmp.Diff(origins[:min(n, mostNamed)], l.Origins) +
			cmp.Diff(servers[:min(n+1, mostNamed)], l.Servers); d != "" {
			t.Errorf("%d virtual servers: -want +got\n%s", n, d)
		}
		if l.MoreOrigins != max(0, n-mostNamed) || l.MoreServers != max(0, n+1-mostNamed) {
			t.Errorf("%d virtual servers: %d and %d more", n, l.MoreOrigins,
				l.MoreServers)
		}
	}
}

// TestVirtualServersCost: ten times the virtual servers of one socket take
// about ten times the memory, not a hundred times.
func TestVirtualServersCost(t *testing.T) {
	bytes := func(n int) float64 {
		c := vhosts(n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		join(c)
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	if few, many := bytes(1000), bytes(10000); many > 20*few {
		t.Errorf("1,000 virtual servers take %.0f bytes, 10,000 take %.0f", few, many)
	}
}

// BenchmarkVirtualServers joins 100 and 10,000 virtual servers of one socket in
// one run. The ratio is 100 if the cost is linear, and 10,000 if each is
// compared with all others.
func BenchmarkVirtualServers(b *testing.B) {
	few, many := vhosts(100), vhosts(10000)
	var times [2]time.Duration
	for b.Loop() {
		for i, c := range []nginxconf.Config{few, many} {
			start := time.Now()
			join(c)
			times[i] += time.Since(start)
		}
	}
	ratio := times[1].Seconds() / times[0].Seconds()
	if b.ReportMetric(ratio, "10000/100"); ratio > 1000 {
		b.Errorf("10,000 take %.0f times what 100 take", ratio)
	}
	b.ReportMetric(float64(times[1].Microseconds())/float64(b.N), "µs-10000")
}
