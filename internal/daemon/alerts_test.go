package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/nstest"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// alert is one of deploy/prometheus/alerts.yaml.
type alert struct {
	Alert       string
	Expr        string
	Annotations struct{ Summary, Description, Runbook string }
}

// rules are the alerts of the file, in their order.
func rules(t *testing.T) (out []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	text := strings.ReplaceAll(fileText(t, alerts), "runbook_url:", "runbook:")
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

func alertExpressions(t *testing.T) (out []string) {
	for _, r := range rules(t) {
		out = append(out, r.Expr)
	}
	return out
}

// TestAlerts: promtool accepts the rules, and they do what alerts_test.yaml
// says; it has a case in which each alert fires and one in which it does not.
func TestAlerts(t *testing.T) {
	nstest.Promtool(t, "", "check", "rules", alerts)
	nstest.Promtool(t, "", "test", "rules", cases)
	var file struct {
		Tests []struct {
			Rules []struct {
				Alert string `yaml:"alertname"`
				Want  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(fileText(t, cases)), &file); err != nil {
		t.Fatal(err)
	}
	tried := map[string][]bool{}
	for _, test := range file.Tests {
		for _, r := range test.Rules {
			tried[r.Alert] = append(tried[r.Alert], len(r.Want) > 0)
		}
	}
	for _, r := range rules(t) {
		for _, fires := range []bool{true, false} {
			if !slices.Contains(tried[r.Alert], fires) {
				t.Errorf("%s: no case in which it fires: %t", r.Alert, fires)
			}
		}
	}
}

// TestRunbooks: each alert has a section of the page, and each section an
// alert; the section has a command.
func TestRunbooks(t *testing.T) {
	const url = "file:///usr/share/doc/lasthop/docs/metrics-and-alerts.md#"
	_, text, _ := strings.Cut(fileText(t, page), "\n## Alerts\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var want, got []string
	sections := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatchIndex(text, -1) {
		title := text[m[2]:m[3]]
		body, _, _ := strings.Cut(text[m[1]:], "\n### ")
		got, sections[title] = append(got, title), body
	}
	for _, r := range rules(t) {
		want = append(want, r.Alert)
		if link := url + strings.ToLower(r.Alert); r.Annotations.Runbook != link {
			t.Errorf("%s: runbook %q, want %q", r.Alert, r.Annotations.Runbook, link)
		}
		body := sections[r.Alert]
		if !strings.Contains(body, "\n    lasthop ") &&
			!strings.Contains(body, "\n    systemctl ") {
			t.Errorf("%s: no command in its section:\n%s", r.Alert, body)
		}
		if r.Annotations.Summary == "" || r.Annotations.Description == "" {
			t.Errorf("%s: no summary or description", r.Alert)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-alerts +sections\n%s", d)
	}
}

// panel is a panel or a row of a dashboard.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

func panels(t *testing.T) (out []panel) {
	t.Helper()
	var d struct {
		Panels     []panel
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal([]byte(fileText(t, dashboard)), &d); err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	if diff := cmp.Diff([]string{"datasource", "job", "instance"}, variables); diff != "" {
		t.Errorf("variables: -want +got\n%s", diff)
	}
	return d.Panels
}

func dashboardExpressions(t *testing.T) (out []string) {
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	return out
}

// TestDashboard: it has these rows; Prometheus accepts each expression, which
// selects only the chosen instances; and no panel covers another.
func TestDashboard(t *testing.T) {
	var rows, groups []string
	cells, ids := map[[2]int]string{}, map[int]bool{}
	for i, p := range panels(t) {
		if ids[p.ID] {
			t.Errorf("%s: its id %d twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows = append(rows, p.Title)
		} else if len(p.Targets) == 0 {
			t.Errorf("%s: no expression", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Errorf("%s: at %d, %d there is %q", p.Title, x, y, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		for j, target := range p.Targets {
			const chosen = `job=~"$job",instance=~"$instance"`
			expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h").
				Replace(target.Expr)
			if strings.Count(expr, chosen) != len(metricNames(expr)) {
				t.Errorf("%s: of other instances, too: %s", p.Title, expr)
			}
			groups = append(groups, fmt.Sprintf("  - record: a%d_%d\n    expr: %q\n",
				i, j, expr))
		}
	}
	want := []string{"State", "Listeners", "Paths", "Changes", "Mode last-hop", "Daemon"}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	file := t.TempDir() + "/rules.yaml"
	text := "groups:\n- name: dashboard\n  rules:\n" + strings.Join(groups, "")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	nstest.Promtool(t, "", "check", "rules", file)
}
