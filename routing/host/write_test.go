package host

import (
	"errors"
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// route and rule parse an `ip` line; the destination gives the family of a
// route.
func route(t *testing.T, line string) *routing.Route {
	t.Helper()
	f := routing.IPv4
	if strings.Contains(line, "::") && !strings.Contains(line, "inet6") {
		f = routing.IPv6
	}
	r, err := routing.ParseRoute(f, line)
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func rule(t *testing.T, line string) *routing.Rule {
	t.Helper()
	f := routing.IPv4
	if strings.Contains(line, "::") {
		f = routing.IPv6
	}
	r, err := routing.ParseRule(f, line)
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func do(t *testing.T, k *Kernel, ops ...routing.Op) {
	t.Helper()
	for _, op := range ops {
		if err := k.writing().do(op); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// What is written is what is read back, and deleting it leaves nothing.
func TestDoRoute(t *testing.T) {
	for _, line := range []string{
		"default via 10.0.1.1 dev eth1 table 1000 proto 76 onlink",
		"default via 172.16.0.1 dev eth1 table 1000 proto 76 metric 7 onlink",
		"10.0.1.0/24 dev eth1 table 1000 proto 76 scope link src 10.0.1.10 metric 100 mtu 1400 advmss 1300",
		"default table 1000 proto 76 nexthop via 10.0.0.1 dev eth0 weight 3 onlink nexthop via 10.0.1.1 dev eth1 weight 1 onlink",
		"unreachable default table 1000 proto 76 metric 4294967295",
		"default via 10.0.1.1 dev eth1 table 1000 proto 76 onlink mtu lock 1400 window 500 rtt 12ms rttvar lock 8ms hoplimit 40 initcwnd 20 features ecn rto_min lock 1.2s quickack 1 congctl reno fastopen_no_cookie 1",
		"default table 1000 proto 76 initcwnd lock 20 initrwnd 30 nexthop via 10.0.0.1 dev eth0 weight 3 onlink nexthop via 10.0.1.1 dev eth1 weight 1 onlink",
		"2001:db8:9::/48 via fe80::1 dev eth1 table 1000 proto 76 metric 1024 mtu lock 1400 advmss lock 1300 hoplimit 64",
		"blackhole 192.0.2.0/24 table 100 proto 76",
		"default via inet6 fe80::1 dev eth1 table 1000 proto 76 onlink",
		"::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 76 onlink",
		"::/0 via fe80::1 dev eth1 table 1000 proto 76 metric 7 pref high onlink",
		"2001:db8:1::/64 dev eth1 table 1000 proto 76 metric 256 mtu 1400",
		"fe80::/64 dev eth1 table 1000 proto 76 metric 256",
		"unreachable ::/0 table 1000 proto 76 metric 4294967295",
		"2001:db8:9::/48 table 1000 proto 76 nexthop via 2001:db8::1 dev eth0 weight 2 onlink nexthop via 2001:db8:1::1 dev eth1 weight 1 onlink",
	} {
		t.Run(line, func(t *testing.T) {
			_, k := open(t, uplinks)
			before, want := read(t, k), route(t, line)
			do(t, k, routing.Op{Route: want}, routing.Op{Route: want})
			if diff := cmp.Diff(want.String()+"\n",
				routes(read(t, k), want.Table)); diff != "" {
				t.Errorf("after set: -want +got\n%s", diff)
			}
			do(t, k, routing.Op{Delete: true, Route: want},
				routing.Op{Delete: true, Route: want})
			if diff := diffHost(before, read(t, k)); diff != "" {
				t.Errorf("after delete: -before +after\n%s", diff)
			}
		})
	}
}

// Replacing keeps one route per key; a route of another metric and one of
// another owner stay.
func TestDoReplace(t *testing.T) {
	ns, k := open(t, uplinks, "route add default via 10.0.0.1 table 1000 metric 5",
		"route add default via 2001:db8::1 table 1000 metric 5")
	do(t, k, routing.Op{
		Route: route(t, "default via 10.0.1.1 dev eth1 table 1000 proto 76 onlink")},
		routing.Op{Route: route(t,
			"default via 10.0.1.2 dev eth1 table 1000 proto 76 mtu 1400 onlink")},
		routing.Op{Route: route(t,
			"::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 76 onlink")},
		routing.Op{Route: route(t, "::/0 table 1000 proto 76 nexthop via 2001:db8:1::2 "+
			"dev eth1 nexthop via 2001:db8::2 dev eth0")},
		routing.Op{Route: route(t,
			"::/0 via 2001:db8:1::3 dev eth1 table 1000 proto 76 onlink")},
		routing.Op{Delete: true,
			Route: route(t,
				"default via 10.0.0.1 dev eth0 table 1000 proto 76 metric 5")},
		routing.Op{Delete: true,
			Route: route(t,
				"::/0 via 2001:db8::1 dev eth0 table 1000 proto 76 metric 5")})
	want := "default via 10.0.1.2 dev eth1 table 1000 proto 76 mtu 1400 onlink\n" +
		"default via 10.0.0.1 dev eth0 table 1000 metric 5\n" +
		"default via 2001:db8::1 dev eth0 table 1000 metric 5\n" +
		"default via 2001:db8:1::3 dev eth1 table 1000 proto 76 onlink\n"
	if diff := cmp.Diff(want, routes(read(t, k), 1000)); diff != "" {
		t.Errorf("-want +got\n%s%s", diff, ns.IP("-6 route show table 1000"))
	}
}

// Of IPv4 defaults of one metric each is added behind the rest and deleted
// alone, by its next hop, and by its metrics where only those differ.
func TestDoAppend(t *testing.T) {
	_, k := open(t, uplinks)
	a := route(t, "default via 10.0.1.1 dev eth1 table 1000 proto 76 onlink")
	b := route(t, "default via 10.0.1.2 dev eth1 table 1000 proto 76 onlink")
	c := route(t, "default via 10.0.1.2 dev eth1 table 1000 proto 76 mtu 1400 onlink")
	want := func(what string, list ...*routing.Route) {
		t.Helper()
		text := ""
		for _, r := range list {
			text += r.String() + "\n"
		}
		if diff := cmp.Diff(text, routes(read(t, k), 1000)); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
	do(t, k, routing.Op{Route: a}, routing.Op{Append: true, Route: b},
		routing.Op{Append: true, Route: b})
	want("append twice", a, b)
	do(t, k, routing.Op{Append: true, Route: c}, routing.Op{Delete: true, Route: b})
	want("change the metrics of the second", a, c)
	do(t, k, routing.Op{Delete: true, Route: a})
	want("delete the first", c)
	do(t, k, routing.Op{Delete: true, Route: c}, routing.Op{Delete: true, Route: c})
	want("delete the last")
}

// netlink v1.3.1 would lose suppress_* of tables from 256 on, take `iif lo` for
// nothing, and delete another owner's rule.
func TestDoRule(t *testing.T) {
	for _, line := range []string{
		"pref 100 from 10.0.1.0/24 iif lo lookup 20001 proto 76",
		"pref 100 from 10.0.1.0/24 iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76 proto 76",
		"pref 100 from 10.0.1.0/24 lookup 20001 suppress_prefixlength 0 suppress_ifgroup 0 proto 76",
		"pref 100 not from 10.0.1.0/24 to 192.0.2.1 iif lo oif eth0 fwmark 0x10/0xf0 lookup 20001 proto 76",
		"pref 100 from 10.0.1.10 goto 32766 proto 76",
		"pref 100 from 10.0.1.10 unreachable proto 76",
		"pref 100 from 10.0.1.10 iif lo tos 0x10 ipproto tcp sport 443 dport 1024-65534 lookup 20001 proto 76",
		"pref 100 from 10.0.1.10 iif lo uidrange 0-33 ipproto 47 realms 3/7 prohibit proto 76",
		"pref 100 from 2001:db8:1::100 iif lo ipproto ipv6-icmp lookup 20001 proto 76",
		"pref 100 from 2001:db8:1::/64 iif lo lookup main suppress_prefixlength 15 suppress_ifgroup 76 proto 76",
		"pref 100 from 2001:db8:1::100 iif lo lookup 20001 proto 76",
	} {
		t.Run(line, func(t *testing.T) {
			_, k := open(t, uplinks)
			mine := rule(t, line)
			other := *mine
			other.Protocol = 18 // keepalived's, the same in all else
			do(t, k, routing.Op{Rule: &other})
			before := read(t, k)
			do(t, k, routing.Op{Rule: mine}, routing.Op{Rule: mine})
			if diff := cmp.Diff(other.String()+"\n"+mine.String()+"\n",
				added(read(t, k), mine.Family)); diff != "" {
				t.Errorf("after add: -want +got\n%s", diff)
			}
			do(t, k, routing.Op{Delete: true, Rule: mine},
				routing.Op{Delete: true, Rule: mine})
			if diff := diffHost(before, read(t, k)); diff != "" {
				t.Errorf("after delete: -before +after\n%s", diff)
			}
		})
	}
}

func TestDoGroup(t *testing.T) {
	_, k := open(t, uplinks)
	groups := func() map[string]int {
		out := map[string]int{}
		for _, l := range read(t, k).Links {
			if l.Group != 0 {
				out[l.Name] = l.Group
			}
		}
		return out
	}
	do(t, k, routing.Op{Group: &routing.LinkGroup{Link: "eth0", Group: 76}},
		routing.Op{Group: &routing.LinkGroup{Link: "eth1", Group: 76}})
	if diff := cmp.Diff(map[string]int{"eth0": 76, "eth1": 76}, groups()); diff != "" {
		t.Error(diff)
	}
	do(t, k, routing.Op{Delete: true, Group: &routing.LinkGroup{Link: "eth0", Group: 76}},
		routing.Op{Delete: true, Group: &routing.LinkGroup{Link: "gone", Group: 76}})
	if diff := cmp.Diff(map[string]int{"eth1": 76}, groups()); diff != "" {
		t.Error(diff)
	}
	if got := k.Writes(); got != 4 {
		t.Errorf("%d writes, want 4", got)
	}
}

// Errors carry the kernel's number and its words.
func TestDoErrors(t *testing.T) {
	_, k := open(t, uplinks)
	opaque := rule(t, "pref 100 dscp 10 lookup 1000")
	for _, tt := range []struct {
		op    routing.Op
		errno error
		text  string
	}{
		{routing.Op{Route: route(t, "default via 192.0.2.1 dev eth1 table 1000 proto 76")}, unix.ENETUNREACH, "Nexthop has invalid gateway"},
		{routing.Op{Route: route(t, "default via 192.0.2.1 dev gone table 1000 proto 76")}, unix.ENODEV, "gone"},
		{routing.Op{Group: &routing.LinkGroup{Link: "gone", Group: 76}}, unix.ENODEV, ""},
		{routing.Op{Rule: opaque}, errors.ErrUnsupported, "dscp 10"},
		{routing.Op{Delete: true, Rule: opaque}, errors.ErrUnsupported, "dscp 10"},
		{routing.Op{Route: route(t, "192.0.2.0/24 via 10.0.0.1 dev eth0 table 1000 realm 7")}, errors.ErrUnsupported, "realm 7"},
	} {
		err := k.writing().do(tt.op)
		if !errors.Is(err, tt.errno) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: error %v, want %v with %q", tt.op, err, tt.errno, tt.text)
		}
	}
	if got := k.Writes(); got > 3 {
		t.Errorf("%d messages were sent, want at most 3: what is not "+
			"modelled must not be written", got)
	}
}

// The kernel takes metric 0 of a delete for any metric: a route that has gone
// must not take its neighbour along.
func TestDoDeleteAbsent(t *testing.T) {
	for _, tt := range []struct{ keep, del string }{
		{"default via 10.0.1.1 dev eth1 table 1000 proto 76 metric 7 onlink", "default via 10.0.1.1 dev eth1 table 1000 proto 76 onlink"},
		{"default via 10.0.1.1 dev eth1 table 1000 proto 76 onlink", "default via 10.0.1.1 dev eth1 table 1000 proto 76 metric 7 onlink"},
		{"unreachable default table 1000 proto 76", "default via 10.0.1.1 dev eth1 table 1000 proto 76"},
		{"default via 10.0.1.1 dev eth1 table 1000 proto 18", "default via 10.0.1.1 dev eth1 table 1000 proto 76"},
		{"10.0.0.0/8 via 10.0.1.1 dev eth1 table 1000 proto 76", "10.0.0.0/9 via 10.0.1.1 dev eth1 table 1000 proto 76"},
		{"::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 76 metric 7", "::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 76"},
		{"unreachable ::/0 table 1000 proto 76", "::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 76"},
		{"::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 18", "::/0 via 2001:db8:1::1 dev eth1 table 1000 proto 76"},
	} {
		t.Run(tt.del, func(t *testing.T) {
			_, k := open(t, uplinks)
			do(t, k, routing.Op{Route: route(t, tt.keep)},
				routing.Op{Delete: true, Route: route(t, tt.del)})
			if diff := cmp.Diff(route(t, tt.keep).String()+"\n",
				routes(read(t, k), 1000)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A rule that the kernel treats as a twin of another is added nevertheless, and
// takes its place.
func TestRuleTwins(t *testing.T) {
	for _, lines := range [][2]string{
		{"pref 5103 from 10.0.1.0/24 to 10.9.0.0/16 iif lo lookup 50 protocol 76",
			"pref 5103 from 10.0.1.0/24 iif lo lookup 50 protocol 76"},
		{"pref 5198 from 10.0.1.0/24 iif lo lookup main suppress_ifgroup 76 protocol 76",
			"pref 5198 from 10.0.1.0/24 iif lo lookup main suppress_ifgroup 10 protocol 76"},
		{"pref 5198 from 2001:db8::/64 to fc00::/7 iif lo lookup main protocol 76",
			"pref 5198 from 2001:db8::/64 iif lo lookup main protocol 76"},
	} {
		_, k := open(t, uplinks)
		old, next := rule(t, lines[0]), rule(t, lines[1])
		do(t, k, routing.Op{Rule: old}, routing.Op{Rule: next}, routing.Op{Rule: next},
			routing.Op{Rule: old, Delete: true})
		got := routing.Owned(read(t, k), routing.DefaultNumbers).Rules
		if d := cmp.Diff([]routing.Rule{*next}, got, compareNetip,
			comparePrefix); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
}
