package report

import (
	"strings"
	"testing"

	"lasthop/routing"
)

// TestGuide: a report tells once how to read on and where a flag goes for the
// service. Findings with the same remedy follow each other; only the remedy
// directly above is not told again.
func TestGuide(t *testing.T) {
	finding := func(subject, remedy string) routing.Finding {
		return routing.Warning.Finding("no-gateway", subject, "no gateway").
			Advise("%s", remedy)
	}
	text := func(list ...routing.Finding) string {
		p := &page{}
		p.findings("Findings", list)
		guide(p, list)
		return strings.Join(strings.Fields(p.String()), " ")
	}
	name := func(link string) routing.Finding {
		return finding(link, "name it: --gateway "+link+"=ADDR")
	}
	wrong := name("eth1")
	wrong.Severity = routing.Error
	got := text(name("eth1"), name("eth2"), name("eth1"), finding("eth3", "ip link up"),
		finding("eth3", "ip link up"), wrong)
	for part, want := range map[string]int{"ip link up": 1, "do: the same as above": 3,
		"eth1=ADDR warning: no-gateway: eth1 no gateway do: the same":     1,
		"eth1 no gateway do: the same as above warning: no-gateway: eth1": 1,
		"no-gateway: eth2 no gateway do: name it: --gateway eth2=ADDR":    1,
		"lasthop help CODE explains a finding.":                           1,
		"/etc/lasthop/lasthop.yaml: lasthop help settings.":               1} {
		if n := strings.Count(got, part); n != want {
			t.Errorf("%q is said %d times, want %d:\n%s", part, n, want, got)
		}
	}
	if got := text(finding("eth2", "ip link up")); strings.Contains(got, "lasthop.yaml") {
		t.Errorf("no flag is named:\n%s", got)
	}
	if got := text(); got != "" {
		t.Errorf("without findings: %s", got)
	}
}
