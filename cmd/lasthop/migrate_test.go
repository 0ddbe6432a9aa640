package main

import (
	"net/netip"
	"testing"

	"lasthop/bigip"
	"lasthop/bigip/migrate"
	"lasthop/internal/settings"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	r, err := migrate.Join(bigip.Config{}, routing.Inputs{Policy: decided})
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
	m, err := migrate.Join(c, routing.Inputs{Host: h, Policy: policy})
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
	if d := cmp.Diff([]string{"--gateway eth0=10.0.0.1", "--gateway eth0=ADDR",
		"--gateway eth1=10.0.1.1", "--gateway eth1=ADDR", "--gateway eth2=10.0.2.1",
		"--gateway eth2=ADDR"}, m.Flags); d != "" {
		t.Errorf("flags: -want +got\n%s", d)
	}
}
