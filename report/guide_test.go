package report

import (
	"strings"
	"testing"

	"lasthop/routing"
)

// TestGuide: a report tells each remedy once, and once how to read on and where
// a flag goes for the service.
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
	got := text(finding("eth1", "name it: --gateway eth1=ADDR"), finding("eth2", "ip link up"),
		finding("eth3", "ip link up"))
	for part, want := range map[string]int{"ip link up": 1, "the same as above": 1,
		"lasthop help CODE explains a finding.":             1,
		"/etc/lasthop/lasthop.yaml: lasthop help settings.": 1} {
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
