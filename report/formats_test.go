package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
	"lasthop/routing/sim"
)

func smallPlan(t testing.TB) Plan {
	a, b, c := listener("10.0.1.100", 443), listener("2001:db8:1::100", 443),
		listener("10.0.0.10", 80)
	a.Servers, b.Servers, c.Servers = []string{"www.example.org", "example.org"},
		[]string{"www.example.org", "example.org"}, []string{"status.example.org"}
	return makePlan(t, a, b, c)
}

// bigHost are the links and routes of bigPlan.
func bigHost() *strings.Builder {
	var host strings.Builder
	for i := range 5 {
		fmt.Fprintf(&host, "link add eth%d type veth\nlink set eth%d up\n"+
			"addr add 10.0.%d.5/22 dev eth%d\naddr add 2001:db8:%d::5/64 dev eth%d\n",
			i, i, 4*i, i, i, i)
		if i < 4 {
			fmt.Fprintf(&host, "route add default via 10.0.%d.1 dev eth%d metric %d\n"+
				"-6 route add default via 2001:db8:%d::1 dev eth%d metric %d\n",
				4*i, i, 100*i, i, i, 1024+i)
		}
	}
	host.WriteString("link add wg0 type wireguard\nlink set wg0 up\n" +
		"addr add 10.99.0.1/24 dev wg0\nroute add 16.0.0.0/5 dev wg0\n" +
		"rule add pref 90 from 10.0.12.0/22 lookup 100\n" +
		"route add default via 10.0.12.1 dev eth3 table 100\n" +
		"route add 10.0.12.0/22 dev eth3 table 100\n" +
		"route add 10.0.16.0/22 dev eth4 table 100\n" +
		"route add 10.99.0.0/24 dev wg0 table 100\n")
	return &host
}

// bigList collects the listeners of bigPlan, ten to a file.
type bigList []routing.Listener

func (list *bigList) add(addr string, port uint16) *routing.Listener {
	l, n := listener(addr, port), len(*list)
	l.Servers = []string{fmt.Sprintf("shop-%04d.example.org", n)}
	l.Origins = []string{fmt.Sprintf("/etc/nginx/conf.d/shop-%04d.conf:%d", n/10, 3+n%10*12)}
	*list = append(*list, l)
	return &(*list)[n]
}

// bigPlan has more than 3,000 listeners of every status on eight paths of both
// families, and findings of every severity but error.
func bigPlan(t testing.TB) Plan {
	host := bigHost()
	var list bigList
	for i := range 4 {
		for j := range 350 {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(4*i + j/250),
				byte(j%250 + 2)}).String()
			fmt.Fprintf(host, "addr add %s/22 dev eth%d\n", addr, i)
			list.add(addr, 80)
			list.add(addr, 443)
			if i == 1 && j < 50 {
				fmt.Fprintf(host, "addr add 2001:db8:%d::%x/64 dev eth%d\n",
					i, 0x100+j, i)
				list.add(fmt.Sprintf("2001:db8:%d::%x", i, 0x100+j), 443)
			}
		}
	}
	for i := range 60 {
		// armed: in eth0's prefix, not here
		list.add(fmt.Sprintf("10.0.2.%d", i+100), 443)
		list.add(fmt.Sprintf("2001:db8:2::a:%x", i+16), 443)
		list.add(fmt.Sprintf("203.0.113.%d", i+1), 443) // no package's
	}
	list.add("10.0.16.5", 443) // eth4 has no gateway
	list.add("127.0.0.1", 8080)
	list.add("10.99.0.1", 8443)
	list.add("10.0.5.30", 8000).Ports.Last = 8005
	list.add("10.0.5.30", 53).Transport = routing.UDP
	for i := range 40 {
		list[0].Servers = append(list[0].Servers, fmt.Sprintf("www%d.example.com", i))
	}
	list[0].Servers = append(list[0].Servers, "hidden-name.example")
	p := makePlanFor(t, host.String(), list...)
	p.Inputs = p.Inputs[:1]
	for i := range len(list)/10 + 1 {
		p.Inputs = append(p.Inputs,
			Input{File: fmt.Sprintf("/etc/nginx/conf.d/shop-%04d.conf", i),
				SHA256: fmt.Sprintf("%064x", i)})
	}
	return p
}

// hostileNames are what a configuration or a capture may call a thing.
var hostileNames = []string{
	`=cmd|' /C calc'!A0`, `+1+cmd|' /C calc'!A0`, "-2+3", "@SUM(1+1)", "\t=1+1", "\r=1+1", `x";=1+1`, "x,@SUM(1)", "＝1+1",
	`<script>owned=1</script>`, `"><img src=x onerror=owned=1>`, `'><svg onload=owned=1>`, `</script><script>owned=1</script>`,
	`</title><script>owned=1</script>`, `</style><script>owned=1</script>`, `--><script>owned=1</script>`, `javascript:owned=1`, `{{.}}`, `${owned=1}`,
	"\x1b[31mred\x1b]0;owned\x07", "\x9b31m", "evil\u202egnp.exe", "\u2066isolated", "zero\u200bwidth", "tag\U000e0041", "\xff\xfe",
	"a|b|c", "`code` ```", "[link](javascript:owned)", "![x](http://evil.example/x.png)", "*bold* _em_ ~~gone~~ # head", "@everyone #1", "http://evil.example/ www.evil.example",
	"two\nlines\n\n# head\n- item", `back\slash\|pipe`, "&lt;script&gt;", "$(reboot)", "'; reboot; '",
}

// hostilePlan carries the names wherever a name can come from.
func hostilePlan(t testing.TB) Plan {
	var list []routing.Listener
	for i, name := range hostileNames {
		l := listener("10.0.1.100", uint16(1000+i))
		l.Servers, l.Origins, l.Listen, l.Context = []string{name, name},
			[]string{name}, name, name
		list = append(list, l)
	}
	p := makePlan(t, list...)
	p.Inputs, p.Plan.Findings = nil, nil
	all := strings.Join(hostileNames, " ")
	p.Host, p.Kernel, p.Lasthop, p.Next = all, all, all, all
	p.Proof = &Proof{Proof: routing.Proof{Kernel: all, NotRebuilt: hostileNames}, Unproved: all}
	for _, name := range hostileNames {
		p.Proof.Differences = append(p.Proof.Differences,
			routing.Difference{When: routing.AfterApply, Subject: name,
				Want: name, Got: name})
	}
	link := func(s *string) { *s = strings.ReplaceAll(hostileNames[len(*s)%3]+all, "\n", "") }
	for i, name := range hostileNames {
		p.Inputs = append(p.Inputs, Input{File: name, SHA256: "00", Main: true})
		p.Plan.Findings = append(p.Plan.Findings, routing.Finding{Code: routing.Code(name),
			Severity: routing.Severity([]string{"error", "warning", "info"}[i%3]),
			Subject:  name, Message: name, Hint: name, Origin: name})
	}
	for i := range p.Plan.Paths {
		link(&p.Plan.Paths[i].Link)
		for j := range p.Plan.Paths[i].Hops {
			link(&p.Plan.Paths[i].Hops[j].Link)
		}
		p.Plan.Paths[i].Detail = all
	}
	for i := range p.Plan.Outcomes {
		o := &p.Plan.Outcomes[i]
		link(&o.Link)
		o.Before.Link, o.After.Link = hostileNames[i], hostileNames[i]
		o.Before.More = hostileNames[i]
	}
	for i := range p.Diff.AddRules {
		p.Diff.AddRules[i].OIF = strings.ReplaceAll(strings.ReplaceAll(all, " ", ""), "\n",
			"")
	}
	return p
}

// formats are all that a plan can be written as.
func formats() map[string]func(Plan, io.Writer) error {
	return map[string]func(Plan, io.Writer) error{
		"text": func(p Plan, w io.Writer) error { return p.Text(w, Style{}) }, "json": Plan.JSON, "html": Plan.HTML, "csv": Plan.CSV, "markdown": Plan.Markdown,
		"iproute2": func(p Plan, w io.Writer) error { return Script(w, p, p.Back) },
	}
}

// written is the plan in a format.
func written(t testing.TB, format string, p Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := formats()[format](p, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHostileNames: no format lets a name act on a terminal, a browser, a
// spreadsheet or a ticket. TestHostilePage asks a browser about the page, and
// TestScriptQuotes a shell about the script.
func TestHostileNames(t *testing.T) {
	p := hostilePlan(t)
	for name := range formats() {
		out := written(t, name, p)
		if name == "json" { // JSON escapes control characters itself, and is for programs
			if i := strings.IndexFunc(out, func(r rune) bool {
				return r < ' ' && r != '\n'
			}); i >= 0 || !utf8.ValidString(out) {
				t.Errorf("json: a control character at %q",
					out[max(i-20, 0):max(i, 0)+20])
			}
			continue
		}
		for line := range strings.Lines(out) {
			line = strings.Trim(line, "\n\t")
			if i := strings.IndexFunc(line, func(r rune) bool { return !safe(r) }); i >=
				0 || !utf8.ValidString(line) {
				t.Errorf("%s: an unsafe character in %q", name, line)
			}
		}
	}
}

func TestCSV(t *testing.T) {
	p := smallPlan(t)
	want := `address,port,last_port,transport,context,listen,servers,origins,interface,status,reason,before_type,before_interface,before_gateway,before_table,before_more,after_type,after_interface,after_gateway,after_table,after_more
10.0.1.100,443,,tcp,http,10.0.1.100,www.example.org example.org,nginx.conf:3,eth1,ready,,,eth0,10.0.0.1,254,,,eth1,10.0.1.1,20431,
2001:db8:1::100,443,,tcp,http,2001:db8:1::100,www.example.org example.org,nginx.conf:3,eth1,ready,,,eth0,2001:db8::1,254,,,eth1,2001:db8:1::1,20431,
10.0.0.10,80,,tcp,http,10.0.0.10,status.example.org,nginx.conf:3,eth0,ready,,,eth0,10.0.0.1,254,,,eth0,10.0.0.1,20812,
`
	if d := cmp.Diff(want, written(t, "csv", p)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestCSVHostile reads the lines as a spreadsheet may, with each of the
// separators that one takes: no cell is a formula.
func TestCSVHostile(t *testing.T) {
	out := written(t, "csv", hostilePlan(t))
	for _, comma := range []rune{',', ';', '\t', '|'} {
		for _, quotes := range []bool{true, false} {
			var cells []string
			if quotes {
				r := csv.NewReader(strings.NewReader(out))
				r.Comma, r.LazyQuotes, r.FieldsPerRecord = comma, true, -1
				records, err := r.ReadAll()
				if err != nil {
					t.Fatal(err)
				}
				cells = slices.Concat(records...)
			} else {
				cells = strings.FieldsFunc(out, func(r rune) bool {
					return r == comma || r == '\n'
				})
			}
			for _, c := range cells {
				if c = strings.TrimLeft(c, `" `); c != "" &&
					strings.ContainsRune("=+-@＝＋－＠\t\r", []rune(c)[0]) {
					t.Errorf("separator %q, quotes %t: a cell is %q",
						comma, quotes, c)
				}
			}
		}
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(records) != len(hostileNames)+1 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func TestMarkdown(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80), listener("10.0.1.100", 443),
		listener("192.0.2.9", 80))
	got := written(t, "markdown", p)
	want := "# Return routes for NGINX on `web1`\n\n" +
		"6 changes: 2 of 3 listeners will reply the way their requests come in. " +
		"Without lasthop, 2 reply another way to clients behind a router. " +
		"1 listener is unresolved: the findings say " +
		"what lasthop must know. Findings: 1 warning.\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("begins\n%s\nwant\n%s", got, want)
	}
	for _, part := range []string{
		"| `10.0.1.100` | 80, 443 | `eth1` | ready | eth0 via 10.0.0.1 -> eth1 via 10.0.1.1 |\n",
		"| `192.0.2.9` | 80 | - | unresolved | eth0 via 10.0.0.1 (no-owner) |\n",
		"| `eth1` | IPv4 | 10.0.1.1, from main's default | 20431 | 10.0.1.0/24 | 2 listeners | eth0 via 10.0.0.1 | eth1 via 10.0.1.1 |\n",
		"- **warning** `no-owner` `192.0.2.9`: 192.0.2.9 is on no interface and in no " +
			"uplink's subnet\n  - " +
			"at `nginx.conf:3`\n  - do `name the interface: --address 192.0.2.9=IF`\n",
		"\n## Undo (", "\nip rule del pref ", "| `/etc/nginx/nginx.conf` | `00` |\n",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("lacks %q:\n%s", part, got)
		}
	}
	long := written(t, "markdown", bigPlan(t))
	if lines := strings.Count(long, "\n"); lines > 400 ||
		!strings.Contains(long, "more addresses; all of them with") {
		t.Errorf("%d lines for 3,000 listeners", lines)
	}
}

// TestMoves: texts for people name the clients nearby whose replies move, and
// have no such list if none move.
func TestMoves(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	for format, want := range map[string]string{
		"text": "  eth1  other LAN  10.0.0.0/24  eth0, on-link -> eth1 via 10.0.1.1\n",
		"html": `<tr><th scope="row">eth1</th><td>other LAN</td><td>10.0.0.0/24</td>` +
			`<td>eth0, on-link</td><td>eth1 via 10.0.1.1</td></tr>`,
		"markdown": "| `eth1` | other LAN | 10.0.0.0/24 | eth0, on-link | eth1 via 10.0.1.1 |\n",
	} {
		if out := written(t, format, p); !strings.Contains(out, want) {
			t.Errorf("%s lacks %q:\n%s", format, want, out)
		}
		if out := written(t, format, makePlan(t, listener("192.0.2.9", 80))); strings.
			Contains(out, "nearby") {
			t.Errorf("%s speaks of clients whose replies do not move", format)
		}
		installed := p
		installed.Diff = routing.Diff{}
		if out := written(t, format, installed); !strings.Contains(out, "lasthop moves") ||
			strings.Contains(out, "replies move") {
			t.Errorf("%s moves what is installed:\n%s", format, out)
		}
	}
}

// TestProofFormats: the page and the ticket say what a kernel says to the plan,
// and nothing of it where none was asked.
func TestProofFormats(t *testing.T) {
	p := smallPlan(t)
	for _, format := range []string{"html", "markdown"} {
		if out := written(t, format, p); strings.Contains(out, "roved") {
			t.Errorf("%s speaks of a proof that nobody asked for", format)
		}
	}
	p.Proof = &Proof{Proof: routing.Proof{Kernel: "6.18.0", Addresses: 3,
		Clients: 9, Asked: 18}}
	for format, want := range map[string]string{
		"html":     `<p class="verdict good">Proved by the kernel (Linux 6.18.0): 3 addresses, 9 client groups, before and after: 18 answers, all as planned</p>`,
		"markdown": "\n## Proof\n\nProved by the kernel (Linux 6.18.0): 3 addresses, 9 client groups, before and after: 18 answers, all as planned\n",
	} {
		if out := written(t, format, p); !strings.Contains(out, want) {
			t.Errorf("%s lacks %q", format, want)
		}
	}
	p.Proof.Differences = []routing.Difference{{When: routing.AfterApply,
		Subject: "10.0.1.100 to 198.51.100.1", Want: "eth1", Got: "eth0"}}
	for format, want := range map[string]string{
		"html":     `<ul class="lines"><li><code>after, 10.0.1.100 to 198.51.100.1: eth0, not eth1</code></li></ul>`,
		"markdown": "\nDifferences:\n\n- `after, 10.0.1.100 to 198.51.100.1: eth0, not eth1`\n",
	} {
		if out := written(t, format, p); !strings.Contains(out, "Do not apply this") {
			t.Errorf("%s does not warn", format)
		}
		if out := written(t, format, p); !strings.Contains(out, want) {
			t.Errorf("%s lacks %q", format, want)
		}
	}
}

// TestMarkdownHostile removes code spans and blocks: the remaining text is
// lasthop's, and every row has the cells of its table.
func TestMarkdownHostile(t *testing.T) {
	out := written(t, "markdown", hostilePlan(t))
	span := regexp.MustCompile("``+ [^\n]*? ``+|`[^`\n]*`") // of commands, of names
	cells, code := 0, false
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if code || strings.HasPrefix(line, "```") {
			continue
		}
		if i := strings.Index(strings.TrimPrefix(span.ReplaceAllString(line, ""), "# "),
			"\\"); i >= 0 {
			t.Errorf("an escape outside of code: %q", line)
		}
		left := strings.TrimLeft(span.ReplaceAllString(line, "x"), "#")
		if strings.ContainsAny(left, "<>`[]@#~$&{}!") && !strings.Contains(left, "->") ||
			strings.Contains(left, "://") || strings.Contains(left, "www.") {
			t.Errorf("more than words outside of code: %q", left)
		}
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			cells = 0
		case cells != 0 && n != cells:
			t.Errorf("a row of %d cells in a table of %d: %q", n-1, cells-1, line)
		default:
			cells = n
		}
	}
	if code {
		t.Error("a code block does not end")
	}
}

// TestHTMLSize: a page of 3,000 listeners none of which has a way, each with
// its finding, is within the limit too.
func TestHTMLSize(t *testing.T) {
	var list []routing.Listener
	for i := range 3000 {
		l := listener(fmt.Sprintf("2001:db8:ffff:%x::%x", i/100+1, i+0x1000), 443)
		l.Servers = []string{fmt.Sprintf("customer-%04d.shop.example.org", i)}
		l.Origins = []string{fmt.Sprintf("/etc/nginx/sites-enabled/customer-%04d.conf:12",
			i)}
		list = append(list, l)
	}
	p := makePlan(t, list...)
	out := written(t, "html", p)
	if n := len(p.Plan.Findings); n < 3000 {
		t.Errorf("%d findings", n)
	}
	if len(out) > 2_000_000 {
		t.Errorf("%d bytes, want less than 2 MB", len(out))
	}
	t.Logf("3,000 unresolved listeners: %d bytes", len(out))
}

// uplinksPlan is the plan of a host with n uplinks.
func uplinksPlan(t *testing.T, n int) Plan {
	var host strings.Builder
	var list []routing.Listener
	for i := range n {
		fmt.Fprintf(&host, "link add eth%d type veth\nlink set eth%d up\n"+
			"addr add 10.%d.0.10/24 dev eth%d\nroute add default via 10.%d.0.1 dev "+
			"eth%d metric %d\n", i, i, i, i, i, i, i)
		list = append(list, listener(fmt.Sprintf("10.%d.0.10", i), 443))
	}
	return makePlanFor(t, host.String(), list...)
}

// TestDrawingsOfMany: every path is drawn once, and no drawing is longer than a
// page.
func TestDrawingsOfMany(t *testing.T) {
	p := uplinksPlan(t, 35)
	all := drawings(bundles(p.Plan))
	paths := map[string]int{}
	for _, d := range all {
		if d.Height > 1500 {
			t.Errorf("drawing %d is %d high", d.ID, d.Height)
		}
		for _, x := range d.Paths {
			paths[x.Link]++
			if len(x.Lines) != 3 {
				t.Errorf("%s has %d lines", x.Link, len(x.Lines))
			}
		}
	}
	if len(all) != 4 || len(paths) != 35 {
		t.Errorf("%d drawings of %d paths", len(all), len(paths))
	}
	for link, n := range paths {
		if n != 1 {
			t.Errorf("%s is drawn %d times", link, n)
		}
	}
}

func TestTakes(t *testing.T) {
	one, two := netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.2")
	single := routing.Path{Link: "eth1",
		Hops: []routing.Hop{{Link: "eth1", Via: one, OnLink: true}}}
	double := routing.Path{Link: "eth1",
		Hops: []routing.Hop{{Link: "eth1", Via: one}, {Link: "eth1", Via: two}}}
	for _, tt := range []struct {
		name string
		path routing.Path
		way  routing.Way
		want bool
	}{
		{"its gateway", single, routing.Way{Type: routing.Unicast, Link: "eth1", Via: one}, true},
		{"another", single, routing.Way{Type: routing.Unicast, Link: "eth1", Via: two}, false},
		{"half of them", single, routing.Way{Type: routing.Unicast, Link: "eth1", Via: one, More: "eth0 via 10.0.0.1"}, false},
		{"both", double, routing.Way{Type: routing.Unicast, Link: "eth1", Via: one, More: "eth1 via 10.0.1.2"}, true},
		{"one of both", double, routing.Way{Type: routing.Unicast, Link: "eth1", Via: two}, true},
		{"none", single, routing.Way{}, false},
		{"rejected", single, routing.Way{Type: routing.Unreachable}, false},
	} {
		if got := takes(tt.path, tt.way); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// bundleLines names the listeners of each path.
func bundleLines(p routing.Plan) string {
	lines := "\n"
	for _, b := range bundles(p) {
		gateway := "not known"
		if b.path != nil {
			gateway = gatewayName(*b.path)
		}
		lines += b.link + " via " + gateway + ": " +
			strings.Join(mapped(b.listeners, func(o routing.Outcome) string {
				return o.Addr.String() + " " + string(o.Status)
			}), ", ") + "\n"
	}
	return lines
}

// TestBundles: each listener is at its own path, also where no path is
// installed and its replies take that of another.
func TestBundles(t *testing.T) {
	const host = twoUplinks + `
addr add 10.0.2.100/24 dev eth1
addr add 10.0.2.101/24 dev eth1
link add eth2 type veth
link set eth2 up
addr add 10.0.3.100/24 dev eth2
`
	for _, tt := range []struct{ name, host, want string }{
		{"installed", host, `
eth0 via 10.0.0.1: 10.0.0.10 ready
eth1 via 10.0.1.1: 10.0.1.100 ready
eth1 via 10.0.2.1: 10.0.2.100 ready, 10.0.2.101 ready
eth1 via 2001:db8:1::1: 2001:db8:1::100 ready
 via not known: 192.0.2.9 unresolved
eth2 via not known: 10.0.3.100 unresolved
`},
		{"shadowed", host + "rule add pref 1 lookup 100\n" +
			"route add default via 10.0.0.1 dev eth0 table 100\n", `
eth0 via 10.0.0.1: 10.0.0.10 unchanged
eth1 via 10.0.1.1: 10.0.1.100 unresolved
eth1 via 10.0.2.1: 10.0.2.100 unresolved, 10.0.2.101 unresolved
eth1 via 2001:db8:1::1: 2001:db8:1::100 ready
 via not known: 192.0.2.9 unresolved
eth2 via not known: 10.0.3.100 unresolved
`},
	} {
		var list []routing.Listener
		for _, addr := range []string{"10.0.2.100", "10.0.1.100", "2001:db8:1::100",
			"192.0.2.9", "10.0.3.100", "10.0.0.10", "10.0.2.101", "127.0.0.1"} {
			list = append(list, listener(addr, 80))
		}
		s, err := sim.Parse(tt.host)
		if err != nil {
			t.Fatal(err)
		}
		pin := func(addr string) routing.GatewayPin {
			return routing.GatewayPin{Link: "eth1", Addr: netip.MustParseAddr(addr)}
		}
		made, err := routing.Decide(routing.Inputs{Host: s.Host, Listeners: list,
			Policy: routing.Policy{Numbers: routing.DefaultNumbers,
				Gateways: []routing.GatewayPin{pin("10.0.1.1"), pin("10.0.2.1")}}})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, bundleLines(made.Plan)); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct{ in, want string }{{"eth1", "eth1"},
		{"0123456789", "0123456789"}, {"0123456789a", "01234…789a"},
		{"éééééééééééé", "ééééé…éééé"}} {
		if got := shorten(tt.in, 10); got != tt.want {
			t.Errorf("shorten(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// copied are the lines that are commands, which stay whole so that they can be
// copied.
var copied = regexp.MustCompile(`^[ +~-] (ip|tc|lasthop|last-hop listener) `)

// wantWidth holds the lines of a text to 80 columns.
func wantWidth(t *testing.T, r Result) {
	t.Helper()
	for line := range strings.Lines(textOf(t, r, Style{})) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > 80 && !copied.MatchString(line) {
			t.Errorf("%T: %d columns: %s", r, n, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("%T: blanks at the end: %q", r, line)
		}
	}
}

// TestHostileWidth: 80 columns whatever names and messages are.
func TestHostileWidth(t *testing.T) {
	p := hostilePlan(t)
	p.Next, p.Digest = "lasthop apply", strings.Repeat("d", 64)
	all := strings.Repeat("0123456789/", 20)
	for i := range p.Plan.Findings {
		p.Plan.Findings[i].Hint = "" // a command in it stays whole
	}
	c := Check{Head: p.Head, Plan: p.Plan, Diff: p.Diff}
	verdicts := []Verdict{Symmetric, Asymmetric, NotKnown, NoGateway, NotHereWrong}
	for i, o := range p.Plan.Outcomes {
		c.Checks = append(c.Checks, Checked{Outcome: o, Now: o.Before, Want: all,
			Verdict: verdicts[i%5],
			Wrong:   []WrongClient{{Now: o.Before, Want: o.After}}})
	}
	s := makeStatus(t)
	s.Plan, s.Wrong, s.Detector, s.Host, s.Lasthop = p.Plan, hostileNames, all, all, all
	s.Masters[0].Conf, s.Last.Cause, s.Last.Error = all, all, all
	s.LastHop.Hops[0].Link, s.LastHop.Hops[0].StandIn = all, all
	a := Apply{Plan: p, Done: p.Diff.Ops(), Checks: c.Checks}
	o := seenExample()
	o.Findings = p.Plan.Findings
	for i := range o.Listeners {
		w := &o.Listeners[i].Ways[0]
		w.In.Link, w.Out.Link = all, all
	}
	for _, r := range []Result{p, c, s, a, o} {
		wantWidth(t, r)
	}
}

// TestTextWidth: 80 columns also for the longest addresses, gateways, ports and
// names of links.
func TestTextWidth(t *testing.T) {
	host := strings.ReplaceAll(strings.ReplaceAll(twoUplinks, "2001:db8:1::",
		"2001:db8:aaaa:bbbb:cccc:dddd:eeee:"), "eth1", "enp129s0f1np1.7")
	host = strings.ReplaceAll(host, "eeee:100/64", "eeee:1000/64")
	list := []routing.Listener{listener("10.0.1.100", 80),
		listener("2001:db8:aaaa:bbbb:cccc:dddd:eeee:1000", 80),
		listener("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 443),
		listener("203.0.113.200", 65535)}
	for i := range 5 {
		l := listener("2001:db8:aaaa:bbbb:cccc:dddd:eeee:1000", uint16(60000+10*i))
		l.Ports.Last, l.Transport = l.Ports.First+9, routing.UDP
		list = append(list, l)
	}
	p := makePlanFor(t, host, list...)
	p.Host, p.Inputs[0].File = strings.Repeat("host.", 12)+"org",
		"/etc/nginx/sites-enabled/"+strings.Repeat("x", 40)
	p.Inputs[1].Main = true
	wantWidth(t, p)
	out := textOf(t, p, Style{})
	for _, part := range []string{"2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", "enp129s0f1np1.7",
		"60000-60009/udp"} {
		if !strings.Contains(out, part) {
			t.Errorf("lacks %q:\n%s", part, out)
		}
	}
}

func BenchmarkHTML(b *testing.B) {
	p := bigPlan(b)
	for b.Loop() {
		if err := p.HTML(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
