package routing_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// manyKinds is twoUplinks with a client of every kind.
const manyKinds = twoUplinks + `
	addr add 10.0.1.100/24 dev eth1
	route add 10.50.0.0/16 via 10.0.0.7 dev eth0
	route add 10.51.0.0/16 via 10.0.0.7 dev eth0
	route add 128.0.0.0/1 via 10.0.0.2 dev eth0
	route add prohibit 198.51.100.64/26
	rule add pref 6000 to 203.0.113.0/24 lookup 300
`

// TestExplainClients holds that each kind of client is there, in order, and
// that those whose replies leave alike stand together.
func TestExplainClients(t *testing.T) {
	h := parseHost(t, manyKinds)
	plan := planOf(t, h, listenOn("10.0.1.100"), nil, plain)
	e := routing.NewExplainer(h, plain, plan.State)
	var got []string
	for _, x := range e.ToAll(netip.MustParseAddr("10.0.1.100")) {
		var clients []string
		for _, c := range x.Clients {
			clients = append(clients, fmt.Sprintf("%s %s (%s)", c.Class, c.Addr, c.Of))
		}
		got = append(got, fmt.Sprintf("%s: %s -> %s", strings.Join(clients, ", "),
			x.Now.Way, x.After.Way))
	}
	want := []string{
		"off-link 198.51.100.1 (), off-link 128.0.0.50 (128.0.0.0/1 via 10.0.0.2 dev eth0): eth0 via 10.0.0.2 -> eth1 via 10.0.1.1",
		"on-link 10.0.1.50 (10.0.1.0/24 dev eth1): eth1, on-link -> eth1, on-link",
		"other LAN 10.0.0.50 (10.0.0.0/24 dev eth0): eth0, on-link -> eth1 via 10.0.1.1",
		"static route 10.50.0.50 (10.50.0.0/16 via 10.0.0.7 dev eth0), static route 10.51.0.50 (10.51.0.0/16 via 10.0.0.7 dev eth0): eth0 via 10.0.0.7 -> eth1 via 10.0.1.1",
		"host-local 172.17.0.50 (172.17.0.0/16 dev docker0): docker0, on-link -> docker0, on-link",
		"banned 198.51.100.65 (prohibit 198.51.100.64/26): prohibit -> prohibit",
		"rule 203.0.113.50 (to 203.0.113.0/24): eth0 via 10.0.0.2 -> eth1 via 10.0.1.1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	for client, class := range map[string]routing.Class{"8.8.8.8": routing.ClassOffLink,
		"198.51.100.1": routing.ClassOffLink, "10.0.1.7": routing.ClassOnLink,
		"10.0.0.7": routing.ClassOtherLAN, "10.50.3.4": routing.ClassStatic, "172.17.9.9": routing.ClassHostLocal, "198.51.100.66": routing.ClassBanned,
		"10.0.0.10": routing.ClassSelf} {
		list := e.To(netip.MustParseAddr("10.0.1.100"), netip.MustParseAddr(client))
		if len(list) != 1 || len(list[0].Clients) != 1 ||
			list[0].Clients[0].Class != class ||
			list[0].Clients[0].Addr.String() != client {
			t.Errorf("--from %s: %v, want one that is %s", client, list, class)
		}
	}
}

// TestExplainInPlace holds that nothing changes where the plan is carried out
// already.
func TestExplainInPlace(t *testing.T) {
	h := parseHost(t, manyKinds)
	plan := planOf(t, h, listenOn("10.0.1.100"), nil, plain)
	addr := netip.MustParseAddr("10.0.1.100")
	for _, x := range routing.NewExplainer(routing.With(h, plan.State), plain,
		plan.State).ToAll(addr) {
		if !x.Same() {
			t.Errorf("%v: not the same: %s -> %s", x.Clients, x.Now.Way, x.After.Way)
		}
	}
	for _, x := range routing.NewExplainer(h, plain, plan.State).ToAll(addr) {
		if x.Same() {
			t.Errorf("%v: the same: %s", x.Clients, x.Now.Way)
		}
	}
}

// TestWhy pins the words for each effect.
func TestWhy(t *testing.T) {
	const host = twoUplinks + `
	link set eth0 group 5
	route add throw 203.0.113.0/24 table 300
	route add unreachable 198.18.0.0/15 table 300
	route add default via 10.0.1.9 dev eth1 table 301 metric 7 mtu 1400
`
	for _, tt := range []struct {
		rule, dst    string
		want, effect string
	}{
		{"from 10.9.0.0/16 lookup 300", "8.8.8.8", "it is from 10.0.0.10", "not-matched"},
		{"to 10.9.0.0/16 lookup 300", "8.8.8.8", "it is to 8.8.8.8", "not-matched"},
		{"iif eth0 lookup 300", "8.8.8.8", "it is iif lo", "not-matched"},
		{"oif eth0 lookup 300", "8.8.8.8", "it has no oif", "not-matched"},
		{"fwmark 0x10/0xff lookup 300", "8.8.8.8", "it has mark 0x0", "not-matched"},
		{"not from 10.0.0.0/24 lookup 300", "8.8.8.8", "it matches, inverted", "not-matched"},
		{"ipproto tcp lookup 300", "8.8.8.8", "not modelled", "not-matched"},
		{"realms 1/2 lookup 300", "8.8.8.8", "no route", "no-route"},
		{"lookup 300", "8.8.8.8", "no route", "no-route"},
		{"lookup 300", "203.0.113.9", "throw 203.0.113.0/24: back to the rules", "throw"},
		{"lookup 300", "198.18.0.1", "unreachable 198.18.0.0/15", "rejected"},
		{"lookup 301", "8.8.8.8", "default via 10.0.1.9 dev eth1 metric 7 mtu 1400", "answered"},
		{"lookup main suppress_prefixlength 0", "8.8.8.8", "default via 10.0.0.1 dev eth0: suppressed, /0 is not longer than /0", "suppressed"},
		{"lookup main suppress_ifgroup 5", "8.8.8.8", "default via 10.0.0.1 dev eth0: suppressed, eth0 is in link group 5", "suppressed"},
		{"goto 32766", "8.8.8.8", "on to 32766", "goto"},
		{"goto 9999", "8.8.8.8", "no such rule", "no-target"},
		{"nop", "8.8.8.8", "does nothing", "nop"},
		{"prohibit", "8.8.8.8", "prohibit", "rejected"},
	} {
		trace := routing.Lookup(parseHost(t, host+"\trule add pref 100 "+tt.rule),
			routing.Query{Src: netip.MustParseAddr("10.0.0.10"),
				Dst: netip.MustParseAddr(tt.dst)})
		step := trace.Steps[1]
		if got := step.Why(trace.Query); got != tt.want ||
			string(step.Effect) != tt.effect {
			t.Errorf("%s, to %s: %s, %q, want %s, %q", tt.rule, tt.dst, step.Effect,
				got, tt.effect, tt.want)
		}
		if unknown := trace.NotModelled() != nil; unknown != strings.Contains(tt.rule,
			"ipproto") {
			t.Errorf("%s: not modelled: %t", tt.rule, unknown)
		}
	}
}

// TestEnds pins where a lookup may end if the kernel chooses by a hash, and
// what it does for a socket bound to a device.
func TestEnds(t *testing.T) {
	const host = twoUplinks + `
	addr add 2001:db8::10/64 dev eth0
	addr add 2001:db8:1::10/64 dev eth1
	link set eth0 group 5
	-6 route add default nexthop via 2001:db8::1 dev eth0 nexthop via 2001:db8:1::1 dev eth1
	-6 rule add pref 100 lookup main suppress_ifgroup 5
`
	for _, tt := range []struct {
		name, more, dst, oif string
		want                 []string
		choice               string
	}{
		{"flows go on to main", "", "2001:db8:9::9", "", []string{"eth1 via 2001:db8:1::1", "eth0 via 2001:db8::1"}, "by a hash of the flow"},
		{"flows go on to a rule that rejects", "-6 rule add pref 101 prohibit\n", "2001:db8:9::9", "", []string{"eth1 via 2001:db8:1::1", "prohibit"}, "by a hash of the flow"},
		{"flows find nothing", "-6 rule del pref 32766 lookup main\n", "2001:db8:9::9", "", []string{"eth1 via 2001:db8:1::1", "no route"}, "by a hash of the flow"},
		{"bound to the device of the group", "", "2001:db8:9::9", "eth0", []string{"eth0 via 2001:db8::1"}, ""},
		{"a rule rejects", "rule add pref 100 prohibit\n", "8.8.8.8", "", []string{"prohibit"}, ""},
		{"a rule rejects, and IPv4 takes the client to be on-link", "rule add pref 100 prohibit\n", "8.8.8.8", "eth1", []string{"eth1, on-link"}, ""},
		{"defaults of one metric", "route append default via 10.0.1.9 dev eth1\n", "8.8.8.8", "", []string{"eth0 via 10.0.0.1", "eth1 via 10.0.1.9"},
			"by what is known of the gateways as neighbours"},
		{"so for a blackhole", "route add blackhole 8.8.8.0/24\n", "8.8.8.8", "eth1", []string{"eth1, on-link"}, ""},
	} {
		trace := routing.Lookup(parseHost(t, host+tt.more),
			routing.Query{Dst: netip.MustParseAddr(tt.dst), OIF: tt.oif})
		var got []string
		for _, w := range trace.Ends {
			got = append(got, w.String())
			if w.Type != routing.Unreachable && !trace.Agrees(w) {
				t.Errorf("%s: does not allow %s", tt.name, w)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
		if got := trace.Choice(); got != tt.choice {
			t.Errorf("%s: chosen %q, want %q", tt.name, got, tt.choice)
		}
		if other := (routing.Way{Type: routing.Unicast, Table: routing.TableMain,
			Link: "eth9"}); trace.Agrees(other) {
			t.Errorf("%s: allows %s", tt.name, other)
		}
	}
}
