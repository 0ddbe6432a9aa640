package report

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"lasthop/routing"
	"lasthop/routing/sim"
)

// explain explains an address of a host to a client behind a router.
func explain(t *testing.T, host, addr string) Explain {
	t.Helper()
	s, err := sim.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	p := routing.Policy{Numbers: routing.DefaultNumbers}
	a := netip.MustParseAddr(addr)
	d, err := routing.Decide(routing.Inputs{Host: s.Host, Policy: p,
		Listeners: []routing.Listener{listener(addr, 80)}})
	if err != nil {
		t.Fatal(err)
	}
	r := routing.NewExplainer(s.Host, p, d.Plan.State)
	e := Explain{Head: Head{Host: "web1", Kernel: "6.1.0"}, Addr: a, Link: r.Link(a),
		Here: true, Listeners: d.Plan.Outcomes}
	for _, x := range r.ToAll(a) {
		e.Explained = append(e.Explained, Explained{Explanation: x,
			NowNeighs: r.Neighs(x.Now), AfterNeighs: r.Neighs(x.After)})
	}
	return e
}

// TestExplainWidth holds the promise of 80 columns for all but rules, which are
// `ip`'s.
func TestExplainWidth(t *testing.T) {
	for _, addr := range []string{"10.0.1.100", "2001:db8:1::100"} {
		e := explain(t, strings.ReplaceAll(twoUplinks, "eth1", "enp129s0f1np1.7"), addr)
		far := netip.MustParseAddr("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff")
		e.Explained[0].NowNeighs = []routing.Neigh{{Addr: far, Link: "enp129s0f1np1.7",
			MAC: "02:00:00:00:01:01", State: "REACHABLE"}}
		e.Explained[0].Clients[0].Of = "a bridge " + strings.Repeat("x ", 40)
		e.Explained[0].Kernel = []routing.Way{{Type: routing.Unicast, Via: far,
			Link: "enp129s0f1np1.7", Table: 20431}}
		for line := range strings.Lines(textOf(t, e, Style{})) {
			line = strings.TrimRight(line, "\n")
			if rule := strings.Contains(line, " from "); !rule &&
				utf8.RuneCountInString(line) > 80 {
				t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
			}
		}
	}
}

// TestExplainManyRules keeps the rules that matter in sight where there are
// very many.
func TestExplainManyRules(t *testing.T) {
	host := twoUplinks
	for i := range 200 {
		host += fmt.Sprintf("rule add pref %d from 10.99.%d.0/24 lookup 99\n", 1000+i, i)
	}
	got := textOf(t, explain(t, host, "10.0.1.100"), Style{})
	if n := strings.Count(got, "lookup 99"); n != maxRows+1 {
		t.Errorf("%d rules that do not match are written one by one, want %d:\n%s", n,
			maxRows+1, got)
	}
	for _, part := range []string{"       …  159 more rules not matched", "each with -o json",
		"       …  200 rules not matched", "as above", "   32766  from all lookup main",
		"-> default via 10.0.0.1 dev eth0"} {
		if !strings.Contains(got, part) {
			t.Errorf("lacks %q:\n%s", part, got)
		}
	}
}

// TestExplainDisagree says where the kernel answers otherwise, and counts it.
func TestExplainDisagree(t *testing.T) {
	e := explain(t, twoUplinks, "10.0.1.100")
	for i := range e.Explained {
		e.Explained[i].Kernel = []routing.Way{e.Explained[i].Now.Ends[0]}
	}
	if got := textOf(t, e, Style{}); e.Disagree() != 0 ||
		!strings.Contains(got, "\nThe kernel gives the same answers.\n") {
		t.Errorf("%d disagree:\n%s", e.Disagree(), got)
	}
	e.Explained[0].Kernel[0].Via = netip.MustParseAddr("10.0.0.9")
	if got := textOf(t, e, Style{}); e.Disagree() != 1 ||
		strings.Contains(got, "gives the same") ||
		!strings.Contains(got,
			"  The kernel disagrees for 198.51.100.1: eth0 "+
				"via 10.0.0.9 (table 254)\n") {
		t.Errorf("%d disagree:\n%s", e.Disagree(), got)
	}
}

func TestExplainEscapes(t *testing.T) {
	e := explain(t, strings.ReplaceAll(twoUplinks, "eth1", "e\x1b[2J"), "10.0.1.100")
	e.Listeners[0].Servers, e.NoPlan, e.VRF = []string{"a\x1b]0;x\a"}, "\u202e", "v\x1b"
	got := textOf(t, e, Style{})
	if i := strings.IndexFunc(strings.ReplaceAll(got, "\n", ""),
		func(r rune) bool { return !safe(r) }); i >= 0 {
		t.Errorf("unsafe character:\n%q", got)
	}
	if !strings.Contains(got, `e\x1b[2J`) {
		t.Errorf("the link is not named:\n%q", got)
	}
}

func TestExplainJSON(t *testing.T) {
	for name, e := range map[string]Explain{"full": explain(t, twoUplinks, "10.0.1.100"),
		"without listeners": {Addr: netip.MustParseAddr("10.0.1.1"), NoPlan: "x"}} {
		var b bytes.Buffer
		if err := e.JSON(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "null") ||
			!strings.Contains(b.String(), `"kind": "explain"`) {
			t.Errorf("%s:\n%s", name, b.String())
		}
	}
}
