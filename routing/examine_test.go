package routing_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// loose is how the kernel starts: each link answers ARP for all.
const loose = `
	sysctl net.ipv4.conf.all.arp_ignore=0
	sysctl net.ipv4.conf.all.arp_announce=0
`

var vips = []routing.Listener{
	{Addr: netip.MustParseAddr("10.0.1.10"), Ports: routing.PortRange{First: 80, Last: 80}, Transport: routing.TCP},
	{Addr: netip.MustParseAddr("10.0.1.10"), Ports: routing.PortRange{First: 53, Last: 53}, Transport: routing.UDP},
}

// examined is what Examine says of a host where a plan was applied before a
// fault came.
func examined(t *testing.T, kernel, fault string, binds ...routing.Bind) []string {
	t.Helper()
	before := planOf(t, parseHost(t, twoUplinks+loose), vips, nil, plain)
	if len(before.State.Rules) == 0 {
		t.Fatal("nothing is needed: the faults meet no rule of lasthop")
	}
	h := routing.With(parseHost(t, twoUplinks+loose+fault), before.State)
	h.Kernel = kernel
	var got []string
	for _, f := range routing.Examine(h, planOf(t, h, vips, binds, plain), binds, plain) {
		got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.Code, f.Subject))
		if f.Message == "" || f.Hint == "" {
			t.Errorf("%s says %q and %q: want both what is wrong and what to do",
				f.Code, f.Message, f.Hint)
		}
	}
	return got
}

var (
	transparent = routing.Bind{Transparent: true,
		Upstreams: []netip.Addr{netip.MustParseAddr("10.0.0.50")}, Origin: "nginx.conf:7"}
	anyUpstream = routing.Bind{Transparent: true, Origin: "nginx.conf:7"}
)

const takesIn = "rule add fwmark 1 lookup 100\n route add local 0.0.0.0/0 dev lo table 100"

// faults are what comes to a healthy host, and what Examine finds then.
var faults = []struct {
	name, fault string
	binds       []routing.Bind
	want        []string
}{
	{name: "healthy"},
	{name: "local behind", fault: "rule add pref 100 lookup local\n rule del pref 0 lookup local", want: []string{"info local-order IPv4"}},
	{name: "local of IPv6", fault: "-6 rule add pref 100 lookup local\n -6 rule del pref 0 lookup local", want: []string{"info local-order IPv6"}},
	{name: "local behind lasthop's rules", fault: "rule add pref 32765 lookup local\n rule del pref 0 lookup local", want: []string{"error local-order IPv4"}},
	{name: "local behind lasthop's rules, VRFs in front", fault: "rule add pref 32765 lookup local\n rule del pref 0 lookup local\n rule add pref 1000 l3mdev",
		want: []string{"error local-order IPv4", "info l3mdev IPv4"}},
	{name: "no local", fault: "rule del pref 0 lookup local", want: []string{"error local-order IPv4"}},
	{name: "local twice", fault: "rule add pref 100 lookup local"},
	{name: "VRFs", fault: "rule add pref 1000 l3mdev", want: []string{"info l3mdev IPv4"}},
	{name: "a route by the path's link has come", fault: "route add 10.244.0.0/16 via 10.0.1.2 dev eth1", want: []string{"warning stale-table eth1 via 10.0.1.1"}},
	{name: "a route by another link has come", fault: "route add 10.244.0.0/16 via 10.0.0.2 dev eth0"},
	{name: "the LAN's route is gone", fault: "route del 10.0.1.0/24 dev eth1", want: []string{"warning stale-table eth1 via 10.0.1.1"}},
	{name: "the default has another metric", fault: "route del default via 10.0.1.1 dev eth1 metric 200\n route add default via 10.0.1.1 dev eth1 metric 200 mtu 1400", want: []string{"warning stale-table eth1 via 10.0.1.1"}},
	{name: "VRFs behind lasthop's rules", fault: "rule add pref 9000 l3mdev", want: []string{"error l3mdev IPv4"}},
	{name: "one subnet", fault: "link add eth2 type veth\n link set eth2 up\n addr add 10.0.1.11/24 dev eth2", want: []string{"warning arp-flux eth1 eth2"}},
	{name: "one subnet, one within the other", fault: "link add eth2 type veth\n link set eth2 up\n addr add 10.0.1.11/20 dev eth2", want: []string{"warning arp-flux eth1 eth2"}},
	{name: "one subnet, asked and answered by link", fault: "link add eth2 type veth\n link set eth2 up\n addr add 10.0.1.11/24 dev eth2\n" +
		"sysctl net.ipv4.conf.all.arp_ignore=1\n sysctl net.ipv4.conf.all.arp_announce=2"},
	{name: "one subnet, answered by link", fault: "link add eth2 type veth\n link set eth2 up\n addr add 10.0.1.11/24 dev eth2\n" +
		"sysctl net.ipv4.conf.all.arp_ignore=1", want: []string{"warning arp-flux eth1 eth2"}},
	{name: "one subnet, asked by link", fault: "link add eth2 type veth\n link set eth2 up\n addr add 10.0.1.11/24 dev eth2\n" +
		"sysctl net.ipv4.conf.all.arp_announce=2", want: []string{"warning arp-flux eth1 eth2"}},
	{name: "one subnet without listener", fault: "link add eth2 type veth\n link set eth2 up\n addr add 10.0.0.11/24 dev eth2"},
	{name: "one subnet, one down", fault: "link add eth2 type veth\n addr add 10.0.1.11/24 dev eth2"},
	{name: "foreign route in lasthop's range", fault: "route add 192.0.2.0/24 via 10.0.1.7 dev eth1 table 20500 proto static", want: []string{"warning numbers-taken table 20500"}},
	{name: "foreign route in a table that lasthop uses", fault: "route add 192.0.2.0/24 via 10.0.1.7 dev eth1 table 20431 proto static", want: []string{"warning numbers-taken table 20431"}},
	{name: "foreign rule in lasthop's range", fault: "rule add pref 5150 from 10.9.0.0/16 lookup 500", want: []string{"warning numbers-taken priority 5150"}},
	{name: "foreign rule where the kernel puts one without priority", fault: "rule add pref 5197 from 10.9.0.0/16 lookup 500"},
	{name: "rule with lasthop's protocol elsewhere", fault: "rule add pref 9000 from 10.9.0.0/16 lookup 500 protocol 76", want: []string{"warning outside-range protocol 76"}},
	{name: "lasthop's group on a bridge", fault: "link set docker0 group 76", want: []string{"warning numbers-taken docker0"}},
	{name: "another group on a bridge", fault: "link set docker0 group 7"},
	{name: "keepalived behind", fault: "rule add pref 20000 from 10.0.1.10 lookup 300 protocol 18", want: []string{"warning keepalived-rules 10.0.1.10"}},
	{name: "keepalived in front", fault: "rule add pref 4000 from 10.0.1.10 lookup 300 protocol 18\n route add default via 10.0.0.1 dev eth0 table 300",
		want: []string{"warning keepalived-rules 10.0.1.10"}},
	{name: "keepalived for another address", fault: "rule add pref 4000 from 10.0.1.99 lookup 300 protocol 18"},
	{name: "shadowed by another", fault: "rule add pref 4000 from 10.0.1.10 lookup 300\n route add default via 10.0.0.1 dev eth0 table 300",
		want: []string{"warning shadowed eth1 via 10.0.1.1"}},
	{name: "transparent", binds: []routing.Bind{transparent}, want: []string{"warning bind-transparent IPv4"}},
	{name: "transparent to anybody", binds: []routing.Bind{anyUpstream}, want: []string{"warning bind-transparent IPv4 and IPv6"}},
	{name: "transparent and taken in", binds: []routing.Bind{transparent, anyUpstream}, fault: takesIn},
	{name: "bind to a VIP", binds: []routing.Bind{{Addr: netip.MustParseAddr("10.0.1.10"), Upstreams: []netip.Addr{netip.MustParseAddr("10.0.1.60")}}},
		want: []string{"info bind-to-vip 10.0.1.10"}},
	{name: "bind to a VIP, and another way for it", binds: []routing.Bind{{Addr: netip.MustParseAddr("10.0.1.10"), Upstreams: []netip.Addr{netip.MustParseAddr("10.0.0.50")}}},
		want: []string{"warning bind-moves 10.0.1.10"}},
	{name: "bind to an address of no listener", binds: []routing.Bind{{Addr: netip.MustParseAddr("10.0.0.10"), Upstreams: []netip.Addr{netip.MustParseAddr("10.0.0.50")}}}},
	{name: "forwarding is no fault", fault: "sysctl net.ipv4.ip_forward=1"},
}

func TestExamine(t *testing.T) {
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want,
				examined(t, "6.18.0", tt.fault, tt.binds...)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A capture that a shell made has no sysctls: an unknown setting is no fault.
func TestExamineWithoutSysctls(t *testing.T) {
	h := parseHost(t, twoUplinks+"link add eth2 type veth\n link set eth2 up\n"+
		" addr add 10.0.1.11/24 dev eth2")
	h.Sysctls = nil
	for _, f := range routing.Examine(h, planOf(t, h, vips, nil, plain), nil, plain) {
		t.Errorf("%s: %s", f.Code, f.Message)
	}
}

func TestExamineKernels(t *testing.T) {
	for release, want := range map[string]bool{
		"": false, "5.15.0-100-generic": false, "6.1.0-28-amd64": false, "6.6.56": false, "6.6.57": true, "6.6.57-rc1": true, "6.6.93+": true,
		"6.6.94": false, "6.6.137-gke": false, "6.7.0": true, "6.8.0-45-generic": true, "6.12.20-amd64": true, "6.12.33-1.el10.x86_64": true, "6.12": true,
		"6.12.34": false, "6.12.48+deb13-amd64": false, "6.13.1": false, "6.18.44": false, "7.0.0": false, "microsoft": false,
	} {
		got := examined(t, release, "")
		if slices.ContainsFunc(got, func(s string) bool {
			return strings.HasPrefix(s, "warning udp-kernel-bug ")
		}) != want || len(got) > 1 {
			t.Errorf("%q: %q, want %t", release, got, want)
		}
	}
}

// TestARPRemedy: the remedy that keeps two links apart must not disable an
// address that neighbours ask for on another link than its own.
func TestARPRemedy(t *testing.T) {
	const shared = "link add eth2 type veth\n link set eth2 up\n" +
		" addr add 10.0.1.11/24 dev eth2\n"
	for fault, want := range map[string]string{
		shared: "arp_ignore=1",
		shared + "addr add 10.0.1.12/32 dev eth1":                                       "arp_ignore=1",
		shared + "addr add 10.7.7.7/32 dev lo":                                          "arp_ignore=1",
		shared + "addr add 10.0.1.99/32 dev lo":                                         "take one of them out of the subnet; do not set arp_ignore: the kernel would not answer for 10.0.1.99, which is on lo",
		shared + "addr add 10.0.0.99/32 dev lo":                                         "take one of them out of the subnet; do not set arp_ignore: the kernel would not answer for 10.0.0.99, which is on lo",
		shared + "addr add 10.0.1.99/32 dev lo\n sysctl net.ipv4.conf.all.arp_ignore=1": "sysctl -w net.ipv4.conf.all.arp_announce=2",
		shared + "addr add 10.0.0.99/32 dev eth1":                                       "take one of them out of the subnet; do not set arp_ignore: the kernel would not answer for 10.0.0.99, which is on eth1",
	} {
		h := parseHost(t, twoUplinks+loose+fault)
		found := routing.Examine(h, planOf(t, h, vips, nil, plain), nil, plain)
		i := slices.IndexFunc(found, func(f routing.Finding) bool {
			return f.Code == "arp-flux"
		})
		if i < 0 || !strings.Contains(found[i].Hint, want) {
			t.Errorf("%s: want the hint %q in %+v", fault, want, found)
		}
	}
}
