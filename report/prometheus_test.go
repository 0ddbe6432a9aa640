package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// TestCheckPrometheus: promtool has nothing to say to the metrics, each family
// of the table is there, and a label's value is quoted.
func TestCheckPrometheus(t *testing.T) {
	c := Check{Head: Head{Time: time.Unix(1700000000, 0)}, Checks: []Checked{
		{Outcome: routing.Outcome{Status: routing.Ready}, Verdict: Symmetric},
		{Outcome: routing.Outcome{Status: routing.Ready}, Verdict: Asymmetric}}}
	c.Plan.Findings = []routing.Finding{{Code: "b\\\"\n", Severity: routing.Error},
		{Code: "a", Severity: routing.Warning}, {Code: "a", Severity: routing.Warning}}
	var b bytes.Buffer
	if err := Write(&b, c, "prometheus", Style{}); err != nil {
		t.Fatal(err)
	}
	if out := nstest.Promtool(t, b.String(), "check", "metrics"); out != "" {
		t.Errorf("promtool says:\n%s", out)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "# HELP") {
			got = append(got, line)
		}
	}
	want := []string{
		"# TYPE lasthop_check_ok gauge", "lasthop_check_ok 0",
		"# TYPE lasthop_check_timestamp_seconds gauge",
		"lasthop_check_timestamp_seconds 1700000000",
		"# TYPE lasthop_check_listeners gauge",
		`lasthop_check_listeners{status="ready"} 2`, `lasthop_check_listeners{status="armed"} 0`,
		`lasthop_check_listeners{status="unchanged"} 0`, `lasthop_check_listeners{status="local"} 0`,
		`lasthop_check_listeners{status="off"} 0`, `lasthop_check_listeners{status="unresolved"} 0`,
		"# TYPE lasthop_check_verdicts gauge",
		`lasthop_check_verdicts{verdict="symmetric"} 1`, `lasthop_check_verdicts{verdict="asymmetric"} 1`,
		`lasthop_check_verdicts{verdict="unresolved"} 0`, `lasthop_check_verdicts{verdict="armed"} 0`,
		`lasthop_check_verdicts{verdict="not-armed"} 0`, `lasthop_check_verdicts{verdict="local"} 0`,
		`lasthop_check_verdicts{verdict="off"} 0`,
		"# TYPE lasthop_check_missing gauge", "lasthop_check_missing 0",
		"# TYPE lasthop_check_findings gauge",
		`lasthop_check_findings{code="a",severity="warning"} 2`,
		`lasthop_check_findings{code="b\\\"\n",severity="error"} 1`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	for _, m := range CheckMetrics {
		if !strings.Contains(b.String(), "# HELP "+m.Name+" ") {
			t.Errorf("%s has no value", m.Name)
		}
	}
}
