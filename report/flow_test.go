package report

import (
	"net/netip"
	"strings"
	"testing"

	"lasthop/routing"
)

// TestFlowAnswer: the programs answer only where the kernel's route has one,
// and a dead hop's flows go to what stands in, or by the route.
func TestFlowAnswer(t *testing.T) {
	way := func(lastHop bool) routing.Way {
		return routing.Way{Type: routing.Unicast, Link: "eth0", LastHop: lastHop,
			Via: netip.MustParseAddr("10.0.0.1")}
	}
	hop := Hop{Link: "eth1", MAC: "02:00:00:00:00:01", State: HopAlive,
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.1")}}
	dead, replaced := hop, hop
	dead.State, replaced.State, replaced.StandIn = HopDead, HopDead, "02:00:00:00:00:02"
	const name = "eth1 02:00:00:00:00:01 (10.0.1.1)"
	for _, tt := range []struct {
		flow  Flow
		want  Answer
		words string
	}{
		{Flow{Map: "connections", Hop: hop, Way: way(true)}, ByHop, name},
		{Flow{Map: "handshakes", Hop: hop, Way: way(true), Opening: true}, ByHop, name + ", the SYN-ACK alone"},
		{Flow{Map: "datagrams", Hop: replaced, Way: way(true)}, ByStandIn, name + " is dead: 02:00:00:00:00:02 answers in its place"},
		{Flow{Map: "connections", Hop: dead, Way: way(true)}, ByRoute, name + " is dead: the route, eth0 via 10.0.0.1"},
		{Flow{Map: "connections", Hop: hop, Way: way(false)}, ByRoute, name + " is known, but the route has no program: eth0 via 10.0.0.1"},
		{Flow{Map: "connections", Hop: replaced, Way: way(false)}, ByRoute, name + " is known, but the route has no program: eth0 via 10.0.0.1"},
		{Flow{Way: way(true)}, ByRoute, "no entry: the route, eth0 via 10.0.0.1"},
		{Flow{}, ByRoute, "no entry: the route, no route"},
	} {
		words, _ := tt.flow.fate()
		if got := tt.flow.Answer(); got != tt.want || words != tt.words {
			t.Errorf("%+v:\n%s, %q, want\n%s, %q", tt.flow, got, words, tt.want,
				tt.words)
		}
	}
	text := textOf(t, Flows{Client: netip.MustParseAddr("198.51.100.2"), More: 7,
		Flows: []Flow{{Map: "datagrams", Transport: routing.ICMP, Hop: hop, Way: way(true),
			Remote: netip.MustParseAddrPort("198.51.100.2:77"),
			Local:  netip.MustParseAddrPort("10.0.1.10:0")}}}, Style{Width: 120})
	for _, want := range []string{"Connections of 198.51.100.2 (8)\n", "… and 7 more\n",
		"  icmp   77           10.0.1.10  datagrams  " + name + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}
