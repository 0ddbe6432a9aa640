package report

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/bigip/migrate"
	"lasthop/routing"
)

func verifyExample() Verification {
	in := routing.Crossing{Link: "eth1", Wire: "eth1",
		Router: netip.MustParseAddr("10.0.1.1"), MAC: routing.MAC{2, 0, 0, 0, 0, 1}}
	return Verification{Head: Head{Lasthop: "test", Host: "web1", Kernel: "6.1.0",
		Time: time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)},
		Seen: &routing.Seen{Window: routing.Window{Seconds: 30}},
		Verification: migrate.Verification{Addresses: []migrate.Moved{
			{Address: "10.0.1.100", Interface: "eth1", State: migrate.Here,
				Virtuals: []string{"/Common/a"}, Came: []migrate.Came{
					{Class: routing.OffLinkClient, Clients: 3, Connections: 1200, In: in},
					{Class: routing.OnLinkClient, Clients: 1, Connections: 2, In: in}}},
			{Address: "10.0.1.101", Interface: "eth1\x1b[2J", State: migrate.Duplicate,
				Virtuals: []string{"/Common/b"}, Machines: []migrate.Machine{
					{MAC: routing.MAC{2, 0, 0, 0, 0, 2}},
					{MAC: routing.MAC{2, 0, 0, 0, 0, 3}, Names: []string{"router 10.0.1.3"}}}},
			{Address: "10.0.1.102", Interface: "eth1", State: migrate.NotMoved,
				Virtuals: []string{"/Common/c"}},
		}, Findings: []routing.Finding{{Code: "duplicate-address", Severity: routing.Error,
			Subject: "10.0.1.101", Message: "another machine has it"}}}}
}

const verifyText = `2 addresses of virtual servers on this host; only this host answers for 1. Looked at packets for 30
s.
  ADDRESS     INTERFACE    STATE             ALSO ANSWERED BY                                        REQUESTS BY
  10.0.1.101  eth1\x1b[2J  DUPLICATE         02:00:00:00:00:02; 02:00:00:00:00:03 (router 10.0.1.3)  no packets
  10.0.1.102  eth1         not on this host  -                                                       -
  10.0.1.100  eth1         only here         -                                                       eth1 10.0.1.1 (1,200), eth1 on-link (2)

Findings (1)
  error: duplicate-address: 10.0.1.101
    another machine has it

lasthop help CODE explains a finding.
`

func TestVerificationText(t *testing.T) {
	var b strings.Builder
	if err := verifyExample().Text(&b, Style{Width: 150}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(verifyText, b.String()); d != "" {
		t.Errorf("-want +got\n%s\n%s", d, b.String())
	}
	wantWidth(t, verifyExample())
}

// TestVerificationJSON holds the document against its schema, also without
// addresses and packets. A note alone is no reason to do anything.
func TestVerificationJSON(t *testing.T) {
	empty := Verification{Head: verifyExample().Head}
	empty.Findings = []routing.Finding{{Code: "not-moved", Severity: routing.Info,
		Subject: "10.0.1.102", Message: "nobody was asked"}}
	for _, v := range []Verification{verifyExample(), empty} {
		wantSchema(t, "verify", v)
		if v.Wanted() != (len(v.Addresses) == 0) {
			t.Errorf("wanted %v with %v", v.Wanted(), v.Findings)
		}
	}
	if empty.Findings[0].Severity = routing.Warning; empty.Wanted() {
		t.Error("nothing has to be done about a warning")
	}
}
