package daemon

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/report"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the table of docs/metrics-and-alerts.md")

// everything is a status with a value for each metric.
func everything() report.Status {
	hop := func(link, via string) routing.Hop {
		return routing.Hop{Link: link, Via: netip.MustParseAddr(via)}
	}
	s := report.Status{Synced: time.Unix(7, 5e8),
		Masters: []report.Master{{PID: 7, Conf: "/a.conf", Loaded: time.Unix(5, 0), Pending: true},
			{PID: 8, Conf: "/a.conf", Root: "/proc/8/root", Loaded: time.Unix(6, 0)}},
		LastHop: &report.LastHop{Links: []report.LinkHops{{Link: "eth1", Alive: 1}},
			Fill: []report.Fill{{Map: "connections", Ratio: .5}}}}
	s.Plan.Findings = []routing.Finding{{Code: "no-owner", Severity: routing.Error}}
	s.Plan.Paths = []routing.Path{
		{Link: "eth1", Family: routing.IPv4, Source: routing.FromPin,
			Hops:    []routing.Hop{hop("eth1", "10.0.1.1")},
			Standby: []routing.Hop{hop("eth1", "10.0.1.2")}},
		{Link: "eth1", Family: routing.IPv4, Source: routing.FromPin, LastHop: true,
			Hops: []routing.Hop{hop("eth1", "10.0.1.1")}},
		{Link: "eth2", Family: routing.IPv6, Source: routing.FromMain,
			Hops: []routing.Hop{hop("eth2", "fe80::1")}},
		{Link: "wg0", Family: routing.IPv4, Source: routing.FromMain,
			Hops: []routing.Hop{{Link: "wg0"}}}}
	return s
}

// own returns lasthop's families of an exposition, by name: "gauge", "counter".
func own(text string) map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (lasthop_\S+) (\S+)$`).
		FindAllStringSubmatch(text, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// TestFamilies: /metrics has each family of the table and no other, and
// promtool accepts it.
func TestFamilies(t *testing.T) {
	text := scraped(t, everything())
	want := map[string]string{reloadTimes.Name: "histogram"}
	for _, m := range families {
		if want[m.Name] = "gauge"; m.Counter() {
			want[m.Name] = "counter"
		}
	}
	if d := cmp.Diff(want, own(text)); d != "" {
		t.Errorf("-table +metrics\n%s", d)
	}
	if out := nstest.Promtool(t, text, "check", "metrics"); out != "" {
		t.Errorf("promtool says:\n%s", out)
	}
}

// TestPathInfo: each gateway has one series, even if two paths share it; so has
// a path without a gateway.
func TestPathInfo(t *testing.T) {
	var got []string
	for line := range strings.Lines(scraped(t, everything())) {
		if regexp.MustCompile("^lasthop_(path|last_sync|pending)").MatchString(line) {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		"lasthop_last_sync_timestamp_seconds 7.5",
		`lasthop_path_info{family="IPv4",interface="wg0",source="default route in main"} 1`,
		`lasthop_path_info{family="IPv4",gateway="10.0.1.1",interface="eth1",source="pinned"} 1`,
		`lasthop_path_info{family="IPv4",gateway="10.0.1.2",interface="eth1",source="pinned"} 1`,
		`lasthop_path_info{family="IPv6",gateway="fe80::1",interface="eth2",source="default route in main"} 1`,
		"lasthop_paths 4",
		`lasthop_pending_load{conf="/a.conf"} 1`,
		`lasthop_pending_load{conf="/a.conf",root="/proc/8/root"} 0`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestLanding: the page shows the version and two addresses, and nothing about
// the host.
func TestLanding(t *testing.T) {
	h := metricsHandler(asked{Status: everything()}, newReloadTimes(), nil)
	code, text := get(h, "/")
	version := "<h1>lasthop " + report.BuildVersion().Lasthop + "</h1>"
	if code != http.StatusOK || !strings.Contains(text, version) {
		t.Errorf("code %d, no %s in\n%s", code, version, text)
	}
	for _, link := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if code, _ := get(h, "/"+link[1]); code == http.StatusNotFound {
			t.Errorf("%s: not found", link[1])
		}
	}
	if n := strings.Count(text, "href="); n != 2 || strings.Contains(text, "eth1") {
		t.Errorf("%d links in\n%s", n, text)
	}
	if code, _ := get(h, "/status"); code != http.StatusNotFound {
		t.Errorf("/status: code %d", code)
	}
}

// TestPending: an edit is pending until NGINX loads it.
func TestPending(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	has := func(n int) func() bool {
		line := fmt.Sprintf("lasthop_pending_load{conf=%q} %d\n", s.File("nginx.conf"), n)
		return func() bool { return strings.Contains(scraped(t, s.status()), line) }
	}
	s.Until("nothing to wait for", has(0))
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.Until("an edit that waits", has(1))
	s.Reload()
	s.Until("the load", has(0))
}

const (
	page      = "../../docs/metrics-and-alerts.md"
	alerts    = "../../deploy/prometheus/alerts.yaml"
	cases     = "../../deploy/prometheus/alerts_test.yaml"
	dashboard = "../../deploy/grafana/lasthop.json"
)

func fileText(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestMetricsPage: the tables of the page are those of the program.
func TestMetricsPage(t *testing.T) {
	all := slices.Concat(families, []report.Metric{reloadTimes})
	slices.SortFunc(all, func(a, b report.Metric) int {
		return strings.Compare(a.Name, b.Name)
	})
	text := fileText(t, page)
	for title, list := range map[string][]report.Metric{"## Metrics of the daemon": all,
		"## Metrics of lasthop check": report.CheckMetrics} {
		var b strings.Builder
		b.WriteString("| metric | labels | what it says |\n|---|---|---|\n")
		for _, m := range list {
			labels := ""
			if m.Labels != "" {
				labels = "`" + strings.ReplaceAll(m.Labels, " ", "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Name, labels, m.Help)
		}
		section := regexp.MustCompile(`(?s)(\n` + title + `\n.*?\n)(\|.*?\n)(\n|$)`)
		m := section.FindStringSubmatchIndex(text)
		if m == nil {
			t.Fatalf("no table below %s", title)
		}
		if had := text[m[4]:m[5]]; had != b.String() && !*update {
			t.Errorf("%s: -page +program (-update rewrites it)\n%s", title,
				cmp.Diff(had, b.String()))
		}
		text = text[:m[4]] + b.String() + text[m[5]:]
	}
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// metricNames returns the metrics of an expression: lasthop's own, those of
// client_golang, and up. Those of a histogram are named by its family.
func metricNames(expr string) (out []string) {
	for _, name := range regexp.MustCompile(`\b((lasthop|go|process)_\w+|up)\b`).
		FindAllString(expr, -1) {
		name = strings.TrimSuffix(name, "_bucket")
		out = append(out, name)
	}
	return out
}

// namesOf returns all metrics that Prometheus has of a host: of the daemon's
// real /metrics, of the check, and up.
func namesOf(text string) map[string]bool {
	all := map[string]bool{"up": true}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(text, -1) {
		all[m[1]] = true
	}
	for _, m := range report.CheckMetrics {
		all[m.Name] = true
	}
	return all
}

// TestExpressions: each metric of the alerts and of the dashboard is in the
// /metrics of a daemon that runs, and each of the daemon's is in one of them.
func TestExpressions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;") // a finding: it is not loaded
	text, used := "", map[string]bool{}
	s.Until("all metrics", func() bool {
		s.d.board.steers(everything().LastHop) // the mode needs bpf(2)
		_, text = get(metricsHandler(s.d.board, s.d.board.times, nil), "/metrics")
		return strings.Contains(text, "\nlasthop_hops{") &&
			strings.Contains(text, "\nlasthop_findings{")
	})
	known := namesOf(text)
	for file, exprs := range map[string][]string{alerts: alertExpressions(t),
		dashboard: dashboardExpressions(t)} {
		for _, expr := range exprs {
			names := metricNames(expr)
			if len(names) == 0 {
				t.Errorf("%s: no metric in %s", file, expr)
			}
			for _, name := range names {
				if used[name] = true; !known[name] {
					t.Errorf("%s: no metric %s, in %s", file, name, expr)
				}
			}
		}
	}
	for _, m := range families {
		if !used[m.Name] {
			t.Errorf("neither an alert nor the dashboard has %s", m.Name)
		}
	}
	t.Log(len(used), "metrics:", slices.Sorted(maps.Keys(used)))
}
