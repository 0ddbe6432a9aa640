package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/bigip/migrate"
	"lasthop/internal/hint"
)

// compared is what changed between two lists of rows, in words.
type compared struct {
	name    string
	was, is []migrate.Row
	want    string
}

func comparedReady(name, vlan, after string) migrate.Row {
	return migrate.Row{Virtual: name, Address: "10.0.0.1", Port: "443", Protocol: "tcp",
		VLAN: vlan, Status: migrate.Ready, Before: "back, on " + vlan, After: after}
}

func comparedBlocked(name, vlan, reason string) migrate.Row {
	r := comparedReady(name, vlan, "")
	r.Status, r.Reason = migrate.NeedsInput, reason
	return r
}

func comparisons() []compared {
	ready, blocked := comparedReady, comparedBlocked
	left := migrate.Row{Virtual: "v", Address: "10.0.0.1", Port: "443", Protocol: "tcp",
		Status: migrate.NotApplicable, Reason: "not-selected", Before: "left out: --skip v"}
	leftOtherwise, disabled := left, left
	leftOtherwise.Before, disabled.Reason = "left out: not in --only w", "disabled"
	several := ready("v", "VLANs (2)", "eth0")
	several.VLANs = []string{"/a", "/b"}
	elsewhere, routed := ready("v", "/a", "eth0"), ready("v", "/a", "eth0")
	elsewhere.Port, routed.Before = "80", "by its routing table"
	loses := ready("v", "/a", "eth0")
	loses.Decided, loses.Loses = "only if so", "clients"
	type rows = []migrate.Row
	return []compared{
		{"nothing", rows{ready("v", "/a", "eth0")}, rows{ready("v", "/a", "eth0")}, ""},
		{"new, gone", rows{ready("v", "/a", "eth0")}, rows{ready("w", "/a", "eth0")},
			"new w [10.0.0.1:443/tcp, /a]  -> ready: eth0; gone v [10.0.0.1:443/tcp, /a] ready: eth0 -> "},
		{"status", rows{blocked("v", "/a", "no-gateway")}, rows{ready("v", "/a", "eth0")},
			"status v [10.0.0.1:443/tcp, /a] needs-input: no-gateway -> ready: eth0"},
		{"reason", rows{blocked("v", "/a", "no-gateway")}, rows{blocked("v", "/a", "routed")},
			"reason v [10.0.0.1:443/tcp, /a] needs-input: no-gateway -> needs-input: routed"},
		{"way here", rows{ready("v", "/a", "eth0")}, rows{ready("v", "/a", "eth1")},
			"way v [10.0.0.1:443/tcp, /a] ready: eth0 -> ready: eth1"},
		{"way there", rows{ready("v", "/a", "eth0")}, rows{routed},
			"way v [10.0.0.1:443/tcp, /a] back, on its VLAN -> ready: eth0 -> by its routing table -> ready: eth0"},
		{"decision", rows{ready("v", "/a", "eth0")}, rows{loses},
			"way v [10.0.0.1:443/tcp, /a] ready: eth0 -> ready: eth0; decided, loses: clients"},
		{"VLANs alike", rows{ready("v", "/a", "eth0"), ready("v", "/b", "eth0")},
			rows{ready("v", "/a", "eth1"), ready("v", "/b", "eth1")},
			"way v [10.0.0.1:443/tcp, /a 10.0.0.1:443/tcp, /b] ready: eth0 -> ready: eth1"},
		{"a row of several VLANs", rows{ready("v", "/a", "eth0"), ready("v", "/b", "eth0")},
			rows{several}, ""},
		{"another VLAN", rows{several}, rows{ready("v", "/a", "eth0")},
			"gone v [10.0.0.1:443/tcp, /b] ready: eth0 -> "},
		{"another port", rows{ready("v", "/a", "eth0")},
			rows{ready("v", "/a", "eth0"), elsewhere},
			"new v [10.0.0.1:80/tcp, /a]  -> ready: eth0"},
		{"left out", rows{several}, rows{left},
			"status v [10.0.0.1:443/tcp, /a 10.0.0.1:443/tcp, /b] ready: eth0 -> not-applicable: not-selected"},
		{"taken", rows{left}, rows{several},
			"status v [10.0.0.1:443/tcp, /a 10.0.0.1:443/tcp, /b] not-applicable: not-selected -> ready: eth0"},
		{"left out otherwise", rows{left}, rows{leftOtherwise}, ""},
		{"disabled", rows{left}, rows{disabled},
			"reason v [10.0.0.1:443/tcp] not-applicable: not-selected -> not-applicable: disabled"},
	}
}

// TestCompare: what changed between two lists of rows, each of a virtual
// server, an address, a VLAN, and a status.
func TestCompare(t *testing.T) {
	for _, test := range comparisons() {
		var got []string
		for _, c := range compare(states(test.was), states(test.is)) {
			got = append(got, c.Change+" "+c.Name+" ["+strings.Join(c.Where, " ")+"] "+
				c.Was+" -> "+c.Is)
		}
		if d := cmp.Diff(test.want, strings.Join(got, "; ")); d != "" {
			t.Errorf("%s: -want +got\n%s", test.name, d)
		}
	}
}

// TestMigrationCompare: a report has not changed since itself, says in each
// format what else has, and refuses documents that are none.
func TestMigrationCompare(t *testing.T) {
	var doc, text, page, ticket, after bytes.Buffer
	m := smallMigration()
	if err := m.JSON(&doc); err != nil {
		t.Fatal(err)
	}
	if err := m.Compare("old.json", doc.Bytes()); err != nil || len(m.Since.Changes) > 0 {
		t.Fatalf("since itself %v has changed: %v", m.Since, err)
	}
	if !strings.HasSuffix(m.Since.Title(), ", host nginx1: nothing has changed") {
		t.Error(m.Since.Title())
	}
	m.Rows = slices.Clone(m.Rows)
	m.Rows[3].Status, m.Rows[3].Reason = migrate.Manual, "irule" // its name is loaded
	m.Rows[3].VLAN = loaded
	err := m.Compare("old.json", doc.Bytes())
	if err != nil || len(m.Since.Changes) != 2 {
		t.Fatal(m.Since, err)
	}
	for _, write := range []error{m.Text(&text, Style{}), m.HTML(&page), m.Markdown(&ticket),
		m.JSON(&after)} {
		if write != nil {
			t.Fatal(write)
		}
	}
	if strings.Contains(page.String(), "<script>alert") {
		t.Error("a name is code of the page")
	}
	for _, s := range []string{text.String(), page.String(), ticket.String()} {
		if strings.ContainsAny(s, "\x1b\u202e") {
			t.Error("a name reaches the terminal")
		}
		if !strings.Contains(strings.Join(strings.Fields(s), " "), "1 new, 1 gone") {
			t.Errorf("does not say what has changed:\n%s", s)
		}
	}
	if !strings.Contains(after.String(), `"change": "gone"`) ||
		strings.Contains(after.String(), "null") {
		t.Error(after.String())
	}
}

// TestMigrationCompareRefuses: a document that is no earlier report is an error
// that says how to make one.
func TestMigrationCompareRefuses(t *testing.T) {
	var doc bytes.Buffer
	m := smallMigration()
	if err := m.JSON(&doc); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", "null", "[]", `"x"`, "{}", doc.String() + "x",
		`{"version": 1, "kind": "plan", "virtuals": []}`,
		`{"version": 2, "kind": "migrate", "virtuals": []}`,
		`{"version": 1, "kind": "migrate"}`,
		`{"version": 1, "kind": "migrate", "virtuals": null}`,
		`{"version": 1, "kind": "migrate", "virtuals": {}}`,
		`{"version": 1, "kind": "migrate", "virtuals": [{"virtual": "x"}]}`,
		`{"version": 1, "kind": "migrate", "virtuals": [{"virtual": "x", "status": "fine"}]}`,
		`{"version": 1, "kind": "migrate", "virtuals": [{"status": "ready"}]}`} {
		err := m.Compare("bad.json", []byte(bad))
		if err == nil || !strings.HasPrefix(err.Error(), "bad.json: ") ||
			!strings.Contains(hint.Of(err), "migrate FILE... -o json") {
			t.Errorf("%.80s: %v", bad, err)
		}
	}
}
