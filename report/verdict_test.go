package report

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
	"lasthop/routing/sim"
)

// planOn plans for a host on which a state of lasthop is installed.
func planOn(t *testing.T, host string, installed routing.State, policy routing.Policy,
	listeners ...routing.Listener) Plan {
	t.Helper()
	s, err := sim.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	policy.Numbers = routing.DefaultNumbers
	d, err := routing.Decide(routing.Inputs{Host: routing.With(s.Host, installed),
		Listeners: listeners, Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	now := d.Standing()
	return Plan{Plan: d.Plan, Diff: d.Diff, Back: routing.Compare(d.Plan.State, d.Owned),
		Now: &now}
}

// TestMarks: a row has a mark if apply changes the way of replies from what it
// is now, and none if it stays, whatever it would be without lasthop.
func TestMarks(t *testing.T) {
	eth0, eth1, lo := listener("10.0.0.10", 80), listener("10.0.1.100", 80),
		listener("127.0.0.1", 80)
	pin := func(addr string) routing.Policy {
		return routing.Policy{Gateways: []routing.GatewayPin{
			{Link: "eth1", Addr: netip.MustParseAddr(addr)}}}
	}
	off := pin("10.0.1.1")
	off.Returns = []routing.ReturnPin{{Addr: eth0.Addr, Mode: routing.NoReturn}}
	installed := planOn(t, twoUplinks, routing.State{}, pin("10.0.1.1"), eth0, eth1).Plan.State
	elsewhere := installed
	elsewhere.Rules = slices.Clone(installed.Rules)
	for i := range elsewhere.Rules {
		elsewhere.Rules[i].Priority -= 50
	}
	noDefault := strings.ReplaceAll(twoUplinks, "\nroute add default",
		"\nroute add 10.9.0.0/16")
	for _, tt := range []struct {
		name      string
		host      string
		installed routing.State
		policy    routing.Policy
		want      string // of eth0, eth1 and lo; . is none
	}{
		{"nothing is installed", twoUplinks, routing.State{}, pin("10.0.1.1"), "~~."},
		{"all is installed", twoUplinks, installed, pin("10.0.1.1"), "..."},
		{"one gateway is another", twoUplinks, installed, pin("10.0.1.2"), ".~."},
		{"rules get other numbers", twoUplinks, elsewhere, pin("10.0.1.1"), "..."},
		{"one is switched off", twoUplinks, installed, off, "~.."},
		{"no route before", noDefault, routing.State{}, pin("10.0.1.1"), ".+."},
	} {
		p := planOn(t, tt.host, tt.installed, tt.policy, eth0, eth1, lo)
		marks := strings.ReplaceAll(string(p.marks()), "\x00", ".")
		if marks != tt.want {
			t.Errorf("%s: got %s, want %s\n%s", tt.name, marks, tt.want,
				textOf(t, p, Style{}))
		}
	}
}

// TestMarkedChanges: a command has the mark of what it does to what is
// installed.
func TestMarkedChanges(t *testing.T) {
	eth0, eth1 := listener("10.0.0.10", 80), listener("10.0.1.100", 80)
	installed := planOn(t, twoUplinks, routing.State{}, routing.Policy{}, eth0, eth1).Plan.State
	p := planOn(t, strings.ReplaceAll(twoUplinks, "10.0.1.1 dev", "10.0.1.2 dev"), installed,
		routing.Policy{Returns: []routing.ReturnPin{{Addr: eth0.Addr, Mode: routing.NoReturn}}},
		eth0, eth1, listener("2001:db8:1::100", 80))
	_, changes, _ := strings.Cut(textOf(t, p, Style{}), "\nChanges (")
	for _, want := range []string{
		"+ ip -6 rule add pref 5199 from 2001:db8:1::/64 iif lo lookup 20431 protocol 76",
		"~ ip route replace default via 10.0.1.2 dev eth1 table 20431 proto 76 onlink",
		"- ip rule del pref 5199 from 10.0.0.0/24 iif lo lookup 20812 protocol 76"} {
		if !strings.Contains(changes, "\n"+want+"\n") {
			t.Errorf("no %q in\n%s", want, changes)
		}
	}
}

// TestNearMoves: a listener whose replies to clients behind a router stay says
// of whom they move, and where to.
func TestNearMoves(t *testing.T) {
	path := routing.Path{Link: "eth0", Prefixes: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/24")}}
	move := func(c routing.Class, after string) routing.Move {
		return routing.Move{Link: "eth0", Listeners: path.Prefixes, Class: c,
			After: routing.Way{Link: after}}
	}
	elsewhere := move(routing.ClassStatic, "eth0")
	elsewhere.Listeners = []netip.Prefix{netip.MustParsePrefix("10.0.7.0/24")}
	for want, moves := range map[string][]routing.Move{
		"unchanged": {move(routing.ClassOffLink, "eth0"), elsewhere},
		"unchanged off-link; replies to other LANs move here": {
			move(routing.ClassOtherLAN, "eth0"), move(routing.ClassOtherLAN, "eth0")},
		"unchanged off-link; replies to other LANs and to clients behind static routes move, too": {
			move(routing.ClassOtherLAN, "eth0"), move(routing.ClassStatic, "eth2")},
	} {
		m := movesOf(routing.Plan{Paths: []routing.Path{path}, Moves: moves})
		o := routing.Outcome{Status: routing.Ready, Path: 1}
		if d := cmp.Diff(want, m.same(o)); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
}

// TestProblemsFirst: of many changes, the problems stand before them, and the
// verdict counts them at the beginning and at the end.
func TestProblemsFirst(t *testing.T) {
	var all []routing.Listener
	for i := range 60 {
		all = append(all, listener(netip.AddrFrom4([4]byte{10, 0, 1, byte(2 * i)}).String(),
			80))
	}
	p := makePlan(t, append(all, listener("192.0.2.9", 80))...)
	p.Plan.Findings = append(p.Plan.Findings, routing.Error.Finding("shadowed", "x", "y"),
		routing.Info.Finding("class-moves", "x", "y"))
	text := textOf(t, p, Style{})
	from := 0
	for _, want := range []string{"unresolved: the findings", "1 error, ", "Listeners (",
		"\n   192.0.2.9 ", "\n~  10.0.1.2 ", "error: shadowed", "Changes (", "Notes (",
		"info: class-moves", "unresolved: the findings", "1 error, "} {
		i := strings.Index(text[from:], want)
		if i < 0 {
			t.Fatalf("%q is missing or too early in:\n%s", want, text)
		}
		from += i + 1
	}
}

// TestVerdict: what a plan comes to, as text, page and ticket say it.
func TestVerdict(t *testing.T) {
	eth0 := "link add eth0 type veth\nlink set eth0 up\naddr add 10.0.0.10/24 dev eth0\n" +
		"route add default via 10.0.0.1 dev eth0\n"
	lo := listener("127.0.0.1", 80)
	installed := planOn(t, twoUplinks, routing.State{}, routing.Policy{},
		listener("10.0.1.100", 80)).Plan.State
	off := routing.Policy{Returns: []routing.ReturnPin{{Link: "eth0", Mode: routing.NoReturn}}}
	for _, tt := range []struct {
		plan       Plan
		tone, want string
	}{
		{planOn(t, eth0, routing.State{}, routing.Policy{}, listener("10.0.0.10", 80)), "good",
			"Nothing to do: every reply leaves the way its request came in."},
		{planOn(t, eth0, routing.State{}, routing.Policy{}, lo), "good",
			"Nothing to do: NGINX listens on addresses of this host or link alone, where no gateway is involved."},
		{planOn(t, eth0, routing.State{}, off, listener("10.0.0.10", 80)), "good",
			"Nothing to do: lasthop leaves all listeners alone; the table says why."},
		{planOn(t, "", routing.State{}, routing.Policy{}, listener("0.0.0.0", 80)), "warn",
			"Nothing to do: NGINX listens on all addresses, and this network namespace has none but"},
		{planOn(t, twoUplinks, installed, routing.Policy{}, listener("10.0.1.100", 80)), "good",
			"Nothing to do: everything is in place."},
		{planOn(t, twoUplinks, installed, routing.Policy{}, listener("10.0.1.100", 80),
			listener("192.0.2.9", 80)), "warn", "Nothing to do: everything is in place. " +
			"1 listener is unresolved: the findings say what lasthop must know. Findings: 1 warning."},
		{planOn(t, eth0, routing.State{}, routing.Policy{}, listener("192.0.2.9", 80)), "warn",
			"Nothing to do yet. 1 listener is unresolved: "},
		{planOn(t, twoUplinks, installed, routing.Policy{}, lo), "good",
			"6 changes: remove what is no longer needed."},
		{planOn(t, twoUplinks, routing.State{}, routing.Policy{}, lo,
			listener("10.0.1.100", 80)), "good", "6 changes: 1 of 2 listeners (1 local) will " +
			"reply the way their requests come in. Without lasthop, 1 replies another way " +
			"to clients behind a router."},
	} {
		got, tone := tt.plan.verdict()
		if !strings.HasPrefix(got, tt.want) || tone != tt.tone {
			t.Errorf("%s: %s\nwant %s: %s", tone, got, tt.tone, tt.want)
		}
		for _, format := range []string{"markdown", "html"} {
			if !strings.Contains(written(t, format, tt.plan), got) {
				t.Errorf("%s lacks %q", format, got)
			}
		}
	}
}
