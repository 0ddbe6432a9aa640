package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lasthop/bigip"
	"lasthop/bigip/migrate"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/sim"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// TestMigrateSettings reads the lasthop.yaml of migrate as the daemon does: it
// says all that was decided, of links with any name.
func TestMigrateSettings(t *testing.T) {
	addr := netip.MustParseAddr
	decided := routing.Policy{
		Numbers: routing.DefaultNumbers,
		Gateways: []routing.GatewayPin{{Link: "0x1e2", None: true},
			{Link: "a-b#\x1b\u202e'\"{}", Addr: addr("10.0.4.1")},
			{Link: "eth1", Addr: addr("10.0.1.1")},
			{Link: "eth1", Addr: addr("2001:db8:1::1")}, {Link: "eth3.100", Static: true}, {Link: "null", Addr: addr("10.0.5.1")}},
		Returns: []routing.ReturnPin{{Link: "eth1", Mode: routing.MainFirst},
			{Addr: addr("2001:db8::7"), Mode: routing.NoReturn}},
		Addresses: []routing.AddressPin{{Addr: addr("192.0.2.7"), Link: "eth1",
			Gateway: addr("10.0.1.9")}, {Addr: addr("2001:db8::7"), Link: "yes"}},
		Direct: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"),
			netip.MustParsePrefix("fd00:9::/32")},
		FailClosed: []string{"*", "eth1"},
	}
	r, err := migrate.Selection{}.Join(bigip.Config{}, routing.Inputs{Policy: decided})
	if err != nil {
		t.Fatal(err)
	}
	text := r.Settings
	got, err := settings.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmp.Diff(decided, got.Policy, compareAddrs); d != "" {
		t.Errorf("-decided +read\n%s\n%s", d, text)
	}
}

// TestMigrateProposes reads what is proposed where something is missing, which
// must be valid also before a person has filled it in.
func TestMigrateProposes(t *testing.T) {
	c, err := bigip.Load("../../testdata/lab/bigip")
	if err != nil {
		t.Fatal(err)
	}
	var h routing.Host
	for _, link := range []struct {
		name, four, six string
	}{{"eth0", "10.0.0.10/24", "2001:db8::10/64"},
		{"eth1", "10.0.1.10/24", "2001:db8:1::10/64"},
		{"eth2", "10.0.2.10/24", "2001:db8:2::10/64"}} {
		h.Links = append(h.Links, routing.Link{Name: link.name, Up: true})
		h.Addrs = append(h.Addrs,
			routing.Addr{Link: link.name, Prefix: netip.MustParsePrefix(link.four)},
			routing.Addr{Link: link.name, Prefix: netip.MustParsePrefix(link.six)})
	}
	policy := routing.Policy{Numbers: routing.DefaultNumbers}
	m, err := migrate.Selection{}.Join(c, routing.Inputs{Host: h, Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	got, err := settings.Parse("f.yaml", []byte(m.Settings))
	if err != nil {
		t.Fatalf("%v\n%s", err, m.Settings)
	}
	want := []routing.GatewayPin{{Link: "eth0", Addr: netip.MustParseAddr("10.0.0.1")},
		{Link: "eth1", Addr: netip.MustParseAddr("10.0.1.1")},
		{Link: "eth2", Addr: netip.MustParseAddr("10.0.2.1")}}
	if d := cmp.Diff(want, got.Policy.Gateways, compareAddrs); d != "" {
		t.Errorf("-want +got\n%s\n%s", d, m.Settings)
	}
	if d := cmp.Diff([]string{"--gateway eth0=10.0.0.1", "--gateway eth1=10.0.1.1",
		"--gateway eth2=10.0.2.1", "--gateway eth0=IPv6-ADDR",
		"--gateway eth1=IPv6-ADDR", "--gateway eth2=IPv6-ADDR"}, m.Flags); d != "" {
		t.Errorf("flags: -want +got\n%s", d)
	}
}

// TestMigrateLarge: lasthop reads a lasthop.yaml of thousands of addresses that
// migrate writes, or migrate says that it is too large.
func TestMigrateLarge(t *testing.T) {
	for _, n := range []int{6000, 9000} {
		c := bigip.Config{VLANs: []bigip.VLAN{{Name: "/Common/ext", Kind: "vlan"}},
			Selfs: []bigip.Self{{Prefix: netip.MustParsePrefix("10.0.0.2/24"),
				VLAN: "/Common/ext"}}}
		for i := range n {
			a := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
			c.Virtuals = append(c.Virtuals, bigip.Virtual{Name: a.String(),
				Kind: "ltm virtual", Type: bigip.Standard,
				Service: bigip.Service{Protocol: "tcp"},
				Destinations: []bigip.Destination{{Addrs: netipx.IPRangeFrom(a, a),
					Ports: []routing.PortRange{{First: 80, Last: 80}}}}})
		}
		host := routing.Host{Links: []routing.Link{{Name: "eth0", Up: true}},
			Addrs: []routing.Addr{{Link: "eth0",
				Prefix: netip.MustParsePrefix("10.0.0.10/24")}}}
		r, err := migrate.Selection{}.Join(c, routing.Inputs{Host: host,
			Policy: routing.Policy{Numbers: routing.DefaultNumbers}})
		if err != nil {
			t.Fatal(err)
		}
		r.LimitSettings(settings.MaxFile)
		said := slices.ContainsFunc(r.Steps, func(s migrate.Step) bool {
			return strings.Contains(strings.Join(s.Notes, " "), "too large")
		})
		s, err := load(t, r.Settings)
		read := err == nil && len(s.Policy.Addresses) == n
		if read == said || said != (n > 7000) {
			t.Errorf("%d addresses, %d bytes: read %v (%v), said %v", n,
				len(r.Settings), read, err, said)
		}
	}
}

// load reads a text as lasthop.yaml.
func load(t *testing.T, text string) (settings.Settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lasthop.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return settings.Load(settings.Flags{File: path})
}

// TestMigrateQuestions reads lasthop.yaml with an answer in place of each
// question, one at a time: it says that, and all else as before.
func TestMigrateQuestions(t *testing.T) {
	c, err := bigip.Parse("bigip.conf", []byte(`net vlan /Common/ext { tag 1 }
net vlan "/Common/d # mz:  x" { tag 2 }
net self /Common/s { address 10.0.0.2/24 vlan /Common/ext }
net self /Common/t { address 10.0.1.2/24 vlan "/Common/d # mz:  x" }
net route /Common/default { gw 10.0.0.1 network default }
ltm pool /Common/p { members { /Common/10.0.0.1:0 { } /Common/10.0.0.3:0 { } } }
ltm virtual /Common/a { destination /Common/10.0.0.100:80 ip-protocol tcp last-hop-pool /Common/p }
ltm virtual /Common/b { destination /Common/10.0.1.100:80 ip-protocol tcp auto-lasthop disabled }
ltm virtual /Common/c { destination /Common/192.0.2.7:80 ip-protocol tcp }
`))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sim.Parse(`link add eth0 type veth
link add eth1 type veth
link set eth0 up
link set eth1 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.10/24 dev eth1
route add default via 10.0.0.1 dev eth0
`)
	if err != nil {
		t.Fatal(err)
	}
	r, err := migrate.Selection{}.Join(c, routing.Inputs{Host: host.Host,
		Policy: routing.Policy{Numbers: routing.DefaultNumbers}})
	if err != nil {
		t.Fatal(err)
	}
	before, err := settings.Parse("lasthop.yaml", []byte(r.Settings))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Settings)
	}
	question := regexp.MustCompile(`(?m)# (only if .*?): ((?:return|gateways|192.0.2.7): .*)$`)
	asked := question.FindAllStringSubmatchIndex(r.Settings, -1)
	if len(asked) < 8 {
		t.Errorf("%d questions:\n%s", len(asked), r.Settings)
	}
	for _, m := range asked {
		text := r.Settings[:m[0]] + r.Settings[m[4]:]
		after, err := settings.Parse("lasthop.yaml", []byte(text))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		count := func(p routing.Policy) int {
			return len(p.Gateways) + len(p.Returns) + len(p.Addresses)
		}
		if count(after.Policy) != count(before.Policy)+1 {
			t.Errorf("the answer is not taken:\n%s", text)
		}
	}
}

// TestMigrateManyVLANs: 3,000 virtual servers on all of 30 VLANs have a row for
// their own VLAN and one for the 29 other VLANs, and make a page that a browser
// opens.
func TestMigrateManyVLANs(t *testing.T) {
	var conf, lines strings.Builder
	for i := range 30 {
		fmt.Fprintf(&conf, "net vlan /Common/v%d { tag %d }\nnet self /Common/s%[1]d "+
			"{ address 10.%[1]d.255.2/16 vlan /Common/v%[1]d }\n", i, i+100)
		fmt.Fprintf(&lines, "link add eth%d type veth\nlink set eth%[1]d up\n"+
			"addr add 10.%[1]d.255.10/16 dev eth%[1]d\n"+
			"route add default via 10.%[1]d.255.1 dev eth%[1]d metric %d\n", i, i+100)
	}
	for i := range 3000 {
		fmt.Fprintf(&conf, "ltm virtual /Common/application_%d { ip-protocol tcp "+
			"destination /Common/10.%d.%d.%d:443 }\n", i, i%30, i/30/250,
			i/30%250+1)
	}
	c, err := bigip.Parse("bigip.conf", []byte(conf.String()))
	if err != nil {
		t.Fatal(err)
	}
	host, err := sim.Parse(lines.String())
	if err != nil {
		t.Fatal(err)
	}
	in := routing.Inputs{Host: host.Host,
		Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	for _, decided := range []bool{false, true} {
		for i := 0; i < 30 && decided; i++ {
			in.Policy.Returns = append(in.Policy.Returns,
				routing.ReturnPin{Link: fmt.Sprint("eth", i), Mode: routing.Strict})
		}
		r, err := migrate.Selection{}.Join(c, in)
		if err != nil || len(r.Rows) != 6000 || r.Rows[1].VLAN != "other VLANs (29)" ||
			len(r.Rows[1].VLANs) != 29 {
			t.Fatalf("%d rows, %v", len(r.Rows), err)
		}
		var page bytes.Buffer
		if err := (report.Migration{Result: r}).HTML(&page); err != nil {
			t.Fatal(err)
		}
		if page.Len() > 3<<20 {
			t.Errorf("decided %v: the page has %d bytes", decided, page.Len())
		}
		t.Logf("decided %v: %d bytes", decided, page.Len())
	}
}
