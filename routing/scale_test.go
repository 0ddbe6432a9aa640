package routing

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

// manyUplinks is a host with n uplinks, each with a /20 and a /64, own address
// .0.10 and ::10, router .0.1 and ::1.
func manyUplinks(n int) Host {
	h := Host{Rules: standardRules}
	for i := range n {
		link := fmt.Sprintf("eth%d", i)
		h.Links = append(h.Links, Link{Index: i + 2, Name: link, Up: true, Carrier: true})
		for _, s := range []string{fmt.Sprintf("10.%d.0.10/20", i),
			fmt.Sprintf("2001:db8:%d::10/64", i)} {
			p := netip.MustParsePrefix(s)
			f := FamilyOf(p.Addr())
			metric := uint32(256)
			if f == IPv4 {
				metric = 0
			}
			h.Addrs = append(h.Addrs, Addr{Link: link, Prefix: p})
			h.Routes = append(h.Routes,
				Route{RouteKey: RouteKey{TableLocal,
					netip.PrefixFrom(p.Addr(), f.Bits()), 0},
					Type: Local, Protocol: 2, Scope: ScopeHost,
					Hops: []Hop{{Link: link, Weight: 1}}},
				Route{RouteKey: RouteKey{TableMain, p.Masked(), metric},
					Type: Unicast, Protocol: 2, Scope: ScopeLink, Src: p.Addr(),
					Hops: []Hop{{Link: link, Weight: 1}}},
				Route{RouteKey: RouteKey{TableMain, f.All(), uint32(1024 + i)},
					Type: Unicast, Protocol: 16, Hops: []Hop{{Link: link,
						Via: p.Masked().Addr().Next(), Weight: 1}}})
		}
	}
	return h
}

// listenersIn gives n listeners in the subnets of the uplinks, the own
// addresses among them if own is true.
func listenersIn(h Host, n int, own bool) []Listener {
	var out []Listener
	for i := 0; len(out) < n; i++ {
		a := h.Addrs[i%len(h.Addrs)]
		addr := a.Prefix.Addr()
		if k := i / len(h.Addrs); k > 0 || !own {
			addr = plus(a.Prefix.Masked().Addr(), 0x100+k)
		}
		out = append(out, Listener{Addr: addr, Ports: PortRange{80, 80}, Transport: TCP})
	}
	return out
}

// plus adds to the last 16 bits of an address.
func plus(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	last := int(b[len(b)-2])<<8 + int(b[len(b)-1]) + n
	b[len(b)-2], b[len(b)-1] = byte(last>>8), byte(last)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// planOf returns what is decided for listeners on a host.
func planOf(t testing.TB, h Host, listeners []Listener, p Policy) Plan {
	t.Helper()
	d, err := Decide(Inputs{Host: h, Listeners: listeners, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return d.Plan
}

func countRules(p Plan, f Family) int {
	n := 0
	for _, r := range p.State.Rules {
		if r.Family == f {
			n++
		}
	}
	return n
}

func countPrefixes(p Plan, f Family) int {
	n := 0
	for _, path := range p.Paths {
		if path.Family == f {
			n += len(path.Prefixes)
		}
	}
	return n
}

func TestRulesGrowWithPathsNotWithListeners(t *testing.T) {
	h, policy := manyUplinks(8), Policy{Numbers: DefaultNumbers}
	listeners := listenersIn(h, 20000, true) // 10,000 of each family
	plan := planOf(t, h, listeners, policy)
	for _, f := range Families {
		prefixes, rules := countPrefixes(plan, f), countRules(plan, f)
		t.Logf("%s: %d listeners in 8 subnets: %d cover prefixes, %d rules", f,
			len(listeners)/2, prefixes, rules)
		if want := map[Family]int{IPv4: 16, IPv6: 24}[f]; prefixes != 8 || rules != want {
			t.Errorf("%s: %d cover prefixes and %d rules, want 8 and %d", f,
				prefixes, rules, want)
		}
	}
	installed := With(h, plan.State)
	for _, a := range h.Addrs {
		further := Listener{Addr: plus(a.Prefix.Masked().Addr(), 0xeee),
			Ports: PortRange{443, 443}, Transport: TCP}
		again := planOf(t, installed, append(listeners, further), policy)
		if d := Compare(Owned(installed, policy.Numbers), again.State); !d.Empty() {
			t.Errorf("a further VIP %s changes something: %v", further.Addr, d.Ops())
		}
	}
}

func TestExcludedAddressCost(t *testing.T) {
	h, policy := manyUplinks(8), Policy{Numbers: DefaultNumbers}
	all := planOf(t, h, listenersIn(h, 20000, true), policy)
	some := planOf(t, h, listenersIn(h, 20000, false), policy)
	for _, f := range Families {
		more := countRules(some, f) - countRules(all, f)
		t.Logf("%s: 8 own addresses that are no listeners cost %d rules more", f, more)
		if more <= 0 || more > 8*16 {
			t.Errorf("%s: %d rules more, want 1 to %d", f, more, 8*16)
		}
		for _, r := range some.State.Rules {
			for _, a := range h.Addrs {
				if r.From.Contains(a.Prefix.Addr()) {
					t.Errorf("rule %v covers %s, which is no listener's", r,
						a.Prefix.Addr())
				}
			}
		}
	}
}

// Addresses that a provider routes here, scattered with nothing else between
// them (400 failover addresses of a hoster), are joined into a few covers.
func TestScatteredCost(t *testing.T) {
	h := manyUplinks(2)
	var listeners []Listener
	for i := range 400 {
		p := netip.PrefixFrom(nth(i*i%7919*2).Addr(), 32)
		h.Addrs = append(h.Addrs, Addr{Link: "eth1", Prefix: p})
		listeners = append(listeners,
			Listener{Addr: p.Addr(), Ports: PortRange{80, 80}, Transport: TCP})
	}
	plan := planOf(t, h, listeners, Policy{Numbers: DefaultNumbers})
	n := countRules(plan, IPv4)
	t.Logf("400 scattered addresses: %d rules", n)
	if n == 0 || n > 40 {
		t.Errorf("%d rules, want 1 to 40", n)
	}
}

func BenchmarkDecide10000Listeners(b *testing.B) {
	h := manyUplinks(8)
	listeners := listenersIn(h, 20000, true)
	for b.Loop() {
		planOf(b, h, listeners, Policy{Numbers: DefaultNumbers})
	}
}

// A path whose only listeners are switched off is none.
func TestReturnOffLeavesNoPath(t *testing.T) {
	h := manyUplinks(2)
	l := Listener{Addr: plus(h.Addrs[2].Prefix.Addr(), 5), Ports: PortRange{80, 80},
		Transport: TCP}
	p := planOf(t, h, []Listener{l}, Policy{Numbers: DefaultNumbers,
		Returns: []ReturnPin{{Link: "eth1", Mode: NoReturn}}})
	if len(p.Paths) != 0 || len(p.State.Rules) != 0 || p.Outcomes[0].Status != Off {
		t.Errorf("got %+v", p)
	}
}

// A host with a full routing table is planned like any other.
func BenchmarkDecide100000Routes(b *testing.B) {
	h := manyUplinks(8)
	for i := range 100_000 {
		dst := netip.PrefixFrom(
			netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 0}), 24)
		h.Routes = append(h.Routes, Route{RouteKey: RouteKey{TableMain, dst, 0},
			Type: Unicast, Protocol: 186,
			Hops: []Hop{{Link: "eth0",
				Via:    netip.AddrFrom4([4]byte{10, 0, 0, byte(i%4 + 1)}),
				Weight: 1}}})
	}
	listeners := listenersIn(h, 1000, true)
	for b.Loop() {
		planOf(b, h, listeners, Policy{Numbers: DefaultNumbers})
	}
}

// What is decided grows with uplinks about as fast as they do.
func BenchmarkDecideUplinks(b *testing.B) {
	for _, n := range []int{50, 100, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := manyUplinks(n)
			listeners := listenersIn(h, 2*n, true)
			for b.Loop() {
				planOf(b, h, listeners, Policy{Numbers: DefaultNumbers})
			}
		})
	}
}

// Each of 100 uplinks has a path of both families, and behind all of them stand
// deliberate rules: each path repeats those that its replies can meet.
func BenchmarkDecideForeignRules(b *testing.B) {
	for _, n := range []int{100, 200, 400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := manyUplinks(100)
			for i := range n { // for 70 of them the source is open
				r := NewRule(IPv4, 20000+i, 0)
				r.Action, r.To = RejectBlackhole, nth(i)
				if i >= 70 {
					subnet := h.Addrs[i/4*2].Prefix.Masked().Addr()
					r.From = netip.PrefixFrom(plus(subnet, 0x100+i), 32)
				}
				h.Rules = append(h.Rules, r)
			}
			listeners := listenersIn(h, 400, true)
			for b.Loop() {
				planOf(b, h, listeners, Policy{Numbers: DefaultNumbers})
			}
		})
	}
}

// crowds add one more of a kind to a host, and return its listeners.
var crowds = map[string]func(h *Host, i int) []Listener{
	// foreign rules for the path's own sources, behind the block
	"bans": func(h *Host, i int) []Listener {
		r := NewRule(IPv4, 20000+i, 0)
		r.Action, r.To = RejectBlackhole, nth(i)
		r.From = netip.PrefixFrom(plus(h.Addrs[2].Prefix.Masked().Addr(), 0x100+i), 32)
		h.Rules = append(h.Rules, r)
		return []Listener{{Addr: r.From.Addr(), Ports: PortRange{80, 80}, Transport: TCP}}
	},
	"pods": func(h *Host, i int) []Listener {
		name := fmt.Sprintf("cali%d", i)
		h.Links = append(h.Links, Link{Index: i + 100, Name: name, Kind: "veth", Up: true,
			Carrier: true})
		h.Routes = append(h.Routes, Route{RouteKey: RouteKey{TableMain, nth(i), 0},
			Type: Unicast, Scope: ScopeLink, Hops: []Hop{{Link: name, Weight: 1}}})
		return nil
	},
	"rules": func(h *Host, i int) []Listener {
		r := NewRule(IPv4, 20000+i, uint32(100+i%50))
		r.From = nth(i)
		h.Rules = append(h.Rules, r)
		if i < 50 {
			h.Routes = append(h.Routes, Route{
				RouteKey: RouteKey{r.Table, IPv4.All(), 0}, Type: Unicast,
				Hops: []Hop{{Link: "eth1", Via: h.Addrs[2].Prefix.Addr().Prev(),
					Weight: 1}}})
		}
		return nil
	},
	"scattered": func(h *Host, i int) []Listener {
		p := netip.PrefixFrom(nth(2*i).Addr(), 32)
		h.Addrs = append(h.Addrs, Addr{Link: "eth1", Prefix: p})
		return []Listener{{Addr: p.Addr(), Ports: PortRange{80, 80}, Transport: TCP}}
	},
	"bridges": func(h *Host, i int) []Listener {
		name := fmt.Sprintf("br%d", i)
		h.Links = append(h.Links, Link{Index: i + 100, Name: name, Kind: "bridge", Up: true})
		p := netip.PrefixFrom(nth(16*i).Addr().Next(), 28)
		h.Addrs = append(h.Addrs, Addr{Link: name, Prefix: p})
		return []Listener{{Addr: p.Addr(), Ports: PortRange{80, 80}, Transport: TCP}}
	},
}

// What is decided grows with the rest of the host as with uplinks.
func BenchmarkDecideCrowd(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(crowds)) {
		for _, n := range []int{1000, 2000, 4000} {
			b.Run(fmt.Sprint(name, n), func(b *testing.B) {
				h := manyUplinks(2)
				listeners := listenersIn(h, 4, true)
				for i := range n {
					listeners = append(listeners, crowds[name](&h, i)...)
				}
				for b.Loop() {
					planOf(b, h, listeners, Policy{Numbers: DefaultNumbers})
				}
			})
		}
	}
}

// nth is the n-th address of 172.16.0.0/12.
func nth(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + n>>16), byte(n >> 8), byte(n)}),
		32)
}
