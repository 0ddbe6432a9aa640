package routing_test

import (
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
)

// TestAddressHint holds hints to what decides: the link is enough where its
// only gateway is known, and else its router is asked for.
func TestAddressHint(t *testing.T) {
	const second = "addr add 10.0.2.10/24 dev eth1\n"
	for _, c := range []struct{ name, more, listen, want string }{
		{"known", "", "203.0.113.9", "--address 203.0.113.9=IF"},
		{"two gateways", second + "route add default via 10.0.2.1 dev eth1 metric 300",
			"203.0.113.9", "--address 203.0.113.9=IF,GATEWAY"},
		{"assumed", "link add eth2 type veth\nlink set eth2 up\n" +
			"addr add 10.0.2.10/24 dev eth2\nlease eth2 10.0.2.1 dhclient",
			"203.0.113.9", "--address 203.0.113.9=IF,GATEWAY"},
		{"overlapping subnets", "addr add 10.0.0.11/24 dev eth1", "10.0.0.99",
			"--address 10.0.0.99=eth0"},
		{"rule by hand", "route add default via 10.0.0.1 dev eth0 table 7\n" +
			"rule add from 10.0.1.10 lookup 7", "10.0.1.10",
			"--address 10.0.1.10=eth1"},
	} {
		p := planOf(t, parseHost(t, twoUplinks+c.more+"\n"), listenOn(c.listen), nil, plain)
		if !slices.ContainsFunc(p.Findings, func(f routing.Finding) bool {
			return strings.HasSuffix(f.Hint, c.want)
		}) {
			t.Errorf("%s: no hint ends in %q: %q", c.name, c.want, p.Findings)
		}
	}
}
