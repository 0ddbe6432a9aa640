package routing

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ruleTexts are rules as String prints them, and what they mean.
var ruleTexts = []struct {
	family Family
	text   string
	args   string
	change func(*Rule)
}{
	{IPv4, "5102:\tfrom 10.0.1.0/24 iif lo lookup 20123 proto 76", "pref 5102 from 10.0.1.0/24 iif lo lookup 20123 protocol 76",
		func(r *Rule) { r.From, r.IIF, r.Table, r.Protocol = prefix("10.0.1.0/24"), "lo", 20123, 76 }},
	{IPv4, "5101:\tfrom 10.0.1.0/24 iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76 proto 76",
		"pref 5101 from 10.0.1.0/24 iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76 protocol 76",
		func(r *Rule) {
			r.From, r.IIF, r.Table, r.Protocol = prefix("10.0.1.0/24"), "lo",
				TableMain, 76
			r.SuppressPrefix, r.SuppressGroup = 7, 76
		}},
	{IPv6, "0:\tfrom all lookup local proto kernel", "pref 0 from all lookup local protocol kernel",
		func(r *Rule) { r.Table, r.Protocol = TableLocal, 2 }},
	{IPv4, "5100:\tnot from all fwmark 0xca6c lookup 51820", "pref 5100 not from all fwmark 0xca6c lookup 51820",
		func(r *Rule) { r.Not, r.Mark, r.Mask, r.Table = true, 0xca6c, 0xffffffff, 51820 }},
	{IPv4, "5099:\tfrom all fwmark 0x10/0xff lookup 100", "pref 5099 from all fwmark 0x10/0xff lookup 100",
		func(r *Rule) { r.Mark, r.Mask, r.Table = 0x10, 0xff, 100 }},
	{IPv4, "77:\tfrom all to 10.0.0.1 nop", "pref 77 from all to 10.0.0.1 nop",
		func(r *Rule) { r.To, r.Action = prefix("10.0.0.1/32"), Nop }},
	{IPv6, "78:\tfrom 2001:db8::/48 to 2001:db8:1::1 unreachable", "pref 78 from 2001:db8::/48 to 2001:db8:1::1 unreachable",
		func(r *Rule) {
			r.From, r.To, r.Action = prefix("2001:db8::/48"),
				prefix("2001:db8:1::1/128"), RejectUnreachable
		}},
	{IPv4, "79:\tfrom all blackhole", "pref 79 from all blackhole", func(r *Rule) { r.Action = RejectBlackhole }},
	{IPv4, "80:\tfrom all tos 0x10 prohibit", "pref 80 from all tos 0x10 prohibit",
		func(r *Rule) { r.Opaque, r.Action = "tos 0x10", RejectProhibit }},
	{IPv4, "83:\tfrom all goto 32766", "pref 83 from all goto 32766", func(r *Rule) { r.Action, r.Goto = Goto, 32766 }},
	{IPv4, "1000:\tfrom all lookup [l3mdev-table] proto kernel", "pref 1000 from all l3mdev protocol kernel",
		func(r *Rule) { r.Opaque, r.Protocol = "l3mdev", 2 }},
	{IPv4, "81:\tfrom all iif eth1 oif eth2 uidrange 0-99 ipproto tcp sport 80 dport 90-99 lookup 99",
		"pref 81 from all iif eth1 oif eth2 uidrange 0-99 ipproto tcp sport 80 dport 90-99 lookup 99",
		func(r *Rule) {
			r.IIF, r.OIF, r.Table, r.Opaque = "eth1", "eth2", 99,
				"uidrange 0-99 ipproto tcp sport 80 dport 90-99"
		}},
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestRuleText(t *testing.T) {
	for _, tt := range ruleTexts {
		priority, _, _ := strings.Cut(tt.text, ":")
		want := NewRule(tt.family, 0, 0)
		if err := setInt(&want.Priority, priority); err != nil {
			t.Fatal(err)
		}
		tt.change(&want)
		if got := want.String(); got != tt.text {
			t.Errorf("String() = %q, want %q", got, tt.text)
		}
		if got := want.Args(); got != tt.args {
			t.Errorf("Args() = %q, want %q", got, tt.args)
		}
		for _, text := range []string{tt.text, tt.args} {
			got, err := ParseRule(tt.family, text)
			if err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(want, got, comparePrefixes); d != "" {
				t.Errorf("ParseRule(%q): -want +got\n%s", text, d)
			}
		}
	}
}

// TestParseRuleNumbers reads what `ip -N -d rule` prints, which says numbers
// for everything.
func TestParseRuleNumbers(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"0:	from all lookup 255 proto 2", "0:\tfrom all lookup local proto kernel"},
		{"77:	from all to 10.0.0.0/8 nop proto 0", "77:\tfrom all to 10.0.0.0/8 nop"},
		{"78:	from all to 10.3.0.0/16 7 proto 0", "78:\tfrom all to 10.3.0.0/16 unreachable"},
		{"80:	from all to 10.3.0.0/16 tos 0x10 8 proto 0", "80:\tfrom all to 10.3.0.0/16 tos 0x10 prohibit"},
		{"82:	from all goto 9999 [unresolved] proto 0", "82:\tfrom all goto 9999"},
		{"84:	from all lookup [l3mdev-table] proto 0", "84:\tfrom all lookup [l3mdev-table]"},
		{"85:	from all iif eth1 oif nosuch [detached] lookup 12 proto 0", "85:\tfrom all iif eth1 oif nosuch lookup 12"},
		{"86:	from all to 10.1.0.0/16 iif lo lookup 12 realms 1/2 proto 0", "86:\tfrom all to 10.1.0.0/16 iif lo realms 1/2 lookup 12"},
		{"5099:	from all fwmark 0x10/0xff lookup 100 proto 18", "5099:\tfrom all fwmark 0x10/0xff lookup 100 proto 18"},
		{"5100:	from all fwmark 0x10 lookup 100 proto keepalived", "5100:\tfrom all fwmark 0x10 lookup 100 proto 18"},
		{"87:	from all ipproto ipproto-6 sport 80 lookup 12 proto 0", "87:\tfrom all ipproto tcp sport 80 lookup 12"},
		{"pref 9 from 0.0.0.0/0 table main", "9:\tfrom all lookup main"},
		{"pref 9 from any table main suppress_ifgroup default", "9:\tfrom all lookup main suppress_ifgroup 0"},
		{"pref 9", "9:\tfrom all lookup main"},
	} {
		r, err := ParseRule(IPv4, tt.text)
		if err != nil || r.String() != tt.want {
			t.Errorf("ParseRule(%q) = %q, %v, want %q", tt.text, r, err, tt.want)
		}
	}
}

func TestParseRuleErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "no priority"},
		{"from 10.0.0.0/8 lookup main", "no priority"},
		{"x: from all lookup main", "number"},
		{"pref -1 from all lookup main", "number"},
		{"5: from 10.0.0.1/8 lookup main", "has host bits: 10.0.0.0/8"},
		{"5: from 2001:db8::/32 lookup main", "is no IPv4 prefix"},
		{"5: from all lookup vpn", "give the number"},
		{"5: from all lookup main proto nosuch", "give the number"},
		{"5: from all lookup", "nothing after lookup"},
		{"5: from all lookup main table 5", "table is given twice"},
		{"5: from all pref 6 lookup main", "priority is given twice"},
		{"5: from all fwmark 0x1/zz lookup main", "number"},
		{"5: from all lookup 100 l3mdev", "l3mdev and a table"},
		{"5: not not from all", "not is given twice"},
		{"5: from all goto 7 nop", "action is given twice"},
		{"5: from all lokup main", `unknown word "lokup"`},
		{"5: from all sport", "nothing after sport"},
		{"5: from all sport 5 sport 6", "sport is given twice"},
	} {
		if _, err := ParseRule(IPv4, tt.text); err == nil ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseRule(%q): error %v, want %q", tt.text, err, tt.want)
		}
	}
}

// routeTexts are routes as String prints them, and what they mean; the hops are
// those of change.
var routeTexts = []struct {
	text   string
	want   Route
	family Family
}{
	{"default via 10.0.1.1 dev eth1 table 20123 proto 76 onlink", Route{RouteKey: RouteKey{20123, prefix("0.0.0.0/0"), 0}, Type: Unicast,
		Protocol: 76, Hops: []Hop{{Link: "eth1", Via: addr("10.0.1.1"), Weight: 1, OnLink: true}}}, IPv4},
	{"default via 10.0.1.1 dev eth1", Route{RouteKey: RouteKey{TableMain, prefix("0.0.0.0/0"), 0}, Type: Unicast,
		Protocol: 3, Hops: []Hop{{Link: "eth1", Via: addr("10.0.1.1"), Weight: 1}}}, IPv4},
	{"10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.10", Route{RouteKey: RouteKey{TableMain, prefix("10.0.1.0/24"), 0},
		Type: Unicast, Scope: ScopeLink, Protocol: 2, Src: addr("10.0.1.10"), Hops: []Hop{{Link: "eth1", Weight: 1}}}, IPv4},
	{"10.244.0.7 dev cali0 scope global metric 7 mtu 1400 advmss 1300", Route{RouteKey: RouteKey{TableMain, prefix("10.244.0.7/32"), 7},
		Type: Unicast, Protocol: 3, Hops: []Hop{{Link: "cali0", Weight: 1}}, MTU: 1400, AdvMSS: 1300}, IPv4},
	{"local 10.0.1.10 dev eth1 proto kernel scope host src 10.0.1.10", Route{RouteKey: RouteKey{TableLocal, prefix("10.0.1.10/32"), 0},
		Type: Local, Scope: ScopeHost, Protocol: 2, Src: addr("10.0.1.10"), Hops: []Hop{{Link: "eth1", Weight: 1}}}, IPv4},
	{"local 10.9.0.0/16 dev lo table main scope host", Route{RouteKey: RouteKey{TableMain, prefix("10.9.0.0/16"), 0},
		Type: Local, Scope: ScopeHost, Protocol: 3, Hops: []Hop{{Link: "lo", Weight: 1}}}, IPv4},
	{"blackhole 10.66.0.0/16", Route{RouteKey: RouteKey{TableMain, prefix("10.66.0.0/16"), 0}, Type: Blackhole, Protocol: 3}, IPv4},
	{"throw 10.67.0.0/16 table 9", Route{RouteKey: RouteKey{9, prefix("10.67.0.0/16"), 0}, Type: Throw, Protocol: 3}, IPv4},
	{"unreachable default table 20123 proto 76 metric 4294967295", Route{RouteKey: RouteKey{20123, prefix("0.0.0.0/0"), 4294967295},
		Type: Unreachable, Protocol: 76}, IPv4},
	{"10.50.0.0/16 nexthop via 10.0.1.1 dev eth1 weight 2 nexthop dev eth2 weight 1 onlink", Route{
		RouteKey: RouteKey{TableMain, prefix("10.50.0.0/16"), 0}, Type: Unicast, Protocol: 3,
		Hops: []Hop{{Link: "eth1", Via: addr("10.0.1.1"), Weight: 2}, {Link: "eth2", Weight: 1, OnLink: true}}}, IPv4},
	{"default encap bpf xmit lasthop/5b2 via 10.0.1.1 dev eth1 table 20123 proto 76 onlink", Route{RouteKey: RouteKey{20123, prefix("0.0.0.0/0"), 0}, Type: Unicast,
		Protocol: 76, Hops: []Hop{{Link: "eth1", Via: addr("10.0.1.1"), Weight: 1, OnLink: true}}, Encap: "lasthop/5b2"}, IPv4},
	{"default table 20123 proto 76 nexthop encap bpf xmit lasthop/5b2 via 10.0.1.1 dev eth1 weight 1 nexthop encap bpf xmit lasthop/5b2 via 10.0.1.2 dev eth1 weight 1",
		Route{RouteKey: RouteKey{20123, prefix("0.0.0.0/0"), 0}, Type: Unicast, Protocol: 76, Encap: "lasthop/5b2",
			Hops: []Hop{{Link: "eth1", Via: addr("10.0.1.1"), Weight: 1}, {Link: "eth1", Via: addr("10.0.1.2"), Weight: 1}}}, IPv4},
	{"default via 10.0.1.1 dev eth1 encap bpf xmit other/5b2", Route{RouteKey: RouteKey{TableMain, prefix("0.0.0.0/0"), 0}, Type: Unicast,
		Protocol: 3, Hops: []Hop{{Link: "eth1", Via: addr("10.0.1.1"), Weight: 1}}, Opaque: "encap bpf xmit other/5b2"}, IPv4},
	{"10.78.0.0/16 via inet6 fe80::1 dev eth1", Route{RouteKey: RouteKey{TableMain, prefix("10.78.0.0/16"), 0}, Type: Unicast,
		Protocol: 3, Hops: []Hop{{Link: "eth1", Via: addr("fe80::1"), Weight: 1}}}, IPv4},
	{"10.79.0.0/16 dev eth1 scope link tos 0x10 mtu lock 1400 window 500", Route{RouteKey: RouteKey{TableMain, prefix("10.79.0.0/16"), 0},
		Type: Unicast, Scope: ScopeLink, Protocol: 3, Hops: []Hop{{Link: "eth1", Weight: 1}}, Opaque: "tos 0x10 mtu lock 1400 window 500"}, IPv4},
	{"default via fe80::1 dev eth1 proto ra metric 100 pref high hoplimit 64", Route{RouteKey: RouteKey{TableMain, prefix("::/0"), 100},
		Type: Unicast, Protocol: 9, Hops: []Hop{{Link: "eth1", Via: addr("fe80::1"), Weight: 1}}, Pref: 1, Opaque: "hoplimit 64"}, IPv6},
	{"2001:db8:51::/48 dev eth1", Route{RouteKey: RouteKey{TableMain, prefix("2001:db8:51::/48"), 1024}, Type: Unicast, Protocol: 3,
		Hops: []Hop{{Link: "eth1", Weight: 1}}}, IPv6},
	{"local 2001:db8::1 dev eth1 proto kernel metric 0", Route{RouteKey: RouteKey{TableLocal, prefix("2001:db8::1/128"), 0}, Type: Local,
		Protocol: 2, Hops: []Hop{{Link: "eth1", Weight: 1}}}, IPv6},
	{"2001:db8:52::/48 via fe80::1 dev eth1 from 2001:db8:1::/64", Route{RouteKey: RouteKey{TableMain, prefix("2001:db8:52::/48"), 1024},
		Type: Unicast, Protocol: 3, Hops: []Hop{{Link: "eth1", Via: addr("fe80::1"), Weight: 1}}, Opaque: "from 2001:db8:1::/64"}, IPv6},
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var comparePrefixes = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func TestRouteText(t *testing.T) {
	for _, tt := range routeTexts {
		if got := tt.want.String(); got != tt.text {
			t.Errorf("String() = %q, want %q", got, tt.text)
		}
		got, err := ParseRoute(tt.family, tt.text)
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(tt.want, got, comparePrefixes); d != "" {
			t.Errorf("ParseRoute(%q): -want +got\n%s", tt.text, d)
		}
	}
}

// TestParseRouteNumbers reads what `ip -N -d route show table all` prints.
func TestParseRouteNumbers(t *testing.T) {
	for _, tt := range []struct {
		family     Family
		text, want string
	}{
		{IPv4, "1 default via 10.0.1.1 dev eth1 table 254 proto 3 scope 0 linkdown ", "default via 10.0.1.1 dev eth1"},
		{IPv4, "7 default table 254 proto 3 scope 0 metric 4294967295 ", "unreachable default metric 4294967295"},
		{IPv4, "1 10.50.0.0/16 table 254 proto 3 scope 0 \n\tnexthop via 10.0.1.1 dev eth1 weight 2 dead linkdown \n\tnexthop via 10.0.1.2 dev eth1 weight 1 onlink ",
			"10.50.0.0/16 nexthop via 10.0.1.1 dev eth1 weight 2 nexthop via 10.0.1.2 dev eth1 weight 1 onlink"},
		{IPv4, `default proto bgp \	nexthop via 10.0.1.1 dev eth1 weight 2 \	nexthop via 10.0.1.2 dev eth1 weight 1`,
			"default proto 186 nexthop via 10.0.1.1 dev eth1 weight 2 nexthop via 10.0.1.2 dev eth1 weight 1"},
		{IPv4, "1 10.77.0.0/16 tos 0x10 dev eth1 table 254 proto 3 scope 253 ", "10.77.0.0/16 dev eth1 scope link tos 0x10"},
		{IPv4, "10.80.0.0/16  encap ip id 1 src 10.1.1.1 dst 10.2.2.2 ttl 0 tos 0 dev ipip0 scope link",
			"10.80.0.0/16 dev ipip0 scope link encap ip id 1 src 10.1.1.1 dst 10.2.2.2 ttl 0 tos 0"},
		{IPv4, "1 default  encap bpf xmit lasthop/5b2 via 10.0.1.1 dev eth1 table 20123 proto 76 scope 0 onlink ", "default encap bpf xmit lasthop/5b2 via 10.0.1.1 dev eth1 table 20123 proto 76 onlink"},
		{IPv4, "3 10.0.1.255 dev eth1 table 255 proto 2 scope 253 src 10.0.1.10", "broadcast 10.0.1.255 dev eth1 proto kernel scope link src 10.0.1.10"},
		{IPv6, "6 2001:db8:66::/48 dev lo table 254 proto 3 scope 0 metric 1024 pref medium", "blackhole 2001:db8:66::/48"},
		{IPv6, "unreachable default dev lo metric 4294967295 error -101 pref medium", "unreachable default metric 4294967295"},
		{IPv6, "default via fe80::1 dev eth1 proto ra metric 100 expires 1799sec hoplimit 64 pref low",
			"default via fe80::1 dev eth1 proto ra metric 100 pref low hoplimit 64"},
		{IPv6, "5 ff00::/8 dev eth1 table 255 proto 2 scope 0 metric 256 pref medium", "multicast ff00::/8 dev eth1 table local proto kernel metric 256"},
		{IPv4, "default nexthop via 10.0.1.1 dev eth1 weight 9", "default via 10.0.1.1 dev eth1"},
	} {
		r, err := ParseRoute(tt.family, tt.text)
		if err != nil || r.String() != tt.want {
			t.Errorf("ParseRoute(%q) = %q, %v, want %q", tt.text, r, err, tt.want)
		}
	}
}

func TestParseRouteErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "no destination"},
		{"blackhole", "no destination"},
		{"nat 10.0.0.0/8 dev eth1", "nat"},
		{"10.0.0.1/8 dev eth1", "has host bits: 10.0.0.0/8"},
		{"2001:db8::/32 dev eth1", "is no IPv4 prefix"},
		{"default via 10.0.0.1", "next hop without dev"},
		{"default via fe80::1 dev eth1", "fe80::1 is no IPv4 address"},
		{"default dev eth1 dev eth2", "given twice"},
		{"default dev eth1 metric 1 metric 2", "metric is given twice"},
		{"default dev eth1 metric -1", "number"},
		{"default dev eth1 tos", "nothing after tos"},
		{"default dev eth1 metrik 5", `unknown word "metrik"`},
		{"default dev eth1 window 5 window 6", "window is given twice"},
		{"default dev eth1 pref best", "want low, medium or high"},
		{"default dev eth1 scope nosuch", "scope"},
		{"default dev eth1 src", "nothing after src"},
		{"default nexthop via 10.0.0.1 weight 1", "next hop without dev"},
		{"default nexthop via 10.0.0.1 dev eth1 weight 0", "want 1 to 256"},
		{"default nexthop via 10.0.0.1 dev eth1 encap mpls 100", `"encap" of a next hop is not modelled`},
		{"default nexthop encap bpf xmit lasthop/1 dev eth1 nexthop encap bpf xmit lasthop/2 dev eth2", `"encap" of a next hop is not modelled`},
	} {
		if _, err := ParseRoute(IPv4, tt.text); err == nil ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseRoute(%q): error %v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestLastHopOpText: what the mode last-hop writes. A deletion is a command
// that works: `ip` knows no programs by name, and the kernel needs none.
func TestLastHopOpText(t *testing.T) {
	route, err := ParseRoute(IPv4, "default encap bpf xmit lasthop/5b2 via 10.0.1.1 dev eth1 "+
		"table 20123 proto 76 onlink")
	if err != nil {
		t.Fatal(err)
	}
	own := Filter{Link: "eth1", Pref: 2, Handle: 1, Kind: "bpf", Name: "lasthop/5b2"}
	web, rst := Wanted{addr("10.0.1.9"), 80, TCP}, Wanted{addr("10.0.1.9"), 0, TCP}
	quic, echo := Wanted{addr("2001:db8::1"), 443, UDP}, Wanted{addr("2001:db8::1"), 0, ICMP}
	for _, tt := range []struct {
		op   Op
		want string
	}{
		{Op{Route: &route}, "ip route replace default encap bpf xmit lasthop/5b2 via 10.0.1.1 dev eth1 table 20123 proto 76 onlink"},
		{Op{Route: &route, Delete: true}, "ip route del default via 10.0.1.1 dev eth1 table 20123 proto 76 onlink"},
		{Op{Filter: &own}, "tc filter add dev eth1 ingress pref 2 bpf direct-action name lasthop/5b2"},
		{Op{Filter: &own, Delete: true}, "tc filter del dev eth1 ingress pref 2 handle 0x1 bpf"},
		{Op{Wanted: &web}, "last-hop listener add tcp 10.0.1.9:80"},
		{Op{Wanted: &rst}, "last-hop listener add tcp 10.0.1.9"},
		{Op{Wanted: &quic, Delete: true}, "last-hop listener del udp [2001:db8::1]:443"},
		{Op{Wanted: &echo, Delete: true}, "last-hop listener del icmp 2001:db8::1"},
	} {
		if got := tt.op.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestOpText(t *testing.T) {
	rule4, rule6 := NewRule(IPv4, 5100, TableMain), NewRule(IPv6, 5100, 20001)
	rule6.From, rule6.Protocol = prefix("2001:db8::/64"), 76
	r4, err4 := ParseRoute(IPv4, "default via 10.0.1.1 dev eth1 table 20123 proto 76 onlink")
	r6, err6 := ParseRoute(IPv6, "unreachable default table 20123 proto 76 metric 4294967295")
	if err4 != nil || err6 != nil {
		t.Fatal(err4, err6)
	}
	group := LinkGroup{"eth1", 76}
	for _, tt := range []struct {
		op   Op
		want string
	}{
		{Op{Rule: &rule4}, "ip rule add pref 5100 from all lookup main"},
		{Op{Rule: &rule6}, "ip -6 rule add pref 5100 from 2001:db8::/64 lookup 20001 protocol 76"},
		{Op{Rule: &rule4, Delete: true}, "ip rule del pref 5100 from all lookup main"},
		{Op{Route: &r4}, "ip route replace default via 10.0.1.1 dev eth1 table 20123 proto 76 onlink"},
		{Op{Route: &r6, Delete: true}, "ip -6 route del unreachable default table 20123 proto 76 metric 4294967295"},
		{Op{Group: &group}, "ip link set dev eth1 group 76"},
		{Op{Group: &group, Delete: true}, "ip link set dev eth1 group 0"},
		{Op{}, "nothing"},
	} {
		if got := tt.op.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	s := State{Routes: []Route{r6, r4}, Rules: []Rule{rule6, rule4},
		Groups: []LinkGroup{{"eth2", 76}, group}}
	want := `ip link set dev eth1 group 76
ip link set dev eth2 group 76
ip route replace default via 10.0.1.1 dev eth1 table 20123 proto 76 onlink
ip -6 route replace unreachable default table 20123 proto 76 metric 4294967295
ip rule add pref 5100 from all lookup main
ip -6 rule add pref 5100 from 2001:db8::/64 lookup 20001 protocol 76
`
	if d := cmp.Diff(want, s.String()); d != "" {
		t.Errorf("State.String(): -want +got\n%s", d)
	}
	if s.Groups[0].Link != "eth2" {
		t.Error("State.String() sorts its receiver")
	}
}

// FuzzParseRule: printed text means the same again, in both forms.
func FuzzParseRule(f *testing.F) {
	for _, tt := range ruleTexts {
		f.Add(tt.text, tt.family == IPv6)
		f.Add(tt.args, tt.family == IPv6)
	}
	f.Fuzz(func(t *testing.T, text string, six bool) {
		want, err := ParseRule(familyIf(six), text)
		if err != nil {
			t.Skip()
		}
		for _, text := range []string{want.String(), want.Args()} {
			got, err := ParseRule(familyIf(six), text)
			if err != nil || got != want {
				t.Errorf("%q is read as %+v, %v, want %+v", text, got, err, want)
			}
		}
	})
}

// FuzzParseRoute: printed text means the same again, except for volatile flags.
func FuzzParseRoute(f *testing.F) {
	for _, tt := range routeTexts {
		f.Add(tt.text, tt.family == IPv6)
	}
	f.Fuzz(func(t *testing.T, text string, six bool) {
		want, err := ParseRoute(familyIf(six), text)
		if err != nil {
			t.Skip()
		}
		got, err := ParseRoute(familyIf(six), want.String())
		if err != nil || !sameRoute(want, got) {
			t.Errorf("%q is read as %+v, %v, want %+v", want, got, err, want)
		}
	})
}

func familyIf(six bool) Family {
	if six {
		return IPv6
	}
	return IPv4
}
