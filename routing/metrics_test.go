package routing_test

import (
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitMetrics(t *testing.T) {
	for opaque, want := range map[string][]string{
		"":                            {"", ""},
		"from 2001:db8::/64":          {"", "from 2001:db8::/64"},
		"mtu lock 1400 initcwnd 20":   {"mtu lock 1400|initcwnd 20", ""},
		"tos 0x10 rtax 99 0a0b":       {"rtax 99 0a0b", "tos 0x10"},
		"encap mpls hoplimit 64":      {"hoplimit 64", "encap mpls"},
		"features ecn realm 7 attr 1": {"features ecn", "realm 7 attr 1"},
		"mtu lock":                    {"mtu lock", ""}, // cut short
	} {
		metrics, rest := routing.SplitMetrics(opaque)
		if d := cmp.Diff(want, []string{strings.Join(metrics, "|"), rest}); d != "" {
			t.Errorf("%q: -want +got\n%s", opaque, d)
		}
	}
}

// TestLockIsCopied: a copy of `mtu lock` without the lock would mean something
// else, and what no kernel of today knows is a metric, too.
func TestLockIsCopied(t *testing.T) {
	h := parseHost(t, `
		link add eth0 type veth
		link add eth1 type veth
		link set eth0 up
		link set eth1 up
		addr add 10.0.0.10/24 dev eth0
		addr add 10.0.1.10/24 dev eth1
		route add default via 10.0.0.1 dev eth0
		route add default via 10.0.1.1 dev eth1 metric 200 mtu lock 1400
	`)
	for i := range h.Routes {
		if h.Routes[i].Metric == 200 {
			h.Routes[i].Opaque += " rtax 99 0a0b"
		}
	}
	state := planOf(t, h, listenOn("10.0.1.10"), nil, plain).State.String()
	if want := "dev eth1 table 20431 proto 76 onlink mtu lock 1400 rtax 99 0a0b\n"; !strings.
		Contains(state, want) {
		t.Errorf("%q is not in\n%s", want, state)
	}
}
