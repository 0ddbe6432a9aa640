package host

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// uplinks makes two uplinks with one address of each family, and peers that
// keep their carrier.
const uplinks = `
link add eth0 type veth peer name p0
link add eth1 type veth peer name p1
link set eth0 up
link set eth1 up
link set p0 up
link set p1 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.10/24 dev eth1
addr add 2001:db8::10/64 dev eth0 nodad
addr add 2001:db8:1::10/64 dev eth1 nodad
`

// open opens a fresh namespace in which the `ip` commands have run.
func open(t testing.TB, batch ...string) (*nstest.NS, *Kernel) {
	t.Helper()
	ns := nstest.New(t)
	ns.Batch(strings.Join(batch, "\n"))
	k, err := Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	for deadline := time.Now().Add(5 * time.Second); !settled(read(t, k)); time.Sleep(
		time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("IPv6 does not settle")
		}
	}
	return ns, k
}

// settled reports whether the kernel has added what follows a link's carrier
// and a new IPv6 address. It does that a moment later.
func settled(h routing.Host) bool {
	has := func(link, dst string) bool {
		return slices.ContainsFunc(h.Routes, func(r routing.Route) bool {
			return r.Table == routing.TableLocal &&
				r.Dst == netip.MustParsePrefix(dst) && r.Hops[0].Link == link
		})
	}
	for _, l := range h.Links {
		if l.Up && !l.Loopback && !has(l.Name, "ff00::/8") {
			return false
		}
	}
	up := func(name string) bool {
		return slices.ContainsFunc(h.Links, func(l routing.Link) bool {
			return l.Name == name && l.Up
		})
	}
	for _, a := range h.Addrs {
		if ip := a.Prefix.Addr(); ip.Is6() && up(a.Link) &&
			(a.Tentative || !has(a.Link, netip.PrefixFrom(ip, 128).String())) {
			return false
		}
	}
	return true
}

func read(t testing.TB, k *Kernel) routing.Host {
	t.Helper()
	h, err := k.Read()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// routes prints the routes of a table.
func routes(h routing.Host, table uint32) string {
	var b strings.Builder
	for _, r := range h.Routes {
		if r.Table == table {
			b.WriteString(r.String() + "\n")
		}
	}
	return b.String()
}

func TestReadRoutes(t *testing.T) {
	for _, tt := range []struct {
		name, batch, want string
	}{
		{"gateway, source, metric, protocol",
			"route add default via 10.0.0.1 dev eth0 table 1000 src 10.0.0.10 metric 50 proto 76",
			"default via 10.0.0.1 dev eth0 table 1000 proto 76 src 10.0.0.10 metric 50\n"},
		{"onlink, mtu, advmss",
			"route add 192.0.2.0/24 via 172.16.0.1 dev eth0 table 1000 onlink mtu 1400 advmss 1300",
			"192.0.2.0/24 via 172.16.0.1 dev eth0 table 1000 mtu 1400 advmss 1300 onlink\n"},
		{"multipath with weights", "route add default table 1000 nexthop via 10.0.0.1 dev eth0 weight 3 nexthop via 10.0.1.1 dev eth1 onlink",
			"default table 1000 nexthop via 10.0.0.1 dev eth0 weight 3 nexthop via 10.0.1.1 dev eth1 weight 1 onlink\n"},
		{"IPv6 multipath", "route add 2001:db8:9::/48 table 1000 nexthop via 2001:db8::1 dev eth0 nexthop via 2001:db8:1::1 dev eth1 weight 2",
			"2001:db8:9::/48 table 1000 nexthop via 2001:db8::1 dev eth0 weight 1 nexthop via 2001:db8:1::1 dev eth1 weight 2\n"},
		{"reject routes", "route add blackhole 192.0.2.1 table 1000\nroute add prohibit 192.0.2.2 table 1000\n" +
			"route add throw 192.0.2.3 table 1000\nroute add unreachable default metric 4294967295 table 1000",
			"unreachable default table 1000 metric 4294967295\nblackhole 192.0.2.1 table 1000\n" +
				"prohibit 192.0.2.2 table 1000\nthrow 192.0.2.3 table 1000\n"},
		{"IPv6 reject routes are on lo", "route add blackhole 2001:db8:a::/48 table 1000\nroute add unreachable 2001:db8:b::/48 table 1000",
			"blackhole 2001:db8:a::/48 table 1000\nunreachable 2001:db8:b::/48 table 1000\n"},
		{"IPv6 metric 0 is 1024", "route add 2001:db8:a::/48 via 2001:db8::1 table 1000\nroute add 2001:db8:a::/48 via 2001:db8::2 metric 7 table 1000",
			"2001:db8:a::/48 via 2001:db8::2 dev eth0 table 1000 metric 7\n2001:db8:a::/48 via 2001:db8::1 dev eth0 table 1000\n"},
		{"router preference", "route add 2001:db8:a::/48 via 2001:db8::1 pref high table 1000\nroute add 2001:db8:b::/48 via 2001:db8::1 pref low table 1000",
			"2001:db8:a::/48 via 2001:db8::1 dev eth0 table 1000 pref high\n2001:db8:b::/48 via 2001:db8::1 dev eth0 table 1000 pref low\n"},
		{"IPv4 by an IPv6 router", "route add 0.0.0.0/0 via inet6 fe80::1 dev eth0 table 1000",
			"default via inet6 fe80::1 dev eth0 table 1000\n"},
		{"tos", "route add 192.0.2.0/24 tos 0x10 via 10.0.0.1 table 1000", "192.0.2.0/24 via 10.0.0.1 dev eth0 table 1000 tos 0x10\n"},
		{"IPv6 source-specific", "route add 2001:db8:a::/48 from 2001:db8:1::/64 via 2001:db8::1 table 1000",
			"2001:db8:a::/48 via 2001:db8::1 dev eth0 table 1000 from 2001:db8:1::/64\n"},
		{"metrics that are not modelled", "route add 192.0.2.0/24 via 10.0.0.1 table 1000 initcwnd 20 window 9000",
			"192.0.2.0/24 via 10.0.0.1 dev eth0 table 1000 window 9000 initcwnd 20\n"},
		{"locked mtu", "route add 192.0.2.0/24 via 10.0.0.1 table 1000 mtu lock 1400", "192.0.2.0/24 via 10.0.0.1 dev eth0 table 1000 mtu lock 1400\n"},
		{"realm", "route add 192.0.2.0/24 via 10.0.0.1 table 1000 realm 7", "192.0.2.0/24 via 10.0.0.1 dev eth0 table 1000 realm 7\n"},
		{"next hop object", "nexthop add id 5 via 10.0.0.1 dev eth0\nroute add default nhid 5 table 1000", "default via 10.0.0.1 dev eth0 table 1000\n"},
		{"next hop group", "nexthop add id 5 via 10.0.0.1 dev eth0\nnexthop add id 4 via 10.0.1.1 dev eth1\nnexthop add id 9 group 5,2/4,3\n" +
			"route add default nhid 9 table 1000",
			"default table 1000 nexthop via 10.0.0.1 dev eth0 weight 2 nexthop via 10.0.1.1 dev eth1 weight 3\n"},
		{"blackhole next hop", "nexthop add id 5 blackhole\nroute add default nhid 5 table 1000", "blackhole default table 1000\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, k := open(t, uplinks, tt.batch)
			if diff := cmp.Diff(tt.want, routes(read(t, k), 1000)); diff != "" {
				t.Errorf("-want +got\n%s%s", diff,
					ns.IP("-N -d route show table 1000"))
			}
			// With nexthop_compat_mode=0 the kernel names next hop
			// objects and does not spell them out.
			ns.Sysctl("net.ipv4.nexthop_compat_mode=0")
			if diff := cmp.Diff(tt.want, routes(read(t, k), 1000)); diff != "" {
				t.Errorf("nexthop_compat_mode=0: -want +got\n%s", diff)
			}
		})
	}
}

// diffHost compares two readings except for neighbours, which change by
// themselves.
func diffHost(a, b routing.Host) string {
	a.Neighs, b.Neighs = nil, nil
	return cmp.Diff(a, b, compareNetip, comparePrefix)
}
