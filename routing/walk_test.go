package routing

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var walkSeed = flag.Uint64("walk-seed", 1, "seed of TestRandomWalk")

// fakeKernel holds what a kernel would; it prints as the commands that make it.
type fakeKernel struct {
	routes map[RouteKey]Route
	rules  map[Rule]bool
	groups map[string]int
	fail   func(Op) bool
	after  func(Op)
}

var errInjected = errors.New("injected")

func newFakeKernel() *fakeKernel {
	return &fakeKernel{routes: map[RouteKey]Route{}, rules: map[Rule]bool{},
		groups: map[string]int{},
		fail:   func(Op) bool { return false }, after: func(Op) {}}
}

// do is what host.Kernel.Do does: adding what is there and deleting what is not
// there succeed.
func (k *fakeKernel) do(op Op) error {
	if k.fail(op) {
		return errInjected
	}
	switch {
	case op.Route != nil && op.Delete:
		delete(k.routes, op.Route.RouteKey)
	case op.Route != nil:
		k.routes[op.Route.RouteKey] = *op.Route
	case op.Rule != nil && op.Delete:
		delete(k.rules, *op.Rule)
	case op.Rule != nil:
		k.rules[*op.Rule] = true
	case op.Delete:
		k.groups[op.Group.Link] = 0
	default:
		k.groups[op.Group.Link] = op.Group.Group
	}
	k.after(op)
	return nil
}

func (k *fakeKernel) host() Host {
	h := Host{Grouped: []LinkGroup{{"eth8", DefaultNumbers.Group}}}
	for _, link := range slices.Sorted(maps.Keys(k.groups)) {
		h.Links = append(h.Links,
			Link{Name: link, Group: k.groups[link], Up: true, Carrier: true})
	}
	h.Routes = slices.Collect(maps.Values(k.routes))
	h.Rules = slices.Collect(maps.Keys(k.rules))
	return h
}

func (k *fakeKernel) String() string {
	h := k.host()
	s := State{Routes: h.Routes, Rules: h.Rules}
	for _, l := range h.Links {
		if l.Group != 0 {
			s.Groups = append(s.Groups, LinkGroup{l.Name, l.Group})
		}
	}
	return s.String()
}

// walker makes random states of the shape that Build gives: per path a table
// with a default, two rules per prefix.
type walker struct {
	*rand.Rand
	n Numbers
}

func (w walker) state() State {
	var s State
	base := w.n.Base - w.IntN(3)*200
	for link := range 4 {
		if w.IntN(3) == 0 {
			continue
		}
		name := fmt.Sprint("eth", link)
		s.Groups = append(s.Groups, LinkGroup{name, w.n.Group})
		// a path may move to another table
		table := w.n.TableFirst + uint32(link+4*w.IntN(2))
		for _, f := range Families {
			if w.IntN(4) > 0 {
				w.path(&s, f, name, link, table, base)
			}
		}
	}
	s.Sort()
	return s
}

func (w walker) path(s *State, f Family, link string, number int, table uint32, base int) {
	route := func(dst netip.Prefix, t RouteType, metric uint32, hops ...Hop) {
		s.Routes = append(s.Routes, Route{RouteKey: RouteKey{table, dst, metric}, Type: t,
			Protocol: w.n.Protocol, Hops: hops})
	}
	net := w.prefix(f, number)
	gateway := net.Addr().Next()
	if w.IntN(2) == 0 {
		gateway = gateway.Next()
	}
	metric := metricOf(f) + uint32(w.IntN(2))
	route(f.All(), Unicast, metric, Hop{Link: link, Via: gateway, Weight: 1, OnLink: true})
	if w.IntN(2) == 0 {
		route(net, Unicast, metricOf(f), Hop{Link: link, Weight: 1})
	}
	if w.IntN(3) == 0 {
		route(f.All(), Unreachable, 1<<32-1)
	}
	for _, p := range w.cover(net) {
		second, third := NewRule(f, base+1, TableMain), NewRule(f, base+2, table)
		second.From, second.IIF, second.Protocol, second.SuppressPrefix,
			second.SuppressGroup = p, "lo", w.n.Protocol, 7, w.n.Group
		third.From, third.IIF, third.Protocol = p, "lo", w.n.Protocol
		s.Rules = append(s.Rules, second, third)
	}
}

func (w walker) prefix(f Family, number int) netip.Prefix {
	if f == IPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(number), 0}), 24)
	}
	return netip.PrefixFrom(
		netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 0, 5: byte(number)}), 64)
}

// cover is the whole prefix, its two halves, or one half.
func (w walker) cover(p netip.Prefix) []netip.Prefix {
	b := p.Addr().AsSlice()
	b[p.Bits()/8] |= 0x80
	high, _ := netip.AddrFromSlice(b)
	halves := []netip.Prefix{netip.PrefixFrom(p.Addr(), p.Bits()+1),
		netip.PrefixFrom(high, p.Bits()+1)}
	return [][]netip.Prefix{{p}, halves, halves[1:]}[w.IntN(3)]
}

// probes are one address in each half of each prefix.
func (w walker) probes() []netip.Addr {
	var out []netip.Addr
	for _, f := range Families {
		for link := range 4 {
			p := w.prefix(f, link)
			b := p.Addr().AsSlice()
			b[len(b)-1] = 9
			low, _ := netip.AddrFromSlice(b)
			b[p.Bits()/8] |= 0x80
			high, _ := netip.AddrFromSlice(b)
			out = append(out, low, high)
		}
	}
	return out
}

// onPath reports whether replies from the address take a table of lasthop that
// has a way out.
func onPath(h Host, n Numbers, from netip.Addr) bool {
	for _, r := range h.Rules {
		if r.Family == FamilyOf(from) && n.OwnsTable(r.Table) && r.From.Contains(from) &&
			hasDefault(h.Routes, r.Table, r.Family) {
			return true
		}
	}
	return false
}

func hasDefault(routes []Route, table uint32, f Family) bool {
	return slices.ContainsFunc(routes, func(r Route) bool {
		return r.Table == table && r.Family() == f && r.IsDefault() && r.Type == Unicast
	})
}

func hostOf(s State) Host { return Host{Routes: s.Routes, Rules: s.Rules} }

// foreign adds foreign objects: same numbers, other protocol, and the other way
// round.
func (w walker) foreign(k *fakeKernel) State {
	var s State
	a := NewRule(IPv4, w.n.Base, TableMain)
	a.Protocol = 18
	b := NewRule(IPv4, 32000, TableMain)
	b.Protocol = w.n.Protocol // lasthop's protocol, but not its range of priorities
	s.Rules = append(s.Rules, a, b)
	s.Routes = append(s.Routes,
		Route{RouteKey: RouteKey{w.n.TableFirst, netip.MustParsePrefix("10.99.0.0/16"), 0},
			Type: Blackhole, Protocol: 4},
		Route{RouteKey: RouteKey{100, netip.MustParsePrefix("0.0.0.0/0"), 0},
			Type: Blackhole, Protocol: w.n.Protocol})
	for _, r := range s.Rules {
		k.rules[r] = true
	}
	for _, r := range s.Routes {
		k.routes[r.RouteKey] = r
	}
	k.groups["eth8"], k.groups["eth9"] = w.n.Group, 5
	s.Groups = append(s.Groups, LinkGroup{"eth8", w.n.Group}, LinkGroup{"eth9", 5})
	return s
}

// TestRandomWalk goes from any state to any state. After every write no rule
// points to a table of lasthop without a default route. An address whose
// replies take lasthop's tables before and after takes them all the time. A
// third of the walks meet failures: then the wanted objects that were there are
// still there, and the next sync without failures fixes it.
func TestRandomWalk(t *testing.T) {
	w := walker{rand.New(rand.NewPCG(*walkSeed, 0)), DefaultNumbers}
	t.Logf("-walk-seed %d", *walkSeed)
	writes, failures := 0, 0
	for range 120 {
		k := newFakeKernel()
		foreign := w.foreign(k)
		failing := w.IntN(3) == 0
		for range 6 {
			have, want := Owned(k.host(), w.n), w.state()
			k.fail = func(Op) bool { return failing && w.IntN(6) == 0 }
			var trail []string
			k.after = func(op Op) {
				writes++
				trail = append(trail, op.String())
				w.checkStep(t, k, have, want, trail)
			}
			done, err := Execute(Compare(have, want), k.do)
			if len(done) != len(trail) {
				t.Fatalf("Execute says %d writes were made, %d were",
					len(done), len(trail))
			}
			if err != nil {
				failures++
				if !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				w.checkKept(t, k, have, want, trail)
				k.fail = func(Op) bool { return false }
				if _, err := Execute(Compare(Owned(k.host(), w.n), want),
					k.do); err != nil {
					t.Fatal(err)
				}
			}
			w.checkEnd(t, k, want, foreign)
		}
	}
	t.Logf("%d writes, %d syncs with failures", writes, failures)
	if writes < 10000 || failures < 100 {
		t.Errorf("the walk is too short: %d writes, %d failures", writes, failures)
	}
}

func (w walker) checkStep(t *testing.T, k *fakeKernel, have, want State, trail []string) {
	h := k.host()
	for _, r := range h.Rules {
		if w.n.OwnsTable(r.Table) && !hasDefault(h.Routes, r.Table, r.Family) {
			t.Fatalf("rule %s points to a table without default after\n%s", r,
				strings.Join(trail, "\n"))
		}
	}
	for _, a := range w.probes() {
		if onPath(hostOf(have), w.n, a) && onPath(hostOf(want), w.n, a) &&
			!onPath(h, w.n, a) {
			t.Fatalf("replies from %s leave lasthop's tables for a moment after\n%s", a,
				strings.Join(trail, "\n"))
		}
	}
}

// checkKept looks for objects that were there, are wanted, and were deleted
// nevertheless.
func (w walker) checkKept(t *testing.T, k *fakeKernel, have, want State, trail []string) {
	for _, r := range want.Rules {
		if slices.Contains(have.Rules, r) && !k.rules[r] {
			t.Fatalf("rule %s is wanted, was there and is gone after\n%s", r,
				strings.Join(trail, "\n"))
		}
	}
	wanted := routesByKey(want.Routes)
	for _, r := range have.Routes {
		if _, ok := wanted[r.RouteKey]; ok && k.routes[r.RouteKey].Dst != r.Dst {
			t.Fatalf("route %s is wanted, was there and is gone after\n%s", r,
				strings.Join(trail, "\n"))
		}
	}
	for _, g := range want.Groups {
		if slices.Contains(have.Groups, g) && k.groups[g.Link] != g.Group {
			t.Fatalf("%s is wanted, was there and is gone after\n%s", g,
				strings.Join(trail, "\n"))
		}
	}
}

func (w walker) checkEnd(t *testing.T, k *fakeKernel, want, foreign State) {
	if got := Owned(k.host(), w.n); got.String() != want.String() {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	if d := Compare(Owned(k.host(), w.n), want); !d.Empty() {
		t.Fatalf("a second sync is not empty: %+v", d)
	}
	all := State{Routes: slices.Concat(want.Routes, foreign.Routes),
		Rules:  slices.Concat(want.Rules, foreign.Rules),
		Groups: slices.Concat(want.Groups, foreign.Groups)}
	if k.String() != all.String() {
		t.Fatalf("foreign objects changed: got\n%s\nwant\n%s", k, all)
	}
}
