package sim

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// Tests in cmd/lasthop, which also reads the kernel, check that a simulated
// host is what the kernel makes of the same commands. Here are the parts that
// need no kernel: the order of rules, what a link that goes down removes,
// errors.

func TestRulePriority(t *testing.T) {
	s := parse(t, `
rule add not fwmark 0xca6c lookup 51820
rule add lookup main suppress_prefixlength 0
rule add pref 32766 from 10.0.0.0/8 lookup 7
-6 rule add lookup 8
rule del pref 32767 lookup default
`)
	var got []string
	for _, r := range s.Host.Rules {
		got = append(got, r.Family.String()+" "+r.String())
	}
	want := []string{
		"IPv4 0:\tfrom all lookup local proto kernel",
		"IPv4 32764:\tfrom all lookup main suppress_prefixlength 0",
		"IPv4 32765:\tnot from all fwmark 0xca6c lookup 51820",
		"IPv4 32766:\tfrom all lookup main proto kernel",
		"IPv4 32766:\tfrom 10.0.0.0/8 lookup 7",
		"IPv6 0:\tfrom all lookup local proto kernel",
		"IPv6 32765:\tfrom all lookup 8",
		"IPv6 32766:\tfrom all lookup main proto kernel",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestLinkDown(t *testing.T) {
	const up = `
link add eth1 type veth
link add eth2 type veth
link set eth1 up
link set eth2 up
addr add 10.0.1.10/24 dev eth1
addr add 2001:db8:1::10/64 dev eth1
route add default via 10.0.1.1 dev eth1
route add 10.9.0.0/16 nexthop via 10.0.1.1 dev eth1 nexthop via 10.0.2.1 dev eth2
`
	for _, tt := range []struct{ name, lines, want string }{
		{"up", up, `
ip route replace default via 10.0.1.1 dev eth1
ip route replace 10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.10
ip route replace 10.9.0.0/16 nexthop via 10.0.1.1 dev eth1 weight 1 nexthop via 10.0.2.1 dev eth2 weight 1
ip -6 route replace 2001:db8:1::/64 dev eth1 proto kernel metric 256
ip -6 route replace fe80::/64 dev eth1 proto kernel metric 256
ip -6 route replace fe80::/64 dev eth2 proto kernel metric 256
`},
		{"down", up + "link set eth1 down\n", `
ip route replace 10.9.0.0/16 nexthop via 10.0.1.1 dev eth1 weight 1 nexthop via 10.0.2.1 dev eth2 weight 1
ip -6 route replace fe80::/64 dev eth2 proto kernel metric 256
`},
	} {
		s := parse(t, tt.lines)
		var main routing.State
		for _, r := range s.Host.Routes {
			if r.Table == routing.TableMain {
				main.Routes = append(main.Routes, r)
			}
		}
		if d := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), main.String()); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ lines, want string }{
		{"\nlink add eth1 type frob", `line 2: link add eth1 type frob: kind "frob" is not simulated`},
		{"link set eth1 up", "no link eth1"},
		{"route add default via 10.0.0.1 dev eth1", "no link eth1"},
		{"route add default via fe80::1 dev eth1", "begins with -6"},
		{"route del blackhole 10.0.0.0/8", "no such route"},
		{"route add blackhole 10.0.0.0/8\nroute add prohibit 10.0.0.0/8", "line 2: route add prohibit 10.0.0.0/8: there is such a route already"},
		{"rule add pref 5 lookup 7\nrule add pref 5 lookup 7", "there is such a rule already"},
		{"rule del pref 5 lookup main", "no such rule"},
		{"link add eth1 type veth\naddr add 2001:db8::1/64 dev eth1", "set the link up first"},
		{"addr add 10.0.0.1/24 dev eth1 frob 7", "unknown option frob"},
		{"sysctl kernel.hostname=x", "want net.KEY=VALUE"},
		{"frob", "unknown command"},
	} {
		if _, err := Parse(tt.lines); err == nil ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.lines, err, tt.want)
		}
	}
}

func parse(t *testing.T, lines string) *Sim {
	t.Helper()
	s, err := Parse(lines)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
