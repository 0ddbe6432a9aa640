package routing_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
	"lasthop/routing/sim"
)

// twoUplinks is a host whose second uplink needs a path, with a bridge whose
// clients main alone knows.
const twoUplinks = `
	link add eth0 type veth
	link add eth1 type veth
	link add docker0 type bridge
	link set eth0 up
	link set eth1 up
	link set docker0 up
	addr add 10.0.0.10/24 dev eth0
	addr add 10.0.1.10/24 dev eth1
	addr add 172.17.0.1/16 dev docker0
	route add default via 10.0.0.1 dev eth0
	route add default via 10.0.1.1 dev eth1 metric 200
`

// wgQuick are the rules of wg-quick, which move lasthop's block.
const wgQuick = `
	link add wg0 type wireguard
	link set wg0 up
	route add default dev wg0 table 51820
	rule add not fwmark 0xca6c lookup 51820 pref 50
`

var plain = routing.Policy{Numbers: routing.DefaultNumbers}

func parseHost(t *testing.T, lines string) routing.Host {
	t.Helper()
	s, err := sim.Parse(lines)
	if err != nil {
		t.Fatal(err)
	}
	return s.Host
}

func listenOn(addrs ...string) []routing.Listener {
	var out []routing.Listener
	for _, a := range addrs {
		out = append(out, routing.Listener{Addr: netip.MustParseAddr(a),
			Ports:     routing.PortRange{First: 80, Last: 80},
			Transport: routing.TCP, Listen: a})
	}
	return out
}

// planOf returns what is decided for listeners on a host.
func planOf(t *testing.T, h routing.Host, listeners []routing.Listener, binds []routing.Bind,
	p routing.Policy) routing.Plan {
	t.Helper()
	d, err := routing.Decide(routing.Inputs{Host: h, Listeners: listeners, Binds: binds,
		Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return d.Plan
}

// carryOut goes from a state to another on a host. look sees the host after
// each write; a write that fail names fails.
func carryOut(h routing.Host, have, want routing.State, fail func(routing.Op) bool,
	look func(routing.Host, routing.Op)) {
	now := routing.State{Routes: slices.Clone(have.Routes), Rules: slices.Clone(have.Rules),
		Groups: slices.Clone(have.Groups)}
	routing.Execute(routing.Compare(have, want), func(op routing.Op) error {
		if fail(op) {
			return errors.New("injected")
		}
		write(&now, op)
		look(routing.With(routing.Without(h, plain.Numbers), now), op)
		return nil
	})
}

func write(s *routing.State, op routing.Op) {
	switch {
	case op.Route != nil:
		s.Routes = slices.DeleteFunc(s.Routes, func(r routing.Route) bool {
			return r.RouteKey == op.Route.RouteKey
		})
		if !op.Delete {
			s.Routes = append(s.Routes, *op.Route)
		}
	case op.Rule != nil && op.Delete:
		s.Rules = slices.DeleteFunc(s.Rules, func(r routing.Rule) bool {
			return r == *op.Rule
		})
	case op.Rule != nil:
		s.Rules = append(s.Rules, *op.Rule)
	default:
		s.Groups = slices.DeleteFunc(s.Groups, func(g routing.LinkGroup) bool {
			return g.Link == op.Group.Link
		})
		if !op.Delete {
			s.Groups = append(s.Groups, *op.Group)
		}
	}
}

func never(routing.Op) bool { return false }

func way(h routing.Host, src, dst string) string {
	return routing.Lookup(h, routing.Query{Src: netip.MustParseAddr(src),
		Dst: netip.MustParseAddr(dst)}).Way.String()
}

// A container's reply and what the user keeps in main never take the path,
// whichever write was the last: exceptions come before the rule that they are
// exceptions from, and go after it.
func TestExceptionsOutliveTheirRule(t *testing.T) {
	direct := plain
	direct.Direct = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	listeners := listenOn("10.0.1.10")
	away, near := parseHost(t, twoUplinks+wgQuick), parseHost(t, twoUplinks)
	high, low := planOf(t, near, listeners, nil, direct).State,
		planOf(t, away, listeners, nil, direct).State
	if high.Rules[0].Priority <= low.Rules[0].Priority {
		t.Fatalf("the block does not move: %v, %v", high.Rules[0], low.Rules[0])
	}
	for name, s := range map[string][2]routing.State{"added": {{}, high}, "removed": {high, {}},
		"moved down": {high, low}, "moved up": {low, high}} {
		t.Run(name, func(t *testing.T) {
			var trail []string
			carryOut(near, s[0], s[1], never, func(h routing.Host, op routing.Op) {
				trail = append(trail, op.String())
				if w := way(h, "10.0.1.10", "172.17.0.9"); w != "docker0, on-link" {
					t.Errorf("a container's reply: %s after\n%s", w,
						strings.Join(trail, "\n"))
				}
				if w := way(h, "10.0.1.10", "203.0.113.9"); w !=
					"eth0 via 10.0.0.1" {
					t.Errorf("a direct reply: %s after\n%s", w,
						strings.Join(trail, "\n"))
				}
			})
		})
	}
}

// Where an exception could not be written, the rule that it is an exception
// from is not written.
func TestNoRuleWithoutItsExceptions(t *testing.T) {
	h := parseHost(t, twoUplinks)
	want := planOf(t, h, listenOn("10.0.1.10"), nil, plain).State
	failMain := func(op routing.Op) bool {
		return op.Rule != nil && op.Rule.Table == routing.TableMain
	}
	var last routing.Host
	carryOut(h, routing.State{}, want, failMain, func(h routing.Host, _ routing.Op) {
		last = h
	})
	if w := way(last, "10.0.1.10", "172.17.0.9"); w != "docker0, on-link" {
		t.Errorf("a container's reply: %s", w)
	}
}

// install returns the host with a plan's state in place of what was lasthop's.
func install(h routing.Host, p routing.Plan) routing.Host {
	return routing.With(routing.Without(h, plain.Numbers), p.State)
}

// A held gateway is the memory of a listener's way. It goes with the last
// listener that answers through it: the first sync after that wants what the
// second will want, and a link that is nothing but remembered makes no other
// listener ambiguous.
func TestHeldGatewayGoesWithItsListeners(t *testing.T) {
	const hostLines = twoUplinks + `
		link add eth2 type veth
		link set eth2 up
		addr add 10.0.1.20/24 dev eth2
		addr add 203.0.113.7/32 dev eth2
	`
	h := parseHost(t, hostLines)
	pinned := plain
	pinned.Gateways = []routing.GatewayPin{{Link: "eth2",
		Addr: netip.MustParseAddr("10.0.1.2")}}
	h = install(h, planOf(t, h, listenOn("203.0.113.7"), nil, pinned))

	kept := planOf(t, h, listenOn("203.0.113.7"), nil, plain)
	if kept.Outcomes[0].Status != routing.Ready || kept.Paths[0].Source != routing.FromHeld {
		t.Errorf("with its listener the gateway is not held: %+v", kept.Outcomes)
	}
	first := planOf(t, h, listenOn("10.0.1.100"), nil, plain)
	second := planOf(t, install(h, first), listenOn("10.0.1.100"), nil, plain)
	if o := first.Outcomes[0]; o.Status != routing.Armed || o.Link != "eth1" {
		t.Errorf("10.0.1.100: %s %s on %q, want armed on eth1", o.Status, o.Reason, o.Link)
	}
	if first.State.String() != second.State.String() {
		t.Errorf("the second sync wants something else\nfirst:\n%s\nsecond:\n%s",
			first.State, second.State)
	}
}

// Forwarding that begins while paths are in place (dockerd starts) takes no
// link out of the group: clients behind its next hops, who come in by a path,
// are answered as before, and a finding says what may be wrong about it.
func TestForwardingBegins(t *testing.T) {
	const hostLines = twoUplinks + `
		link add mgmt type veth
		link set mgmt up
		addr add 172.16.0.10/24 dev mgmt
		route add 10.50.0.0/16 via 172.16.0.1 dev mgmt
	`
	const forwarding = "sysctl net.ipv4.ip_forward=1\n"
	before := planOf(t, parseHost(t, hostLines), listenOn("10.0.1.10"), nil, plain)
	h := routing.With(parseHost(t, hostLines+forwarding), before.State)
	after := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
	if after.State.String() != before.State.String() {
		t.Errorf("before\n%s\nafter\n%s", before.State, after.State)
	}
	flushed := before.State // another program has deleted rules and routes
	flushed.Rules, flushed.Routes = nil, nil
	h = routing.With(parseHost(t, hostLines+forwarding), flushed)
	h.Grouped = []routing.LinkGroup{} // all of the group is lasthop's, says the run directory
	again := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
	if again.State.String() != before.State.String() {
		t.Errorf("before\n%s\nafter a flush\n%s", before.State, again.State)
	}
	if w := way(install(h, after), "10.0.1.10", "10.50.0.9"); w != "eth1 via 10.0.1.1" {
		t.Errorf("a client behind mgmt: %s", w)
	}
	fresh := planOf(t, parseHost(t, hostLines+forwarding), listenOn("10.0.1.10"), nil, plain)
	if w := way(install(h, fresh), "10.0.1.10", "10.50.0.9"); w != "mgmt via 172.16.0.1" {
		t.Errorf("a client behind mgmt, where this host forwarded before: %s", w)
	}
	for _, p := range []routing.Plan{after, fresh} {
		if !slices.ContainsFunc(p.Findings, func(f routing.Finding) bool {
			return f.Code == "static-elsewhere"
		}) {
			t.Errorf("no static-elsewhere: %v", p.Findings)
		}
	}
}

// While a link's gateway is asked for, no-gateway alone has a remedy:
// static-elsewhere is no warning then, and its first words say that nothing is
// to do. It ends when the gateway is named, or that there is none.
func TestOneRemedy(t *testing.T) {
	const hostLines = twoUplinks + `
		link add eth2 type veth
		link set eth2 up
		addr add 10.0.2.10/24 dev eth2
	`
	h, listeners := parseHost(t, hostLines), listenOn("10.0.1.10", "10.0.2.10")
	p := planOf(t, h, listeners, nil, plain)
	if f := told(p, "no-gateway"); !strings.Contains(f.Hint, "--gateway eth2=") {
		t.Errorf("no-gateway: %+v", f)
	}
	want := routing.Finding{Code: "static-elsewhere", Severity: routing.Info, Subject: "eth2",
		Message: "nothing to do: it ends when the gateway of eth2 is named; until then, " +
			"replies of eth1 via 10.0.1.1 to 10.0.2.0/24 leave by eth2 on-link",
		Origin: "10.0.2.0/24 dev eth2 proto kernel scope link src 10.0.2.10"}
	if diff := cmp.Diff(want, told(p, "static-elsewhere")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, pin := range []routing.GatewayPin{{Link: "eth2", None: true},
		{Link: "eth2", Addr: netip.MustParseAddr("10.0.2.1")}} {
		named := plain
		named.Gateways = []routing.GatewayPin{pin}
		p := planOf(t, h, listeners, nil, named)
		if f := told(p, "static-elsewhere"); f.Code != "" {
			t.Errorf("eth2=%s: %+v", pin, f)
		}
	}
}

// A route gives the host's own connections a listener's address: these
// connections move, and the finding has both ways.
func TestSourceHint(t *testing.T) {
	for _, c := range []struct{ lines, want string }{
		{"route add 10.70.0.0/16 via 10.0.0.7 dev eth0 src 10.0.1.10",
			"connections that this host opens by this route have the source 10.0.1.10: " +
				"they will leave by eth1 via 10.0.1.1 instead of eth0 via 10.0.0.7"},
		{"link add eth2 type veth\nlink set eth2 up\nroute add 10.70.0.1 dev eth2\n" +
			"route add 10.71.0.0/16 via 10.70.0.1 dev eth2",
			"connections that this host opens by this route have the source 10.0.0.10, " +
				"which the kernel borrows because the link has no address: they " +
				"will leave by eth0 via 10.0.0.1 instead of eth2 via 10.70.0.1"},
		{"route add 10.70.0.0/16 via 10.0.1.7 dev eth1 src 10.0.1.10", ""},
	} {
		p := planOf(t, parseHost(t, twoUplinks+c.lines),
			listenOn("10.0.0.10", "10.0.1.10"), nil, plain)
		if got := told(p, "src-hint").Message; got != c.want {
			t.Errorf("%s\ngot  %q\nwant %q", c.lines, got, c.want)
		}
	}
}

// A client that stands for others is told with their prefix; a single host or
// the gateway is itself.
func TestClientsByName(t *testing.T) {
	h := parseHost(t, twoUplinks+"route add 10.9.9.9 via 10.0.0.7 dev eth0\n"+
		"rule add pref 7000 to 203.0.113.0/24 lookup 7")
	d, j, err := routing.Consider(routing.Inputs{Host: h, Listeners: listenOn("10.0.1.10"),
		Policy: plain})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range j.Clients(d.Plan.Outcomes[0]) {
		got = append(got, c.String())
	}
	want := []string{"10.9.9.9", "clients in 172.17.0.0/16 (tried with 172.17.0.50)",
		"clients in 203.0.113.0/24 (tried with 203.0.113.50)",
		"clients in 10.0.1.0/24 (tried with 10.0.1.50)",
		"clients in 10.0.0.0/24 (tried with 10.0.0.50)", "10.0.1.1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The ways of the moves now are those without lasthop if nothing is installed,
// and those of the plan if all of it is. The host itself has the first address
// of each subnet: it stands for no client.
func TestStanding(t *testing.T) {
	h := parseHost(t, strings.NewReplacer("0.10/", "0.1/", "1.10/", "1.1/", "via 10.0.0.1 ",
		"via 10.0.0.254 ", "via 10.0.1.1 ", "via 10.0.1.254 ").Replace(twoUplinks))
	in := routing.Inputs{Host: h, Listeners: listenOn("10.0.0.1", "10.0.1.1"), Policy: plain}
	for _, installed := range []bool{false, true} {
		d, err := routing.Decide(in)
		if err != nil {
			t.Fatal(err)
		}
		var want []routing.Way
		for _, m := range d.Plan.Moves {
			want = append(want, map[bool]routing.Way{false: m.Before, true: m.After}[installed])
		}
		if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(d.Standing().Moves)); diff != "" {
			t.Errorf("installed %t: -want +got\n%s", installed, diff)
		}
		in.Host = routing.With(h, d.Plan.State)
	}
}

// A further gateway of a link takes no table away from a path that is there:
// the replies of that path never leave by the new gateway, not even between two
// writes.
func TestFurtherGatewayLeavesTablesAlone(t *testing.T) {
	h := parseHost(t, twoUplinks+`
		addr add 2001:db8::10/64 dev eth0
		addr add 2001:db8:1::10/64 dev eth1
		addr add 2001:db8:2::10/64 dev eth1
		-6 route add default via 2001:db8::1 dev eth0
	`)
	listeners := listenOn("10.0.1.10", "2001:db8:1::10", "2001:db8:2::10")
	pinned := plain
	pinned.Gateways = []routing.GatewayPin{{Link: "eth1",
		Addr: netip.MustParseAddr("2001:db8:2::1")}}
	old := planOf(t, h, listeners[:1:1], nil, pinned)
	old = planOf(t, install(h, old), slices.Concat(listeners[:1], listeners[2:]),
		nil, pinned)
	more := pinned
	more.Gateways = append(slices.Clone(pinned.Gateways),
		routing.GatewayPin{Link: "eth1", Addr: netip.MustParseAddr("2001:db8:1::1")})
	now := planOf(t, install(h, old), listeners, nil, more)
	carryOut(h, old.State, now.State, never, func(h routing.Host, op routing.Op) {
		if w := way(h, "2001:db8:2::10", "2001:db8:ffff::2"); w !=
			"eth1 via 2001:db8:2::1" {
			t.Errorf("%s after %s", w, op)
		}
	})
	if w := way(install(h, now), "2001:db8:1::10", "2001:db8:ffff::2"); w !=
		"eth1 via 2001:db8:1::1" {
		t.Errorf("the further gateway's own listener: %s", w)
	}
	if again := planOf(t, install(h, now), listeners, nil, more); again.State.String() !=
		now.State.String() {
		t.Errorf("the second sync wants something else\nfirst:\n%s\nsecond:\n%s", now.State,
			again.State)
	}
}
