package daemon

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics turns the published status into Prometheus metrics at each scrape, so
// that both always say the same.
type metrics struct {
	status  func() report.Status // as all users may see it
	version string
}

// Describe is for prometheus.Collector. It sends nothing, since the labels of
// what Collect sends vary.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is for prometheus.Collector. Names and labels are promised as the
// JSON documents' keys are.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	s, out := m.status(), scrape(c)
	listeners := map[routing.Status]int{}
	for _, o := range s.Plan.Outcomes {
		listeners[o.Status]++
	}
	for _, status := range []routing.Status{routing.Ready, routing.Armed, routing.Unchanged,
		routing.LocalOnly, routing.Off, routing.Unresolved} {
		out.gauge("listeners", "Listeners by what becomes of their replies.",
			listeners[status], "status", string(status))
	}
	out.gauge("paths", "Ways back: interface, family and gateway.", len(s.Plan.Paths))
	for state, is := range map[string]routing.State{"wanted": s.Plan.State,
		"present": s.Installed} {
		out.gauge("routes",
			"Our routes, as the plan wants them and as the kernel holds them.",
			len(is.Routes), "state", state)
		out.gauge("rules",
			"Our rules, as the plan wants them and as the kernel holds them.",
			len(is.Rules), "state", state)
	}
	inSync := 0
	if s.InSync {
		inSync = 1
	}
	out.gauge("in_sync", "1 if the kernel holds what the plan wants and nothing is wrong.",
		inSync)
	out.counts(s.Counts)
	out.masters(s.Masters)
	if s.LastHop != nil {
		out.lastHop(*s.LastHop)
	}
	findings := map[[2]string]int{}
	for _, f := range s.Plan.Findings {
		findings[[2]string{string(f.Code), string(f.Severity)}]++
	}
	for key, n := range findings {
		out.gauge("findings", "Findings of the plan.", n, "code", key[0],
			"severity", key[1])
	}
	out.gauge("build_info", "Always 1.", 1, "version", m.version)
}

// scrape is where the metrics of one scrape go.
type scrape chan<- prometheus.Metric

// add sends a metric; labels are names and values in turn.
func (c scrape) add(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var names, values []string
	for pair := range slices.Chunk(labels, 2) {
		names, values = append(names, pair[0]), append(values, pair[1])
	}
	d := prometheus.NewDesc("lasthop_"+name, help, names, nil)
	c <- prometheus.MustNewConstMetric(d, kind, value, values...)
}

func (c scrape) gauge(name, help string, value int, labels ...string) {
	c.add(prometheus.GaugeValue, name, help, float64(value), labels)
}

func (c scrape) counts(n report.Counts) {
	counter := func(name, help string, value int) {
		c.add(prometheus.CounterValue, name+"_total", help, float64(value), nil)
	}
	counter("syncs", "Comparisons of the kernel with the plan.", n.Syncs)
	counter("changes", "Writes to the kernel.", n.Changes)
	counter("heals", "Objects put back that someone else had deleted or changed.", n.Heals)
	counter("fights", "Times that somebody who deletes again and again was backed off from.",
		n.Fights)
	counter("errors", "Syncs that failed in whole or in part.", n.Errors)
	counter("reloads", "Loads of a configuration by NGINX that were followed.", n.Reloads)
}

// masters sends the loads of each configuration. Those of containers have one
// label more: their configurations may have the same path.
func (c scrape) masters(list []report.Master) {
	seen := map[[2]string]bool{}
	for _, n := range list {
		key := [2]string{n.Conf, n.Root}
		if seen[key] {
			continue // two masters during an upgrade
		}
		seen[key] = true
		labels := []string{"conf", n.Conf}
		if n.Root != "" {
			labels = append(labels, "root", n.Root)
		}
		c.gauge("nginx_generation",
			"Loads seen of this configuration, the one at the start included.",
			n.Generation, labels...)
		if !n.Loaded.IsZero() {
			c.add(prometheus.GaugeValue, "nginx_loaded_timestamp_seconds",
				"When the last load was seen.",
				float64(n.Loaded.UnixNano())/1e9, labels)
		}
	}
}

// lastHop sends what the mode last-hop does. It sends no addresses and MACs:
// any host on a link can create any number of those.
func (c scrape) lastHop(l report.LastHop) {
	for _, x := range l.Links {
		for state, n := range map[report.HopState]int{report.HopAlive: x.Alive,
			report.HopDead: x.Dead, report.HopQuiet: x.Quiet} {
			c.gauge("hops", "Neighbours that requests came by; quiet: no connection "+
				"has begun by it for ten minutes.",
				n, "interface", x.Link, "state", string(state))
		}
	}
	for _, f := range l.Fill {
		c.add(prometheus.GaugeValue, "flows_fill_ratio",
			"How full the map is, an estimate. A full map replaces its oldest entry.",
			f.Ratio, []string{"map", f.Map})
	}
	for _, n := range []struct {
		name, help string
		value      int
	}{
		{"learned", "Connections and flows whose hop was noted.", l.Counts.Learned},
		{"moved", "Connections and flows that went over to another hop.", l.Counts.Moved},
		{"refused", "Packets by another hop that moved no flow.", l.Counts.Refused},
		{"answered", "Packets sent to the hop of their request.", l.Counts.Answered},
		{"by_table", "Packets of listeners sent by the route: no hop was known.",
			l.Counts.ByTable},
		{"dead", "Packets whose hop was dead.", l.Counts.Dead},
	} {
		c.add(prometheus.CounterValue, n.name+"_total", n.help, float64(n.value), nil)
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

// scrapes is how many scrapes are answered at a time; further ones get 503.
const scrapes = 2

// metricsHandler answers /metrics and /healthz to the network: to all clients.
func metricsHandler(s served, times prometheus.Collector, hosts []string) http.Handler {
	public := func() report.Status { return s.latest().public() }
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics{public, report.BuildVersion().Lasthop}, times,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry,
		promhttp.HandlerOpts{Timeout: askTimeout, MaxRequestsInFlight: scrapes}))
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) {
		health(w, public())
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ourName(r.Host, hosts) {
			http.Error(w, "ask by an address, by the name of this host, or by one of "+
				"metrics.hosts in lasthop.yaml", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// ourName reports whether a request is for this host: it names an address, the
// host's name in any domain, or one of the names in the settings. A web page
// can make a browser send a request to any address under a name of the page's
// own (DNS rebinding), and then read the answer. Browsers always send a name.
func ourName(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || host == "" {
		return true
	}
	if own, err := os.Hostname(); err == nil {
		short, _, _ := strings.Cut(own, ".")
		first, _, _ := strings.Cut(host, ".")
		if strings.EqualFold(first, short) {
			return true
		}
	}
	return slices.ContainsFunc(names,
		func(name string) bool { return strings.EqualFold(name, host) })
}

// listenMetrics opens the endpoint of metrics: "127.0.0.1:9176".
func listenMetrics(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, hint.New(fmt.Errorf("listen for metrics on %s: %w", addr, err),
			"choose a free address in metrics.listen of lasthop.yaml")
	}
	return l, nil
}
