package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
	"lasthop/routing/sim"
)

const twoUplinks = `
link add eth0 type veth
link add eth1 type veth
link set eth0 up
link set eth1 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.100/24 dev eth1
addr add 2001:db8::10/64 dev eth0
addr add 2001:db8:1::100/64 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
-6 route add default via 2001:db8::1 dev eth0
-6 route add default via 2001:db8:1::1 dev eth1 metric 2000
`

func listener(addr string, port uint16) routing.Listener {
	return routing.Listener{Addr: netip.MustParseAddr(addr),
		Ports: routing.PortRange{First: port, Last: port}, Transport: routing.TCP,
		Context: "http", Listen: addr, Origins: []string{"nginx.conf:3"}}
}

func makePlan(t testing.TB, listeners ...routing.Listener) Plan {
	t.Helper()
	return makePlanFor(t, twoUplinks, listeners...)
}

func makePlanFor(t testing.TB, host string, listeners ...routing.Listener) Plan {
	t.Helper()
	s, err := sim.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	d, err := routing.Decide(routing.Inputs{Host: s.Host, Listeners: listeners,
		Policy: routing.Policy{Numbers: routing.DefaultNumbers}})
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{Head: Head{"v1", "web1", "6.1.0", time.Unix(1700000000, 0),
		[]Input{{"/etc/nginx/nginx.conf", "00", true}, {"/etc/nginx/a.conf", "01", false}}},
		Plan: d.Plan, Diff: d.Diff, Back: routing.Compare(d.Plan.State, d.Owned),
		Digest: d.Digest()}
	p.Next = "lasthop apply --expect " + routing.ShortDigest(p.Digest)
	return p
}

func textOf(t *testing.T, r Result, s Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Text(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// planVerdict begins and ends the text of the plan.
const planVerdict = `10 changes: 3 of 4 listeners will reply the way their requests come in. Without
lasthop, 2 reply another way to clients behind a router, and 1 to some clients
nearby. 1 listener is unresolved: the findings say what lasthop must know.
Findings: 1 warning.
`

func TestPlanText(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80), listener("10.0.1.100", 443),
		listener("10.0.0.10", 80), listener("192.0.2.9", 80))
	want := `lasthop plan on web1, Linux 6.1.0
from /etc/nginx/nginx.conf and 1 included file

` + planVerdict + `Marks: ~ changes, + is new, - is removed, none: stays as it is. Replies to
clients behind a router: without lasthop -> with this plan.

Listeners (4)
   ADDRESS     PORT     LINK  STATUS      REPLIES LEAVE BY
   192.0.2.9   80       -     unresolved  eth0 via 10.0.0.1 (no-owner)
~  10.0.1.100  80, 443  eth1  ready       eth0 via 10.0.0.1 -> eth1 via 10.0.1.1
~  10.0.0.10   80       eth0  ready       eth0 via 10.0.0.1 (unchanged off-link;
                                          replies to other LANs move here)

Findings (1)
  warning: no-owner: 192.0.2.9
    192.0.2.9 is on no interface and in no uplink's subnet
    at: nginx.conf:3
    do: name the interface: --address 192.0.2.9=IF

Paths (2)
  eth0  IPv4  10.0.0.1, from main's default  table 20812 for 10.0.0.0/24
  eth1  IPv4  10.0.1.1, from main's default  table 20431 for 10.0.1.0/24
`
	got := textOf(t, p, Style{})
	if !strings.HasPrefix(got, want) {
		t.Errorf("begins\n%s\nwant\n%s", got, want)
	}
	for _, part := range []string{"+ ip rule add pref 5199 from 10.0.1.0/24 iif lo " +
		"lookup 20431 protocol 76\n", "~ ip link set dev eth1 group 76\n",
		"\n\nlasthop help CODE explains a finding. Flags hold for one command; for the\n" +
			"service, write them into /etc/lasthop/lasthop.yaml: lasthop help settings.\n\n" +
			planVerdict + "Nothing was changed. To do exactly this:\n" +
			"  lasthop apply --expect "} {
		if !strings.Contains(got, part) {
			t.Errorf("lacks %q:\n%s", part, got)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("color without being asked for")
	}
	if !strings.Contains(textOf(t, p, Style{Color: true}), "\x1b[31m") {
		t.Error("an unresolved listener is not red")
	}
}

// TestPlanWidth holds the promise of 80 columns for all but commands, which are
// for copying.
func TestPlanWidth(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80), listener("2001:db8:1::100", 80),
		listener("192.0.2.9", 80))
	wantWidth(t, p)
}

func TestNothingNeeded(t *testing.T) {
	p := makePlanFor(t, "link add eth0 type veth\nlink set eth0 up\n"+
		"addr add 10.0.0.10/24 dev eth0\nroute add default via 10.0.0.1 dev eth0\n",
		listener("10.0.0.10", 80))
	got := textOf(t, p, Style{})
	if n := strings.Count(got, "othing"); n != 3 { // the path, and both verdicts
		t.Errorf("says %d times that nothing is needed:\n%s", n, got)
	}
	if !strings.HasSuffix(got,
		"\nNothing to do: every reply leaves the way its request came in.\n") {
		t.Errorf("ends wrongly:\n%s", got)
	}
}

// TestManyListeners keeps the problems in sight when the list is cut.
func TestManyListeners(t *testing.T) {
	var all []routing.Listener
	for i := range 200 {
		all = append(all, listener(fmt.Sprintf("10.0.1.%d", i+2), 80))
	}
	p := makePlan(t, append(all, listener("192.0.2.9", 80))...)
	got := textOf(t, p, Style{})
	if lines := strings.Count(got, "\n"); lines > 200 {
		t.Errorf("%d lines for 201 listeners", lines)
	}
	for _, part := range []string{"192.0.2.9", "unresolved",
		"… and 161 more addresses; all of them with -o json"} {
		if !strings.Contains(got, part) {
			t.Errorf("lacks %q:\n%s", part, got)
		}
	}
}

func TestTextEscapes(t *testing.T) {
	p := makePlan(t, listener("192.0.2.9", 80))
	p.Host, p.Inputs[0].File = "web\x1b]0;owned\a", "/etc/\u202enginx\n.conf"
	p.Plan.Findings[0].Message = "name \x1b[2J"
	got := textOf(t, p, Style{})
	if i := strings.IndexFunc(strings.ReplaceAll(got, "\n", ""),
		func(r rune) bool { return !safe(r) }); i >= 0 {
		t.Errorf("unsafe character:\n%q", got)
	}
	if !strings.Contains(got, `web\x1b]0;owned\x07`) ||
		!strings.Contains(got, `/etc/\u202enginx\n.conf`) {
		t.Errorf("names are not escaped:\n%q", got)
	}
}

// TestJSON checks what the contract says of every document.
func TestJSON(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	empty := Head{Lasthop: "v1"}
	for name, r := range map[string]Result{
		"plan": p, "apply": Apply{Plan: p}, "check": Check{Head: p.Head, Checks: []Checked{{Outcome: p.Plan.Outcomes[0]}}}, "clear": Clear{Head: p.Head},
		"plan empty": Plan{Head: empty}, "apply empty": Apply{Plan: Plan{Head: empty}}, "check empty": Check{Head: empty}, "clear empty": Clear{Head: empty},
		"version": Version{Lasthop: "v1"},
	} {
		var b bytes.Buffer
		if err := r.JSON(&b); err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if kind, _, _ := strings.Cut(name, " "); doc["version"] != float64(1) ||
			doc["kind"] != kind || doc["lasthop"] != "v1" {
			t.Errorf("%s: version %v, kind %v, lasthop %v", name, doc["version"],
				doc["kind"], doc["lasthop"])
		}
		if strings.Contains(b.String(), "null") {
			t.Errorf("%s has a null:\n%s", name, b.String())
		}
	}
}

func TestPlanJSON(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	var b bytes.Buffer
	if err := p.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Inputs    []map[string]any
		Listeners []map[string]any
		Paths     []map[string]any
		Changes   []map[string]any
		Digest    string
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	listener := map[string]any{"address": "10.0.1.100", "port": 80.0, "transport": "tcp",
		"context": "http", "listen": "10.0.1.100",
		"origins": []any{"nginx.conf:3"}, "servers": []any{}, "interface": "eth1", "status": "ready",
		"mode":   "strict",
		"before": map[string]any{"interface": "eth0", "gateway": "10.0.0.1", "table": 254.0},
		"after":  map[string]any{"interface": "eth1", "gateway": "10.0.1.1", "table": 20431.0}}
	if d := cmp.Diff([]map[string]any{listener}, got.Listeners); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	path := map[string]any{"interface": "eth1", "family": "IPv4", "gateways": []any{"10.0.1.1"},
		"gateway_source": "default route in main",
		"table":          20431.0, "prefixes": []any{"10.0.1.0/24"}}
	if d := cmp.Diff([]map[string]any{path}, got.Paths); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if last := got.Changes[len(got.Changes)-1]; last["op"] != "add" ||
		last["object"] != "rule" || got.Digest != p.Digest {
		t.Errorf("last change %v, digest %s", last, got.Digest)
	}
	if d := cmp.Diff(map[string]any{"file": "/etc/nginx/nginx.conf", "sha256": "00"},
		got.Inputs[0]); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestCheckText(t *testing.T) {
	out := routing.Outcome{Listener: listener("10.0.1.100", 80), Link: "eth1",
		Status: routing.Ready}
	way := routing.Way{Type: routing.Unicast, Link: "eth0",
		Via: netip.MustParseAddr("10.0.0.1")}
	bad := Check{Head: Head{Host: "web1"},
		Checks: []Checked{{Outcome: out, Now: way, Want: "eth1 via 10.0.1.1",
			Verdict: Asymmetric}},
		Quiet: true}
	if got := textOf(t, bad, Style{}); got != "not ok: 1 listener: 1 asymmetric\n" ||
		bad.Bad() != 1 {
		t.Errorf("%q, %d bad", got, bad.Bad())
	}
	bad.Quiet = false
	if got := textOf(t, bad, Style{}); !strings.Contains(got,
		"asymmetric  eth0 via 10.0.0.1, not eth1 via 10.0.1.1") {
		t.Error(got)
	}
	lan := routing.Client{Addr: netip.MustParseAddr("10.0.2.50"), Class: routing.ClassOtherLAN,
		In: netip.MustParsePrefix("10.0.2.0/24")}
	wrong := WrongClient{lan, routing.Way{Type: routing.Unicast, Link: "eth2"}, way}
	bad.Checks[0].Wrong = []WrongClient{wrong, wrong, wrong}
	if got := textOf(t, bad, Style{Width: 200}); !strings.Contains(got,
		"asymmetric  to clients in 10.0.2.0/24 (tried with 10.0.2.50) by eth2, on-link, "+
			"not eth0 via 10.0.0.1; and to 2 more groups of clients\n") {
		t.Error(got)
	}
	bad.Checks[0].Wrong = bad.Checks[0].Wrong[:2]
	if got := textOf(t, bad, Style{Width: 200}); !strings.Contains(got,
		"; and to 1 more group of clients\n") {
		t.Error(got)
	}
	var doc strings.Builder
	if err := bad.JSON(&doc); err != nil || strings.Contains(doc.String(), "10.0.2.0/24") {
		t.Error(err, doc.String())
	}
	good := Check{Checks: []Checked{{Outcome: out, Verdict: Symmetric},
		{Outcome: out, Verdict: NotHere}},
		Quiet: true}
	if got := textOf(t, good, Style{}); got != "ok: 2 listeners: 1 symmetric, 1 armed\n" ||
		good.Bad() != 0 {
		t.Errorf("%q, %d bad", got, good.Bad())
	}
}

// TestApplyQuiet: an apply that a daemon has done cannot be taken back.
func TestApplyQuiet(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 443))
	for undo, want := range map[string]string{"": "lasthop apply: 1 change\n",
		"lasthop clear": "lasthop apply: 1 change; to take this back: lasthop clear\n"} {
		a := Apply{Plan: p, Done: p.Diff.Ops()[:1], Undo: undo, Quiet: true}
		if got := textOf(t, a, Style{}); got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	}
}
