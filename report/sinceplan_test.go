package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// plannedThen is the document of a small plan.
func plannedThen() planDoc {
	return planDoc{
		Listeners: []listenerDoc{{Address: "10.0.1.100", Port: 443, Transport: "tcp",
			decidedDoc: decidedDoc{Status: "ready"}, Before: &wayDoc{Interface: "eth0", Gateway: "10.0.0.1"},
			After: &wayDoc{Interface: "eth1", Gateway: "10.0.1.1"}}},
		Paths: []pathDoc{{Interface: "eth1", Family: "IPv4", Gateways: []string{"10.0.1.1"},
			Source: "pin", Table: 20431, Prefixes: []string{"10.0.1.0/24"}}},
		Changes: []changeDoc{{"add", "rule", "ip rule add pref 5101"}},
		Findings: []routing.Finding{{Code: "arp-flux", Severity: routing.Warning,
			Subject: "eth1", Message: "12 sessions"}},
	}
}

// TestComparePlans: what of a plan has changed, each kind of it.
func TestComparePlans(t *testing.T) {
	const way = "eth0 via 10.0.0.1 -> ready: eth1 via 10.0.1.1"
	for _, test := range []struct {
		name   string
		change func(*planDoc)
		want   string
	}{
		{"nothing", func(*planDoc) {}, ""},
		{"the message of a finding", func(d *planDoc) { d.Findings[0].Message = "13 sessions" }, ""},
		{"new listener", func(d *planDoc) {
			again := d.Listeners[0]
			again.Port, again.LastPort, again.Transport = 8000, 8010, "udp"
			d.Listeners = append(d.Listeners, again)
		}, "new listener 10.0.1.100 [8000-8010/udp]  -> ready: eth1 via 10.0.1.1"},
		{"gone listener", func(d *planDoc) { d.Listeners = nil },
			"gone listener 10.0.1.100 [443] ready: eth1 via 10.0.1.1 -> "},
		{"status", func(d *planDoc) {
			d.Listeners[0].Status, d.Listeners[0].Reason, d.Listeners[0].After = "unresolved", "no-gateway", d.Listeners[0].Before
		}, "status listener 10.0.1.100 [443] ready: eth1 via 10.0.1.1 -> unresolved: no-gateway; eth0 via 10.0.0.1"},
		{"reason", func(d *planDoc) { d.Listeners[0].Reason = "beyond-tunnel" },
			"reason listener 10.0.1.100 [443] ready: eth1 via 10.0.1.1 -> ready: beyond-tunnel; eth1 via 10.0.1.1"},
		{"way", func(d *planDoc) { d.Listeners[0].After = &wayDoc{Interface: "eth1", LastHop: true} },
			"way listener 10.0.1.100 [443] ready: eth1 via 10.0.1.1 -> ready: per connection, else eth1, on-link"},
		{"way before", func(d *planDoc) { d.Listeners[0].Before = &wayDoc{Type: "unreachable"} },
			"way listener 10.0.1.100 [443] " + way + " -> unreachable -> ready: eth1 via 10.0.1.1"},
		{"gateway", func(d *planDoc) { d.Paths[0].Gateways = []string{"10.0.1.2"} },
			"way path eth1 [IPv4] pin; 10.0.1.1 for 10.0.1.0/24 -> pin; 10.0.1.2 for 10.0.1.0/24"},
		{"source of a gateway", func(d *planDoc) { d.Paths[0].Source = "lease" },
			"reason path eth1 [IPv4] pin; 10.0.1.1 for 10.0.1.0/24 -> lease; 10.0.1.1 for 10.0.1.0/24"},
		{"order of prefixes", func(d *planDoc) { d.Paths[0].Prefixes = []string{"10.0.1.0/24"} }, ""},
		{"change", func(d *planDoc) { d.Changes[0].Text = "ip rule add pref 5102" },
			"new change ip rule add pref 5102 []  -> ; gone change ip rule add pref 5101 []  -> "},
		{"severity", func(d *planDoc) { d.Findings[0].Severity = routing.Error },
			"status finding arp-flux [eth1] warning: 12 sessions -> error: 12 sessions"},
		{"subject", func(d *planDoc) { d.Findings[0].Subject = "eth2" },
			"new finding arp-flux [eth2]  -> warning: 12 sessions; gone finding arp-flux [eth1] warning: 12 sessions -> "},
	} {
		now := plannedThen()
		test.change(&now)
		var got []string
		for _, c := range compare(plannedThen().states(), now.states()) {
			got = append(got, c.Change+" "+c.Kind+" "+c.Name+" ["+
				strings.Join(c.Where, " ")+"] "+c.Was+" -> "+c.Is)
		}
		if d := cmp.Diff(test.want, strings.Join(got, "; ")); d != "" {
			t.Errorf("%s: -want +got\n%s", test.name, d)
		}
	}
}

// TestPlanCompare: a plan has not changed since itself, says in each format
// what else has, and refuses documents that are none.
func TestPlanCompare(t *testing.T) {
	var doc bytes.Buffer
	p := hostilePlan(t)
	if err := p.JSON(&doc); err != nil {
		t.Fatal(err)
	}
	if err := p.Compare("old.json", doc.Bytes()); err != nil || p.Since.Differs() ||
		!strings.HasSuffix(p.Since.Title(), "nothing has changed; the plan has the same "+
			"digest, "+routing.ShortDigest(p.Digest)) {
		t.Fatal(p.Since, err)
	}
	p.Digest = "sha256:" + strings.Repeat("0", 64)
	p.Plan.Outcomes = slices.Clone(p.Plan.Outcomes)
	p.Plan.Outcomes[0].Status, p.Plan.Outcomes[0].Reason = routing.Unresolved, "no-gateway"
	if err := p.Compare("old.json", doc.Bytes()); err != nil || !p.Since.Differs() {
		t.Fatal(p.Since, err)
	}
	for format, write := range map[string]func(*bytes.Buffer) error{
		"text":     func(b *bytes.Buffer) error { return p.Text(b, Style{}) },
		"html":     func(b *bytes.Buffer) error { return p.HTML(b) },
		"markdown": func(b *bytes.Buffer) error { return p.Markdown(b) }} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\u202e") ||
			strings.Contains(b.String(), "<script>alert") {
			t.Errorf("%s: a name is code", format)
		}
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), "1 status") {
			t.Errorf("%s does not say what has changed:\n%s", format, b.String())
		}
	}
	for _, bad := range []string{"", "null", "[]", doc.String() + "x",
		`{"version": 1, "kind": "migrate", "listeners": []}`,
		`{"version": 2, "kind": "plan", "listeners": [], "paths": [], "changes": []}`,
		`{"version": 1, "kind": "plan", "listeners": [], "changes": []}`,
		`{"version": 1, "kind": "plan", "listeners": {}, "paths": [], "changes": []}`} {
		err := p.Compare("bad.json", []byte(bad))
		if err == nil || !strings.HasPrefix(err.Error(), "bad.json: ") ||
			!strings.Contains(hint.Of(err), "lasthop plan -o json") {
			t.Errorf("%.80s: %v", bad, err)
		}
	}
}
