package routing_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
)

// TestRoutedAddress: what the plan says of an address in no subnet names the
// uplinks that its requests may come in by, and the result for these.
func TestRoutedAddress(t *testing.T) {
	routed := twoUplinks + "addr add 203.0.113.7/32 dev eth1\n"
	pin := plain
	pin.Addresses = []routing.AddressPin{{Addr: netip.MustParseAddr("203.0.113.7"),
		Link: "eth1"}}
	const plainly, marks = "replies leave by eth1, even if requests come in by eth0",
		", unless a packet mark routes them elsewhere"
	for name, c := range map[string]struct {
		host   string
		policy routing.Policy
		want   string // the end of the message; "": no finding
	}{
		"plain": {routed, plain, plainly},
		"marks": {routed + "route add default via 10.0.0.1 dev eth0 table 9\n" +
			"rule add fwmark 1 lookup 9\n", plain, plainly + marks},
		"strict": {routed + "sysctl net.ipv4.conf.eth0.rp_filter=1\n", plain, plainly +
			"; strict rp_filter drops requests that come in by eth0"},
		"both": {routed + "route add default via 10.0.0.1 dev eth0 table 9\n" +
			"rule add fwmark 1 lookup 9\nsysctl net.ipv4.conf.eth0.rp_filter=1\n",
			plain, "drops requests that come in by eth0"},
		"strict elsewhere": {routed + "sysctl net.ipv4.conf.eth1.rp_filter=1\n", plain,
			plainly},
		"said by a person": {routed, pin, ""},
		"in a subnet of another uplink": {routed + "addr add 203.0.113.1/24 dev eth0\n",
			plain, ""},
		"a single uplink": {strings.Replace(routed,
			"route add default via 10.0.0.1 dev eth0\n", "", 1), plain, ""},
	} {
		p := planOf(t, parseHost(t, c.host), listenOn("203.0.113.7", "203.0.113.7"), nil,
			c.policy)
		found := slices.DeleteFunc(p.Findings,
			func(f routing.Finding) bool { return f.Code != "routed-address" })
		switch {
		case c.want == "" && len(found) == 0:
		case c.want == "" || len(found) != 1 || found[0].Subject != "203.0.113.7" ||
			!strings.HasSuffix(found[0].Message, c.want) ||
			strings.Contains(found[0].Hint, "rp_filter=2") != (name == "both"):
			t.Errorf("%s: got %+v, want %q", name, found, c.want)
		}
	}
}

// TestAssumedOfOne: a finding names a gateway if only a rule for a single other
// address names it, and not if two agree or the subnet's first address has it.
func TestAssumedOfOne(t *testing.T) {
	const vips = twoUplinksBare + `
	addr add 10.0.1.20/24 dev eth1
	addr add 10.0.1.30/24 dev eth1
	route add default via 10.0.1.2 dev eth1 table 101
	rule add from 10.0.1.20 lookup 101
`
	for name, c := range map[string]struct {
		host string
		want int
	}{
		"one": {vips, 1},
		"two tables": {vips + "route add default via 10.0.1.2 dev eth1 table 102\n" +
			"rule add from 10.0.1.30 lookup 102\n", 0},
		"one table for two": {vips + "rule add from 10.0.1.30 lookup 101\n", 0},
		"the first":         {vips + "rule add from 10.0.1.10 lookup 101\n", 0},
	} {
		p := planOf(t, parseHost(t, c.host), listenOn("10.0.1.40"), nil, plain)
		found := slices.DeleteFunc(p.Findings, func(f routing.Finding) bool {
			return f.Code != "assumed-gateway"
		})
		if len(found) != c.want || c.want > 0 && (found[0].Severity != routing.Info ||
			!strings.Contains(found[0].Message, "10.0.1.20 alone")) {
			t.Errorf("%s: got %+v, want %d", name, found, c.want)
		}
	}
}

// twoUplinksBare is a host whose second uplink has no default in main.
const twoUplinksBare = `
	link add eth0 type veth
	link add eth1 type veth
	link set eth0 up
	link set eth1 up
	addr add 10.0.0.10/24 dev eth0
	addr add 10.0.1.10/24 dev eth1
	route add default via 10.0.0.1 dev eth0
`
