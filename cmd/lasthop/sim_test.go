package main_test

import (
	"testing"

	"lasthop/routing/sim"
)

// everything has each kind of line that package sim knows, in every order that
// matters: addresses before and after up, secondary ones, peers, one prefix on
// two links, siblings, rules without priority.
const everything = `
link add eth0 type veth
link set eth0 up
link add eth1 type veth
addr add 10.0.7.10/24 dev eth1
link set eth1 up
link add br0 type bridge
link set br0 up
link add tun0 type tun
link set tun0 up
addr add 10.8.0.1/24 dev tun0
addr add 2001:db8:8::1/64 dev tun0
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.10/24 dev eth1
addr add 10.0.1.11/24 dev eth1
addr add 10.0.1.99/32 dev eth1
addr add 10.0.9.1 peer 10.0.9.2 dev eth1
addr add 10.0.10.1/31 dev eth1
addr add 10.0.11.1/24 dev eth1 noprefixroute
addr add 10.0.0.99/24 dev eth1
addr add 169.254.3.3/16 dev eth1 scope link
addr add 10.9.9.9/32 dev lo
addr add 10.9.8.9/24 dev lo
addr add 2001:db8:9::9/128 dev lo
addr add 2001:db8:1::10/64 dev eth1
addr add 2001:db8:1::11/64 dev eth1
addr add 2001:db8:1::99/128 dev eth1
addr add 2001:db8:1::10/64 dev eth0
addr add 2001:db8:7::1 peer 2001:db8:7::2 dev eth1
addr add 2001:db8:17::1/64 dev eth1 noprefixroute
addr add 10.0.20.1/24 dev br0
route add default via 10.0.0.1 dev eth0
route append default via 10.0.0.2 dev eth0
route add 10.50.0.0/16 nexthop via 10.0.1.1 dev eth1 weight 2 nexthop via 10.0.0.2 dev eth0 weight 1 onlink
route add blackhole 10.66.0.0/16
route add throw 10.67.0.0/16
route add unreachable default metric 4294967295
route add 10.244.0.7 dev br0 
route add 10.7.0.0/16 via 10.0.1.4 dev eth1 src 10.0.1.11 mtu 1400
route add 10.88.0.0/16 dev tun0
-6 route add unreachable default metric 4294967295
-6 route add blackhole 2001:db8:66::/48
-6 route add default via fe80::1 dev eth1 pref high proto ra metric 100 hoplimit 64
-6 route add 2001:db8:50::/48 nexthop via 2001:db8:1::1 dev eth1 nexthop via 2001:db8:1::2 dev eth1 weight 3
-6 route add 2001:db8:51::/48 dev eth1 via fe80::1 src 2001:db8:1::11 mtu 1400 advmss 1300
-6 route add 2001:db8:53::/48 dev eth1 via fe80::1
-6 route append 2001:db8:53::/48 dev eth0 via fe80::2
-6 route add 2001:db8:54::/48 dev tun0
rule add from 10.0.1.0/24 iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76 pref 5101 protocol 76
rule add not fwmark 0xca6c lookup 51820
rule add lookup main suppress_prefixlength 0
rule add pref 100 lookup local
rule del pref 0 lookup local
-6 rule add not fwmark 0xca6c lookup 51820
-6 rule add lookup main suppress_prefixlength 0
-6 rule add from 2001:db8:1::/64 unreachable
neigh add fe80::1 dev eth1 router
link set eth1 group 5
`

// TestSimulation holds package sim to what the kernel does. Every scenario is
// compared as well, before it is used.
func TestSimulation(t *testing.T) {
	for _, tt := range []struct{ name, more string }{
		{"up", ""},
		{"down", "link set eth1 down\n"},
		{"no carrier", "link set p-eth1 down\n"},
		{"down and up", "link set eth1 down\nlink set eth1 up\n"},
		{"sysctl", "sysctl net.ipv4.conf.eth1.rp_filter=1\nsysctl net.ipv4.ip_forward=1\n"},
		{"master", "link set eth0 master br0\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := sim.Parse(everything + tt.more)
			if err != nil {
				t.Fatal(err)
			}
			ns := newNamespace(t)
			ns.build(t, s)
			if d := compareHosts(s.Host, ns.read(t, s)); d != "" {
				t.Errorf("-sim +kernel\n%s", d)
			}
		})
	}
}
