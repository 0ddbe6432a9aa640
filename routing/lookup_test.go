package routing

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// sourceWorld is a host with random rules and one source-specific route, and
// random sources, some of them at the edge of a prefix.
func sourceWorld(seed uint64, rules, sources int) (Host, []netip.Addr) {
	r := rand.New(rand.NewPCG(seed, 0))
	address := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)),
				byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(r.IntN(256)),
			6: byte(r.IntN(4))})
	}
	var h Host
	for i := range rules {
		a := address()
		rule := NewRule(FamilyOf(a), i, 7)
		if r.IntN(8) > 0 {
			rule.From = netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
		}
		h.Rules = append(h.Rules, rule)
	}
	h.Routes = []Route{{RouteKey: RouteKey{TableMain, IPv6.All(), 1024}, Type: Unicast,
		Hops: []Hop{{Link: "eth0", Weight: 1}}, Opaque: "from 2001:db8:0:200::/56"}}
	var out []netip.Addr
	for range sources {
		out = append(out, address())
	}
	for _, rule := range h.Rules {
		if rule.From.IsValid() {
			out = append(out, rule.From.Addr())
		}
	}
	return h, out
}

// TestClasses holds the classes of random sources against all pairs: two are of
// one class if every rule and the source-specific route hold both or neither.
func TestClasses(t *testing.T) {
	for seed := range uint64(50) {
		h, sources := sourceWorld(seed, 12, 60)
		froms := []netip.Prefix{netip.MustParsePrefix("2001:db8:0:200::/56")}
		for _, rule := range h.Rules {
			froms = append(froms, rule.From)
		}
		got := NewFIB(h).Classes(sources)
		for _, a := range sources {
			first := slices.IndexFunc(sources, func(b netip.Addr) bool {
				return FamilyOf(a) == FamilyOf(b) && !slices.ContainsFunc(froms,
					func(p netip.Prefix) bool {
						return p.Contains(a) != p.Contains(b)
					})
			})
			if got[a] != sources[first] {
				t.Fatalf("seed %d: %s is of the class of %s, want %s",
					seed, a, got[a], sources[first])
			}
		}
	}
}

// BenchmarkClasses: the cost grows with the sources and not with the rules.
func BenchmarkClasses(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		h, sources := sourceWorld(1, n, 10*n)
		f := NewFIB(h)
		b.Run(fmt.Sprintf("%d rules", n), func(b *testing.B) {
			for b.Loop() {
				f.Classes(sources)
			}
		})
	}
}

// TestFIBWith holds the index of a host with a state put in, which shares what
// does not differ, against one that is made of both; and the host's own does
// not change by it. The state has routes for a table of the host, too.
func TestFIBWith(t *testing.T) {
	for seed := range uint64(50) {
		h, sources := sourceWorld(seed, 12, 30)
		r := rand.New(rand.NewPCG(seed, 1))
		route := func(table uint32, metric int) Route {
			dst := netip.PrefixFrom(sources[r.IntN(len(sources))], 24).Masked()
			return Route{RouteKey: RouteKey{table, dst, uint32(metric)}, Type: Unicast,
				Hops: []Hop{{Link: fmt.Sprint("eth", r.IntN(9)), Weight: 1}}}
		}
		var s State
		for i := range 40 {
			h.Routes = append(h.Routes, route(7, 9-i))
			s.Routes = append(s.Routes, route(7+uint32(i%2), 5-i))
		}
		s.Rules = []Rule{NewRule(IPv4, 20, 8), NewRule(IPv6, 20, 8)}
		base, alone, both := NewFIB(h), NewFIB(h), NewFIB(With(h, s))
		with := base.with(h, s)
		for _, src := range sources {
			for _, dst := range sources {
				q := Query{Src: src, Dst: dst}
				if FamilyOf(src) != FamilyOf(dst) {
					continue
				}
				if got, want := with.Way(q), both.Way(q); got != want {
					t.Fatalf("seed %d: %v goes %s, want %s", seed, q, got, want)
				}
				if got, want := base.Way(q), alone.Way(q); got != want {
					t.Fatalf("seed %d: without, %v goes %s, want %s", seed, q,
						got, want)
				}
			}
		}
	}
}
