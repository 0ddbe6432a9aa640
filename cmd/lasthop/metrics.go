package main

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"lasthop/report"
	"lasthop/routing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics turns the published status into Prometheus metrics at each scrape, so
// that both always say the same.
type metrics struct {
	status  func() report.Status
	version string
}

// The metrics. Names and labels are promised as the JSON documents' keys are.
var (
	metricListeners = describe("listeners", "Listeners by what becomes of their replies.",
		"status")
	metricPaths  = describe("paths", "Ways back: interface, family and gateway.")
	metricRoutes = describe("routes",
		"Our routes, as the plan wants them and as the kernel holds them.", "state")
	metricRules = describe("rules",
		"Our rules, as the plan wants them and as the kernel holds them.", "state")
	metricInSync = describe("in_sync",
		"1 if the kernel holds what the plan wants and nothing is wrong.")
	metricSyncs   = describe("syncs_total", "Comparisons of the kernel with the plan.")
	metricChanges = describe("changes_total", "Writes to the kernel.")
	metricHeals   = describe("heals_total",
		"Objects put back that someone else had deleted or changed.")
	metricFights = describe("fights_total",
		"Times that somebody who deletes again and again was backed off from.")
	metricErrors  = describe("errors_total", "Syncs that failed in whole or in part.")
	metricReloads = describe("reloads_total",
		"Loads of a configuration by NGINX that were followed.")
	metricGeneration = describe("nginx_generation",
		"Loads seen of this configuration, the one at the start included.", "conf")
	metricLoaded = describe("nginx_loaded_timestamp_seconds",
		"When the last load was seen.", "conf")
	metricFindings = describe("findings", "Findings of the plan.", "code", "severity")
	metricBuild    = describe("build_info", "Always 1.", "version")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lasthop_"+name, help, labels, nil)
}

// Describe is for prometheus.Collector.
func (m metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricListeners, metricPaths, metricRoutes,
		metricRules, metricInSync, metricSyncs, metricChanges, metricHeals,
		metricFights, metricErrors, metricReloads, metricGeneration, metricLoaded,
		metricFindings, metricBuild} {
		c <- d
	}
}

// Collect is for prometheus.Collector.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	s := m.status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value int) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	listeners := map[routing.Status]int{}
	for _, o := range s.Plan.Outcomes {
		listeners[o.Status]++
	}
	for _, status := range []routing.Status{routing.Ready, routing.Armed, routing.Unchanged,
		routing.LocalOnly, routing.Off, routing.Unresolved} {
		gauge(metricListeners, float64(listeners[status]), string(status))
	}
	gauge(metricPaths, float64(len(s.Plan.Paths)))
	gauge(metricRoutes, float64(len(s.Plan.State.Routes)), "wanted")
	gauge(metricRoutes, float64(len(s.Installed.Routes)), "present")
	gauge(metricRules, float64(len(s.Plan.State.Rules)), "wanted")
	gauge(metricRules, float64(len(s.Installed.Rules)), "present")
	inSync := 0.0
	if s.InSync {
		inSync = 1
	}
	gauge(metricInSync, inSync)
	for d, n := range map[*prometheus.Desc]int{metricSyncs: s.Counts.Syncs,
		metricChanges: s.Counts.Changes, metricHeals: s.Counts.Heals,
		metricFights: s.Counts.Fights, metricErrors: s.Counts.Errors,
		metricReloads: s.Counts.Reloads} {
		counter(d, n)
	}
	m.collectNginx(s, gauge)
	m.collectFindings(s, gauge)
	gauge(metricBuild, 1, m.version)
}

func (m metrics) collectNginx(s report.Status, gauge func(*prometheus.Desc, float64, ...string)) {
	seen := map[string]bool{}
	for _, n := range s.Masters {
		if seen[n.Conf] {
			continue // two masters during an upgrade
		}
		seen[n.Conf] = true
		gauge(metricGeneration, float64(n.Generation), n.Conf)
		if !n.Loaded.IsZero() {
			gauge(metricLoaded, float64(n.Loaded.UnixNano())/1e9, n.Conf)
		}
	}
}

func (m metrics) collectFindings(s report.Status,
	gauge func(*prometheus.Desc, float64, ...string)) {
	findings := map[[2]string]int{}
	for _, f := range s.Plan.Findings {
		findings[[2]string{string(f.Code), string(f.Severity)}]++
	}
	for key, n := range findings {
		gauge(metricFindings, float64(n), key[0], key[1])
	}
}

// newReloadTimes is the histogram of the time from NGINX's fork to a kernel
// that holds the plan.
func newReloadTimes() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "lasthop_reload_to_in_sync_seconds",
		Help: "Time from the fork of NGINX's first new worker to a " +
			"kernel that holds the plan.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1,
			2.5, 10, 30}})
}

// metricsHandler answers /metrics and /healthz.
func metricsHandler(s served, times prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics{s.status, buildVersion().Lasthop}, times,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics",
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: 10 * time.Second}))
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) {
		health(w, s.status())
	})
	return mux
}

// listenMetrics opens the endpoint of metrics: "127.0.0.1:9176".
func listenMetrics(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, hint(fmt.Errorf("listen for metrics on %s: %w", addr, err),
			"choose a free address in metrics.listen of lasthop.yaml")
	}
	return l, nil
}
