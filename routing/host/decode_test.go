package host

import (
	"fmt"
	"strings"
	"testing"

	"lasthop/routing"
)

// FuzzDecode: no bytes make it panic, and a rule that is written and read again
// is the same.
func FuzzDecode(f *testing.F) {
	n := names{links: map[int]string{1: "a", 2: "b"}, hops: map[uint32][]routing.Hop{}}
	f.Add(encodeRule(routing.NewRule(routing.IPv6, 100, 1000)))
	f.Add(encodeRouteKey(routing.Route{RouteKey: routing.RouteKey{Table: 1000,
		Dst: routing.IPv4.All(), Metric: 7},
		Type: routing.Unicast}))
	hops := []routing.Hop{{Link: "a", Weight: 1}, {Link: "b", Weight: 2}}
	route, err := encodeRoute(routing.Route{RouteKey: routing.RouteKey{Table: 1000,
		Dst: routing.IPv6.All()},
		Type: routing.Unicast, Hops: hops, MTU: 1400},
		map[string]int{"a": 1, "b": 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(route)
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeNextHop(b, n)
		if h, _, err := split[diagMessage](b); err == nil {
			h.session()
		}
		decodeNFTRule(b)
		decodeRoute(b, n)
		r, err := decodeRule(b)
		if err != nil || r.Opaque != "" || strings.ContainsRune(r.IIF+r.OIF, 0) {
			return
		}
		again, err := decodeRule(encodeRule(r))
		if err != nil {
			t.Fatal(err)
		}
		if again != canonical(r) {
			t.Errorf("got %+v, want %+v", again, canonical(r))
		}
	})
}

// canonical is a rule as the kernel sends it: no prefix without length, no
// table 0 next to one, goto with only its target.
func canonical(r routing.Rule) routing.Rule {
	if r.Action != routing.Goto {
		r.Goto = 0
	}
	return r
}

// BenchmarkRead reads a host with 10,000 routes in another table and 1,000
// rules.
func BenchmarkRead(b *testing.B) {
	ns, k := open(b, uplinks)
	var routes, rules strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&routes, "route add 172.%d.%d.0/24 via 10.0.0.1 table 500\n",
			16+i/256, i%256)
	}
	for i := range 1000 {
		fmt.Fprintf(&rules, "rule add pref 9000 from 172.16.%d.%d lookup 500\n",
			i/256, i%256)
	}
	ns.Batch(routes.String())
	ns.Batch(rules.String())
	for b.Loop() {
		if _, err := k.Read(); err != nil {
			b.Fatal(err)
		}
	}
}
