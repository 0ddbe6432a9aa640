package routing

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// decided is a host with two uplinks, one listener on the second, and what was
// decided for it.
func decided(t *testing.T) (Inputs, Decision) {
	t.Helper()
	link := func(name string) Link { return Link{Name: name, Up: true, Carrier: true} }
	route := func(dst, via, dev string) Route {
		r := Route{RouteKey: RouteKey{Table: TableMain, Dst: netip.MustParsePrefix(dst)},
			Type: Unicast, Protocol: protocolBoot, Hops: []Hop{{Link: dev, Weight: 1}}}
		if via != "" {
			r.Hops[0].Via = netip.MustParseAddr(via)
		} else {
			r.Scope, r.Protocol = ScopeLink, protocolKernel
		}
		return r
	}
	second := route("0.0.0.0/0", "10.0.1.1", "eth1")
	second.Metric = 100
	in := Inputs{Host: Host{Links: []Link{link("eth0"), link("eth1")},
		Addrs: []Addr{{Link: "eth0", Prefix: netip.MustParsePrefix("10.0.0.10/24")},
			{Link: "eth1", Prefix: netip.MustParsePrefix("10.0.1.10/24")}},
		Routes: []Route{route("0.0.0.0/0", "10.0.0.1", "eth0"), second,
			route("10.0.0.0/24", "", "eth0"), route("10.0.1.0/24", "", "eth1")},
		Rules: slices.Clone(standardRules)},
		Listeners: []Listener{{Addr: netip.MustParseAddr("10.0.1.10"), Transport: TCP,
			Ports: PortRange{80, 80}}},
		Policy:   Policy{Numbers: DefaultNumbers},
		Warnings: []Finding{{Code: "no-port", Severity: Warning}}}
	d, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Plan.State.Rules) == 0 || !d.Owned.Empty() || d.Diff.Empty() {
		t.Fatalf("nothing was decided: %+v", d)
	}
	return in, d
}

// TestHolds: a decision is for its inputs. Each of them counts.
func TestHolds(t *testing.T) {
	in, d := decided(t)
	if !d.Holds(in) {
		t.Error("it does not hold for its own inputs")
	}
	for name, change := range map[string]func(*Inputs){
		"a listener": func(in *Inputs) {
			in.Listeners = append(slices.Clone(in.Listeners), in.Listeners[0])
		},
		"a bind":    func(in *Inputs) { in.Binds = []Bind{{Transparent: true}} },
		"a warning": func(in *Inputs) { in.Warnings = nil },
		"a pin": func(in *Inputs) {
			in.Policy.Gateways = []GatewayPin{{Link: "eth1", None: true}}
		},
		"the numbers":     func(in *Inputs) { in.Policy.Numbers.Protocol++ },
		"a link":          func(in *Inputs) { in.Host.Links[1].Up = false },
		"a foreign route": func(in *Inputs) { in.Host.Routes[1].Metric = 7 },
		"a next hop": func(in *Inputs) {
			r := &in.Host.Routes[1]
			r.Hops = slices.Clone(r.Hops)
			r.Hops[0].LinkDown = true
		},
		"an address": func(in *Inputs) {
			in.Host.Addrs = slices.Clone(in.Host.Addrs)
			in.Host.Addrs[0].Tentative = true
		},
		"a foreign rule": func(in *Inputs) {
			in.Host.Rules = append(in.Host.Rules, NewRule(IPv4, 7, 7))
		},
		"a sysctl": func(in *Inputs) { in.Host.Sysctls = map[string]string{"a": "b"} },
		"a ruleset": func(in *Inputs) {
			in.Host.Rulesets = []Ruleset{{Family: IPv4, Lookup: "a"}}
		},
		"a part of what lasthop owns": func(in *Inputs) {
			in.Host.Rules = append(in.Host.Rules, d.Plan.State.Rules[0])
		},
	} {
		other, _ := decided(t)
		change(&other)
		if d.Holds(other) {
			t.Errorf("%s has changed, and it still holds", name)
		}
	}
	installed := in
	installed.Host = With(in.Host, d.Plan.State)
	if !d.Holds(installed) {
		t.Error("it does not hold for the host that it made")
	}
}

// TestRenew: a decision that still holds is compared with the host again; any
// other is made again.
func TestRenew(t *testing.T) {
	in, d := decided(t)
	in.Host = With(in.Host, d.Plan.State)
	again, err := d.Renew(in)
	if err != nil || !again.Diff.Empty() || again.Owned.Empty() || !again.Holds(in) {
		t.Errorf("of the host that it made: %v, %+v", err, again.Diff)
	}
	in.Listeners = nil
	if again, err = d.Renew(in); err != nil || len(again.Diff.DelRules) == 0 {
		t.Errorf("without listeners: %v, %+v", err, again.Diff)
	}
	in.Policy.Gateways = []GatewayPin{{Link: "eth1", None: true},
		{Link: "eth1", Addr: netip.MustParseAddr("10.0.1.1")}}
	if _, err = d.Renew(in); err == nil {
		t.Error("a contradiction is no error")
	}
}

// TestPathOf: an outcome returns its path, and nil without one.
func TestPathOf(t *testing.T) {
	_, d := decided(t)
	p := d.Plan.PathOf(d.Plan.Outcomes[0])
	if p == nil || p.Link != "eth1" || p.Hops[0].Via != netip.MustParseAddr("10.0.1.1") {
		t.Errorf("got %+v", p)
	}
	if p := d.Plan.PathOf(Outcome{}); p != nil {
		t.Errorf("of no outcome: %+v", p)
	}
}

// tablesOf are the tables that rules lead the replies of prefixes to.
func tablesOf(s State) map[netip.Prefix]uint32 {
	out := map[netip.Prefix]uint32{}
	for _, r := range s.Rules {
		if DefaultNumbers.OwnsTable(r.Table) {
			out[r.From] = r.Table
		}
	}
	return out
}

// renewed are routes where main's default by eth0 has another gateway.
func renewed(routes []Route) []Route {
	routes = slices.Clone(routes)
	for i, r := range routes {
		if r.Table == TableMain && r.isDefaultBy("eth0", IPv4) {
			routes[i].Hops = []Hop{{Link: "eth0", Weight: 1,
				Via: netip.MustParseAddr("10.0.0.5")}}
		}
	}
	return routes
}

// TestTablesStay: the gateway of a link with two paths changes, and each keeps
// its table. In the other's its replies would take the other's routes, as long
// as the old rules are there.
func TestTablesStay(t *testing.T) {
	in, _ := decided(t)
	vip := netip.MustParseAddr("203.0.113.200")
	in.Host.Addrs = append(in.Host.Addrs, Addr{Link: "eth0", Prefix: netip.PrefixFrom(vip, 32)})
	for _, a := range []netip.Addr{vip, netip.MustParseAddr("10.0.0.10")} {
		in.Listeners = append(slices.Clone(in.Listeners), Listener{Addr: a, Transport: TCP,
			Ports: PortRange{80, 80}})
	}
	before, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Host = With(in.Host, before.Plan.State)
	in.Host.Routes = renewed(in.Host.Routes)
	after, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	want := tablesOf(before.Plan.State)
	if got := tablesOf(after.Plan.State); len(want) != 3 || !maps.Equal(got, want) {
		t.Errorf("tables %v, then %v", want, got)
	}
}

// TestSpare: a path that no listener needs any more follows the host while it
// is kept: its gateway, and other programs' bans.
func TestSpare(t *testing.T) {
	in, _ := decided(t)
	in.Listeners[0].Addr = netip.MustParseAddr("10.0.0.10")
	plain := in.Host // eth1 is no uplink here, else its LAN alone makes the path needed
	plain.Routes = slices.DeleteFunc(slices.Clone(plain.Routes),
		func(r Route) bool { return r.isDefaultBy("eth1", IPv4) })
	vpn, err := ParseRule(IPv4, "30000: from all lookup 51820")
	if err != nil {
		t.Fatal(err)
	}
	away := plain.Routes[0]
	away.Table, away.Hops = 51820, []Hop{{Link: "eth1", Weight: 1}}
	in.Host.Rules = append(slices.Clone(plain.Rules), vpn)
	in.Host.Routes = append(slices.Clone(plain.Routes), away)
	busy, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	ban, err := ParseRule(IPv4, "30001: from all to 198.51.100.66 blackhole")
	if err != nil {
		t.Fatal(err)
	}
	in.Host = With(plain, busy.Plan.State)
	in.Host.Rules = append(slices.Clone(in.Host.Rules), ban)
	in.Host.Routes = renewed(in.Host.Routes)
	idle, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	lan := netip.MustParsePrefix("10.0.0.0/24")
	table := tablesOf(busy.Plan.State)[lan]
	if _, needed := tablesOf(idle.Plan.State)[lan]; table == 0 || needed {
		t.Fatalf("table %d with a VPN, needed without: %t", table, needed)
	}
	spare := idle.Spare("eth0", IPv4)
	for _, want := range []string{fmt.Sprintf("default via 10.0.0.5 dev eth0 table %d", table),
		"from 10.0.0.0/24 to 198.51.100.66 iif lo blackhole"} {
		if !strings.Contains(spare.String(), want) {
			t.Errorf("no %q in\n%s", want, spare)
		}
	}
	if got := busy.Spare("eth0", IPv4); len(got.Rules) > 0 {
		t.Errorf("a needed path is spare:\n%s", got)
	}
}
