package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"lasthop/bigip/migrate"
	"lasthop/routing"
)

// smallMigration has a row of each status, names that mean something to each
// format, and a step of each kind.
func smallMigration() Migration {
	return Migration{
		Head: Head{Lasthop: "1.2.3", Host: "nginx1", Kernel: "6.12.0",
			Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Inputs: []Input{{File: "lb1.ucs", SHA256: strings.Repeat("a", 64),
				Main: true}}},
		BIGIP: BIGIP{Hostname: "lb1.example.com", Version: "15.1.8", Global: "enabled",
			GlobalFrom: "F5's default", Stanzas: 42, Named: 1},
		Result: migrate.Result{Rows: smallRows(),
			Findings: []routing.Finding{
				{Code: "irule", Severity: routing.Error, Subject: "/Common/admin", Message: "an iRule sets the way", Hint: "read it", Origin: "bigip.conf:3"},
				{Code: "no-gateway", Severity: routing.Warning, Subject: "VLAN /Common/dmz, eth2, IPv4", Message: "nobody names the router", Hint: "--gateway eth2=ADDR", Origin: "bigip_base.conf:9"},
				{Code: "snat", Severity: routing.Info, Subject: loaded, Message: "translated"},
			},
			Flags:    []string{"--gateway eth2=ADDR"},
			Settings: "interfaces:\n  eth2:\n    gateways: []\n",
			Steps: []migrate.Step{
				{Phase: "prepare", Title: "find out the routers", Notes: []string{"IPv4 of eth2"}},
				{Phase: "prepare", Where: "nginx.conf", Title: "listen", Lines: []string{"listen 10.0.1.53:53 udp;"}},
				{Phase: "cut-over", Where: "host", Title: "take over", Lines: []string{"ip address add 10.0.1.100/32 dev eth1", "ip address add 10.0.1.101/32 dev '" + loaded + "'"}},
				{Phase: "roll-back", Where: "big-ip", Title: "serve again", Lines: []string{"tmsh modify ltm virtual-address /Common/10.0.1.100 arp enabled enabled yes"}},
			},
		},
	}
}

// smallRows has a row of each status.
func smallRows() (rows []migrate.Row) {
	row := migrate.Row{Virtual: "/Common/web", Origin: "bigip.conf:9",
		Destination: "/Common/10.0.1.100:443", Address: "10.0.1.100", Port: "443",
		Protocol: "tcp", VLAN: "/Common/external",
		Return: "last-hop", Level: "global", Value: "enabled", Match: "exact",
		Listen: "10.0.1.100:443", ListenOrigin: "nginx.conf:3", Interface: "eth1",
		Gateway:       "10.0.1.1",
		GatewaySource: "default route in main", Status: "ready",
		Before: "back to the router that asked, on /Common/external",
		After:  "eth1 via 10.0.1.1"}
	add := func(change func(*migrate.Row)) {
		r := row
		change(&r)
		rows = append(rows, r)
	}
	add(func(*migrate.Row) {})
	add(func(r *migrate.Row) { // the same virtual server, on another VLAN
		r.VLAN, r.Status, r.Reason, r.Remedy = "/Common/dmz", "needs-input", "other-vlan",
			"--return eth1=strict"
	})
	add(func(r *migrate.Row) {
		r.Virtual, r.Status, r.Reason, r.Return, r.Remedy = "/Common/admin", "manual",
			"irule", "irule", "read it"
	})
	add(func(r *migrate.Row) {
		r.Virtual, r.Status, r.Reason, r.Also, r.After = "/Common/"+loaded, "needs-input",
			"no-gateway", []string{"no-listener"}, "not known"
	})
	add(func(r *migrate.Row) {
		*r = migrate.Row{Virtual: "/Common/old", Origin: "bigip.conf:99", Port: "any",
			Protocol: "any", Status: "not-applicable", Reason: "disabled",
			Before: "disabled by ltm virtual /Common/old"}
	})
	return rows
}

// loaded is a name that means something to terminals, HTML, spreadsheets,
// Markdown and shells.
const loaded = "\x1b[31m\u202e=1+1,<script>alert(1)</script>|`x`"

func TestMigrationText(t *testing.T) {
	var b bytes.Buffer
	if err := smallMigration().Text(&b, Style{}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	wantInOrder(t, text, "lasthop migrate on nginx1",
		"4 virtual servers: 1 manual, 2 need input, 1 not applicable; 2 relied",
		"In the way: irule (1), no-gateway (1), other-vlan",
		"Manual (1)", "Need input (2)", "other-vlan; external = eth1: eth1 via 10.0.1.1",
		"no-gateway, no-listener", "Not applicable (1)", "error: irule",
		"Before the cut-over",
		"1. Find out the routers", "2. In nginx.conf: listen",
		"       listen 10.0.1.53:53 udp;", "Cut-over", "Roll-back",
		"On the BIG-IP: serve again")
	if strings.ContainsAny(text, "\x1b\u202e") {
		t.Error("a name reaches the terminal")
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(line)) - 1; n > 80 && !strings.Contains(line, "tmsh") &&
			!strings.Contains(line, "script") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestMigrationNeedsInput: a virtual server needs input, two need it.
func TestMigrationNeedsInput(t *testing.T) {
	m := smallMigration()
	m.Rows = m.Rows[:2]
	wantInOrder(t, textOf(t, m, Style{}), "1 virtual server: 1 needs input;",
		"Needs input (1)")
}

// TestMigrationDecided: the first lines of each format say which clients are
// not answered because of a decision, and the row says what was decided.
func TestMigrationDecided(t *testing.T) {
	const lost, only = "clients that come in by VLAN /Common/dmz",
		"only if no client comes in by VLAN /Common/dmz"
	m := smallMigration()
	m.Rows = m.Rows[:1]
	plain := m.Rows[0]
	plain.Virtual = "/Common/plain"
	m.Rows = append(m.Rows, plain)
	m.Rows[0].Decided, m.Rows[0].Loses = only, lost
	var text, markdown, html, csv, doc bytes.Buffer
	for _, err := range []error{m.Text(&text, Style{}), m.Markdown(&markdown), m.HTML(&html),
		m.CSV(&csv), m.JSON(&doc)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const byDecision = "By decision, these clients get replies by another path than " +
		"their requests:"
	verdict := "2 virtual servers: 2 ready, 1 of these by a decision; 2 relied on the " +
		"last hop. " + byDecision + " " + lost + " (1 virtual server)."
	wantInOrder(t, text.String(), verdict, "Ready by a decision (1)", "web", "loses: "+lost,
		"Ready (1)", "plain")
	wantInOrder(t, markdown.String(), byDecision,
		"## Virtual servers", "loses: clients")
	head, body, found := strings.Cut(html.String(), "<main")
	if !found {
		t.Fatal("no main part")
	}
	wantInOrder(t, head+body[:strings.Index(body, "virtuals-title")],
		byDecision+" "+lost)
	wantInOrder(t, body, "by a decision", "Not answered: "+lost)
	wantInOrder(t, csv.String(), "decided,loses", only+","+lost)
	wantInOrder(t, doc.String(), `"decided": 1`, `"decided": "`+only, `"loses": "`+lost)
}

// wantInOrder looks for parts of a text, each behind the one before, whatever
// is between words.
func wantInOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		at := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(part), " ",
			`\s+`)).FindStringIndex(text)
		if at == nil {
			t.Errorf("there is no %q, in its place, in\n%s", part, text)
			continue
		}
		text = text[at[1]:]
	}
}

// TestMigrationJSON: rows that are written one by one make the document that
// they make as a whole.
func TestMigrationJSON(t *testing.T) {
	rows := smallRows()
	rows[0].Virtual += `"virtuals": [], ü \ <&>`
	for n := range len(rows) + 1 {
		m := smallMigration()
		m.Rows = rows[:n]
		var got, want bytes.Buffer
		var doc migrationDoc
		if err := m.JSON(&got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if err := encode(&want, doc); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() || len(doc.Virtuals) != n {
			t.Errorf("%d rows: got\n%s\nwant\n%s", n, got.String(), want.String())
		}
		if strings.ContainsAny(got.String(), "\x1b\u202e") {
			t.Errorf("%d rows: characters that nobody sees: %q", n, got.String())
		}
		if err := m.JSON(closedPipe{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestMigrationCSV(t *testing.T) {
	m := smallMigration()
	var b bytes.Buffer
	if err := m.CSV(&b); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(records) != len(m.Rows)+1 {
		t.Fatalf("%d records, %v, want %d", len(records), err, len(m.Rows)+1)
	}
	for _, record := range records {
		for _, cell := range record {
			if strings.ContainsAny(cell, "\x1b\u202e") || cell != "" &&
				strings.ContainsRune("=+-@", rune(cell[0])) {
				t.Errorf("the cell %q means something", cell)
			}
		}
	}
	if got := strings.Join(records[2][16:21], ","); got !=
		"false,needs-input,other-vlan,,'--return eth1=strict" {
		t.Errorf("present to remedy: %s", got)
	}
}

func TestMigrationMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := smallMigration().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	wantInOrder(t, text, "# Migration of `lb1.example.com` to `nginx1`",
		"| manual | `/Common/admin`", "| needs-input |", "| ready | `/Common/web`",
		"## Before the cut-over",
		"```nginx\n   listen 10.0.1.53:53 udp;", "## Cut-over", "## Roll-back")
	outside := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	if strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(outside, "|`x`") {
		t.Errorf("a name means something in\n%s", text)
	}
}

func TestPageOfMigration(t *testing.T) {
	m := smallMigration()
	m.Plan = smallPlan(t).Plan
	tab := open(t, browser(t), m)
	tab.equal("rows", len(m.Rows), len(tab.column(0)))
	tab.equal("drawings", 1,
		eval[int](tab, `document.querySelectorAll("svg.drawing g.path path.before").length && document.querySelectorAll("svg.drawing").length`))
	tab.equal("gravest first", "/Common/admin", tab.column(0)[0])
	tab.equal("findings", len(m.Findings),
		eval[int](tab, `document.querySelectorAll("#findings li").length`))
	tab.equal("steps", len(m.Steps),
		eval[int](tab, `document.querySelectorAll("#steps h3 ~ p:not(.at)").length`))
	tab.equal("tiles", []string{"4", "1", "2", "0", "1", "0", "2"}, eval[[]string](tab,
		`[...document.querySelectorAll(".tile dd")].map(x => x.textContent)`))
	tab.equal("scripts of names", 1, eval[int](tab, `document.scripts.length`))
	tab.find("dmz")
	tab.equal("found", "1 of 5 rows shown", tab.shown())
	tab.click("[type=reset]")
	tab.click("[value=needs-input]")
	tab.equal("without needs-input", 3, len(tab.column(0)))
	tab.click("[type=reset]")
	tab.click("#virtuals th button")
	tab.equal("sorted by name", "/Common/web", tab.column(0)[len(m.Rows)-1])
	tab.contrast("light")
	tab.headings()
	tab.picture("migrate-light")
	tab.media("screen", "dark")
	tab.contrast("dark")
	tab.picture("migrate-dark")
	tab.media("screen", "light")
	tab.do(chromedp.EmulateViewport(600, 900))
	if wide := eval[int](tab, `document.documentElement.scrollWidth`); wide > 600 {
		t.Errorf("the page is %d wide in a window of 600", wide)
	}
}

func BenchmarkMigrationHTML(b *testing.B) {
	m := smallMigration()
	one := m.Rows[0]
	m.Rows = nil
	for i := range 5000 {
		one.Virtual = fmt.Sprintf("/Common/virtual_%d", i)
		m.Rows = append(m.Rows, one)
	}
	var buf bytes.Buffer
	for b.Loop() {
		buf.Reset()
		if err := m.HTML(&buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(buf.Len()), "bytes")
}

// TestVirtualsOnce: text lists each virtual server once, by its gravest row,
// however many there are.
func TestVirtualsOnce(t *testing.T) {
	var m Migration
	for i := range 3000 {
		own := migrate.Row{Virtual: fmt.Sprint("/Common/vs", i), Address: "10.0.0.1",
			Port: fmt.Sprint(1 + i), Protocol: "tcp", VLAN: "/Common/net0",
			Interface: "eth0", Status: migrate.Ready, After: "eth0 via 10.0.0.254"}
		other := own
		other.VLAN, other.Interface = "other VLANs (29)", ""
		other.Status, other.Reason = migrate.NeedsInput, "other-vlan"
		m.Rows = append(m.Rows, own)
		if i%2 == 0 {
			m.Rows = append(m.Rows, other)
		}
	}
	var b strings.Builder
	if err := m.Text(&b, Style{}); err != nil {
		t.Fatal(err)
	}
	text, words := b.String(), strings.Join(strings.Fields(b.String()), " ")
	for i := range 3000 {
		if n := strings.Count(text, fmt.Sprintf("  vs%d ", i)); n != 1 {
			t.Fatalf("vs%d stands %d times in\n%.1000s", i, n, text)
		}
	}
	for _, want := range []string{"Need input (1,500): ", "Ready (1,500): ",
		"other-vlan; net0 = eth0: eth0 via 10.0.0.254"} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%.1000s", want, text)
		}
	}
}
