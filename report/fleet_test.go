package report

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/routing"
	"lasthop/routing/capture"
	"lasthop/routing/sim"
)

// fleetOf plans for n captured hosts. Each is that of a scenario at addresses
// of its own; most are one of two kinds.
func fleetOf(t testing.TB, n int) Fleet {
	t.Helper()
	var hosts []FleetHost
	for i := range n {
		c := capturedHost{scenario: "strict-two-uplinks", number: i + 1, ports: 2}
		if i%5 == 4 {
			c.scenario, c.ports = "three-uplinks", 3
		}
		switch i + 1 {
		case 42:
			c.unknown = true
		case 117:
			c.returns = []string{"eth1=main-first"}
		case 163:
			c.more = "rule add pref 32765 lookup local\nrule del pref 0 lookup local\n"
		}
		hosts = append(hosts, readPlan(t, c.plan(t)))
	}
	f, err := NewFleet(Head{Lasthop: "v1", Time: time.Unix(1700000000, 0)}, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// capturedHost is the host of a scenario, moved to addresses of its own, where
// NGINX listens on every address.
type capturedHost struct {
	scenario string
	number   int    // of the host: its addresses are in 10.NUMBER.0.0/16
	ports    int    // from 443 on
	more     string // further lines of the host
	unknown  bool   // nothing says eth1's gateway
	returns  []string
}

func (h capturedHost) plan(t testing.TB) Plan {
	t.Helper()
	c := h.capture(t)
	flags := settings.Flags{Returns: h.returns}
	if !h.unknown {
		flags.Gateways = []string{fmt.Sprintf("eth1=10.%d.1.1", h.number)}
	}
	s, err := settings.Load(flags)
	if err != nil {
		t.Fatal(err)
	}
	d, err := routing.Decide(routing.Inputs{Host: c.Host, Listeners: c.Listens,
		Policy: s.Policy})
	if err != nil {
		t.Fatal(err)
	}
	return Plan{Head: Head{"v1", c.Host.Name, "6.1.0", c.Time, nil}, Plan: d.Plan,
		Diff: d.Diff, Digest: d.Digest()}
}

// capture returns what is read back of the host's capture.
func (h capturedHost) capture(t testing.TB) capture.Capture {
	t.Helper()
	archive, err := txtar.ParseFile("../testdata/scenario/" + h.scenario + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "host" })
	lines := strings.ReplaceAll(string(archive.Files[i].Data), "10.0.",
		fmt.Sprintf("10.%d.", h.number))
	s, err := sim.Parse(lines + h.more)
	if err != nil {
		t.Fatal(err)
	}
	c := capture.Capture{Version: capture.Version, Time: time.Unix(1700000000, 0), Host: s.Host}
	c.Host.Name = fmt.Sprintf("web%03d", h.number)
	for _, a := range s.Host.Addrs {
		for port := range uint16(h.ports) {
			c.Listens = append(c.Listens, listener(a.Prefix.Addr().String(), 443+port))
		}
	}
	data, err := capture.Encode(c)
	if err == nil {
		c, err = capture.Decode("host.json", data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// readPlan writes a plan as JSON and reads it.
func readPlan(t testing.TB, p Plan) FleetHost {
	t.Helper()
	var b bytes.Buffer
	err := p.JSON(&b)
	if err == nil {
		var h FleetHost
		if h, err = ReadPlan(p.Host+".json", b.Bytes()); err == nil {
			return h
		}
	}
	t.Fatal(err)
	panic("unreachable")
}

// TestFleet: of 200 hosts at addresses of their own, the three that differ are
// told, and in what.
func TestFleet(t *testing.T) {
	f := fleetOf(t, 200)
	var groups [][2]int
	for _, g := range f.Groups {
		groups = append(groups, [2]int{g.Hosts, g.Alike})
	}
	if d := cmp.Diff([][2]int{{160, 157}, {40, 40}}, groups); d != "" {
		t.Errorf("hosts of the groups, and those alike: -want +got\n%s", d)
	}
	got := map[string][]string{}
	for _, h := range f.attention() {
		key := fmt.Sprintf("%s %s %d %d", h.Host, h.Status, len(h.Errors),
			len(h.Unresolved))
		got[key] = mapped(h.Differs, Difference.String)
	}
	want := map[string][]string{
		"web042 unresolved 0 1": {
			"status on eth0: unchanged (group: ready)",
			"status on eth1: unresolved (no-gateway) (group: ready)",
			"gateway on eth1, IPv4: none (group: pinned)",
			"replies on eth1: eth0 -> eth0 (group: eth0 -> eth1)",
			"finding no-gateway: warning (group: none)",
			"finding static-elsewhere: info (group: none)",
			"changes: none to make (group: to make)"},
		"web117 differs 0 0": {"mode on eth1: main-first (group: strict)"},
		"web163 error 1 1": {
			"status on eth0: unchanged (group: ready)",
			"status on eth1: unresolved (shadowed) (group: ready)",
			"replies on eth1: eth0 -> eth0 (group: eth0 -> eth1)",
			"finding shadowed: error (group: none)",
			"changes: none to make (group: to make)"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if f.Wanted() {
		t.Error("nothing is wrong")
	}
	wantSchema(t, "fleet", f)
}

// TestFleetText: the verdict, each host with its reason and remedy, each remedy
// once, and the groups.
func TestFleetText(t *testing.T) {
	out := textOf(t, fleetOf(t, 60), Style{})
	for _, part := range []string{
		"60 hosts: 59 alike in 2 groups, 1 with differences. To look at: 1 host with",
		"\nHosts to look at (1)\n  web042: unresolved\n    4 listeners on eth1, no-gateway: " +
			"10.42.1.10:443/tcp, 10.42.1.10:444/tcp and\n    2 more\n",
		"\nWhat to do (1)\n  name the router of that interface: --gateway eth1=ADDR;",
		"\n    on web042\n\nlasthop help CODE explains a finding. Flags hold for",
		"\nGroups (2)\n  1  48 hosts, 47 alike\n       status on eth0: ready\n"} {
		if !strings.Contains(out, part) {
			t.Errorf("lacks %q:\n%s", part, out)
		}
	}
	var hosts []FleetHost
	for i := range 7 {
		c := capturedHost{scenario: "strict-two-uplinks", number: i + 1, ports: 1,
			unknown: i < 6}
		hosts = append(hosts, readPlan(t, c.plan(t)))
	}
	f, err := NewFleet(Head{}, hosts)
	if err != nil {
		t.Fatal(err)
	}
	out = textOf(t, f, Style{})
	if n := strings.Count(out, "name the router"); n != 1 || !strings.Contains(out,
		"\n    on web001, web002, web003, web004 and 2 more\n") {
		t.Errorf("the remedy of 6 hosts is printed %d times:\n%s", n, out)
	}
	wantWidth(t, f)
}

// wantDiffers wants the hosts of a fleet with what each differs in.
func wantDiffers(t *testing.T, hosts []FleetHost, want ...string) {
	t.Helper()
	f, err := NewFleet(Head{}, hosts)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range f.Hosts {
		got = append(got, h.Host+": "+some(mapped(h.Differs, Difference.String), 9))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestFleetSettings: hosts that differ in a setting alone differ, although no
// listener or path shows it.
func TestFleetSettings(t *testing.T) {
	var hosts []FleetHost
	for i := range 4 {
		p := capturedHost{scenario: "strict-two-uplinks", number: i + 1, ports: 1}.plan(t)
		p.Policy.Direct = []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}
		switch i {
		case 1:
			p.Policy.Direct = nil
		case 2:
			p.Policy.FailClosed = []string{"eth1"}
		}
		wantSchema(t, "plan", p)
		hosts = append(hosts, readPlan(t, p))
	}
	wantDiffers(t, hosts, "web001: ", "web002: direct: none (group: 10.8.0.0/16)",
		"web003: fail_closed: eth1 (group: none)", "web004: ")
}

// TestFleetAlone: hosts of which no two are alike are compared with what most
// of them do.
func TestFleetAlone(t *testing.T) {
	var hosts []FleetHost
	for i := range 5 {
		p := capturedHost{scenario: "strict-two-uplinks", number: i + 1, ports: 1}.plan(t)
		p.Lasthop = fmt.Sprintf("v1.%d", i)
		hosts = append(hosts, readPlan(t, p))
	}
	wantDiffers(t, hosts, "web001: ", "web002: lasthop: v1.1 (group: v1.0)",
		"web003: lasthop: v1.2 (group: v1.0)", "web004: lasthop: v1.3 (group: v1.0)",
		"web005: lasthop: v1.4 (group: v1.0)")
	if f, err := NewFleet(Head{}, nil); err != nil || !f.Wanted() {
		t.Errorf("no hosts: %v", err)
	}
}

// TestReadPlan: what is no plan of this lasthop is refused by name, with a
// hint.
func TestReadPlan(t *testing.T) {
	const remedy = "make it with: lasthop plan -o json"
	const rest = `"paths": [], "changes": []}`
	for doc, want := range map[string]string{
		"": "a.json: not JSON: unexpected end of JSON input; " + remedy,
		"lasthop: error: x": "a.json: not JSON: invalid character 'l' looking for " +
			"beginning of value; " + remedy,
		`{"version": 1, "kind": "check"}`: `a.json: a document of kind "check", not ` +
			`"plan"; ` + remedy,
		`{"version": 2, "kind": "plan", "host": "a"}`: "a.json: a document of version 2; " +
			"this lasthop reads version 1; read it with the lasthop that made it, or " +
			"make it again with this one: lasthop plan -o json",
		`{"version": 1, "kind": "plan", "listeners": [], ` + rest: "a.json: the plan does " +
			`not name its host; name the host in the capture that it was made from: ` +
			`"host"`,
		`{"version": 1, "kind": "plan", "host": "a"}`: "a.json: a plan without listeners, " +
			"paths or changes; " + remedy,
		`{"version": 1, "kind": "plan", "host": "a", "listeners": [{"port": 1}], ` + rest: "" +
			"a.json: a listener without address or status; " + remedy,
	} {
		_, err := ReadPlan("a.json", []byte(doc))
		if got := fmt.Sprintf("%v; %s", err, hint.Of(err)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", doc, got, want)
		}
	}
	p := capturedHost{scenario: "strict-two-uplinks", number: 1, ports: 1}.plan(t)
	a, b := readPlan(t, p), readPlan(t, p)
	b.File = "b.json"
	_, err := NewFleet(Head{}, []FleetHost{a, b})
	if err == nil || err.Error() != "b.json: host web001 is also in web001.json" ||
		hint.Of(err) == "" {
		t.Errorf("two plans of one host: %v", err)
	}
}

// TestFleetSize: the page of 200 hosts stays below 5 MB, whatever is on them.
func TestFleetSize(t *testing.T) {
	big, odd := readPlan(t, bigPlan(t)), readPlan(t, bigPlan(t))
	for i := range 500 {
		odd.Errors = append(odd.Errors, routing.Error.Finding("shadowed", "10.0.0.1",
			"%d %s", i, strings.Repeat("long ", 50)))
		odd.plan.Listeners = append(odd.plan.Listeners, odd.plan.Listeners[0])
		odd.plan.Listeners[len(odd.plan.Listeners)-1].Port = uint16(20000 + i)
	}
	odd.plan.Findings = odd.Errors
	var hosts []FleetHost
	for i := range 200 {
		h := big
		if i%20 == 0 {
			h = odd
		}
		h.Host = fmt.Sprintf("web%03d.a-long-name-of-a-site.example.org", i)
		hosts = append(hosts, h)
	}
	f, err := NewFleet(Head{}, hosts)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := f.HTML(&b); err != nil {
		t.Fatal(err)
	}
	if t.Logf("%d bytes", b.Len()); b.Len() >= 5_000_000 {
		t.Errorf("200 hosts of %d listeners take %d bytes", len(big.plan.Listeners),
			b.Len())
	}
}

// BenchmarkFleet groups 200 hosts and writes their page.
func BenchmarkFleet(b *testing.B) {
	hosts := fleetOf(b, 200).Hosts
	for b.Loop() {
		f, err := NewFleet(Head{}, hosts)
		if err == nil {
			err = f.HTML(io.Discard)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// TestLocalMode: a listener without a gateway has no mode.
func TestLocalMode(t *testing.T) {
	o := routing.Outcome{Listener: listener("172.17.0.1", 80), Status: routing.LocalOnly,
		Mode: routing.Strict}
	if mode := listenerDocOf(o).Mode; mode != "" {
		t.Errorf("mode %q", mode)
	}
}
