package daemon

import (
	"fmt"
	"html"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// families are the daemon's own metrics, except the histogram of
// newReloadTimes. Names and labels are a promise, as the keys of the JSON
// documents are; a test writes the table of docs/metrics-and-alerts.md from
// them.
var families = []report.Metric{
	{Name: "lasthop_build_info", Help: "Always 1.", Labels: "version"},
	{Name: "lasthop_in_sync",
		Help: "1 if the kernel holds what the plan wants and nothing is wrong."},
	{Name: "lasthop_last_sync_timestamp_seconds",
		Help: "When the kernel was last compared with the plan."},
	{Name: "lasthop_listeners", Labels: "status",
		Help: "Listeners by status (what lasthop does for their replies)."},
	{Name: "lasthop_findings", Help: "Findings of the plan.", Labels: "code severity"},
	{Name: "lasthop_paths", Help: "Paths: interface, family and gateway."},
	{Name: "lasthop_path_info", Labels: "interface family gateway source",
		Help: "Always 1, for each gateway of a path. Source: where lasthop knows it from."},
	{Name: "lasthop_routes", Labels: "state",
		Help: "Routes of lasthop, as the plan wants them and as the kernel holds them."},
	{Name: "lasthop_rules", Labels: "state",
		Help: "Rules of lasthop, as the plan wants them and as the kernel holds them."},
	{Name: "lasthop_nginx_generation", Labels: "conf root",
		Help: "Loads of this configuration that lasthop saw, with the one at the start."},
	{Name: "lasthop_nginx_loaded_timestamp_seconds", Labels: "conf root",
		Help: "When lasthop saw the last load."},
	{Name: "lasthop_pending_load", Labels: "conf root",
		Help: "1 if the files of this configuration wait for a reload of NGINX."},

	{Name: "lasthop_syncs_total", Help: "Comparisons of the kernel with the plan."},
	{Name: "lasthop_changes_total", Help: "Writes to the kernel."},
	{Name: "lasthop_heals_total",
		Help: "Objects put back after another program deleted or changed them."},
	{Name: "lasthop_fights_total",
		Help: "Times that lasthop backed off from a program that keeps deleting."},
	{Name: "lasthop_errors_total", Help: "Syncs that failed in whole or in part."},
	{Name: "lasthop_reloads_total",
		Help: "Loads of a configuration by NGINX that lasthop followed."},

	// Only with the mode last-hop.
	{Name: "lasthop_hops", Labels: "interface state",
		Help: "Routers that requests came by; quiet: no new connection came by it for " +
			"ten minutes."},
	{Name: "lasthop_flows_fill_ratio", Labels: "map",
		Help: "How full the map is, an estimate. A full map replaces its oldest entry."},
	{Name: "lasthop_learned_total",
		Help: "Connections and flows whose router lasthop learned."},
	{Name: "lasthop_moved_total",
		Help: "Connections and flows that moved to another router."},
	{Name: "lasthop_refused_total",
		Help: "Packets from another router that did not move their flow."},
	{Name: "lasthop_answered_total", Help: "Packets sent to the router of their request."},
	{Name: "lasthop_by_table_total",
		Help: "Packets of listeners sent by the route: no router was known."},
	{Name: "lasthop_dead_total", Help: "Packets whose router was dead."},
}

// metrics turns the published status into Prometheus metrics at each scrape, so
// that both always say the same.
type metrics struct {
	status  func() report.Status // as all users may see it
	version string
}

// Describe is for prometheus.Collector. It sends nothing, since the labels of
// what Collect sends vary.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is for prometheus.Collector.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	s, out := m.status(), scrape(c)
	listeners := map[routing.Status]int{}
	for _, o := range s.Plan.Outcomes {
		listeners[o.Status]++
	}
	for _, status := range routing.Statuses {
		out.send("listeners", listeners[status], string(status))
	}
	out.paths(s.Plan.Paths)
	for state, is := range map[string]routing.State{"wanted": s.Plan.State,
		"present": s.Installed} {
		out.send("routes", len(is.Routes), state)
		out.send("rules", len(is.Rules), state)
	}
	inSync := 0
	if s.InSync {
		inSync = 1
	}
	out.send("in_sync", inSync)
	out.stamp("last_sync", s.Synced)
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
		out.send("findings", n, key[0], key[1])
	}
	out.send("build_info", 1, m.version)
}

// scrape is where the metrics of one scrape go.
type scrape chan<- prometheus.Metric

// add sends a metric of a family, with the values of its labels in their order.
// An empty value is no label: that is the same to Prometheus.
func (c scrape) add(name string, value float64, values []string) {
	name = "lasthop_" + name
	i := slices.IndexFunc(families, func(m report.Metric) bool { return m.Name == name })
	kind, labels := prometheus.GaugeValue, strings.Fields(families[i].Labels)
	if families[i].Counter() {
		kind = prometheus.CounterValue
	}
	var names, has []string
	for i, v := range values {
		if v != "" {
			names, has = append(names, labels[i]), append(has, v)
		}
	}
	d := prometheus.NewDesc(name, families[i].Help, names, nil)
	c <- prometheus.MustNewConstMetric(d, kind, value, has...)
}

func (c scrape) send(name string, value int, labels ...string) {
	c.add(name, float64(value), labels)
}

// stamp sends a time, unless it is zero.
func (c scrape) stamp(name string, at time.Time, labels ...string) {
	if !at.IsZero() {
		c.add(name+"_timestamp_seconds", float64(at.UnixNano())/1e9, labels)
	}
}

// paths sends how many paths there are, and the gateways of each. Two paths may
// have the same: one with the mode last-hop and one without.
func (c scrape) paths(paths []routing.Path) {
	c.send("paths", len(paths))
	seen := map[[4]string]bool{}
	for _, p := range paths {
		for _, h := range p.Gateways() {
			labels := [4]string{h.Link, p.Family.String(), "", string(p.Source)}
			if h.Via.IsValid() {
				labels[2] = h.Via.String()
			}
			if !seen[labels] {
				seen[labels] = true
				c.send("path_info", 1, labels[:]...)
			}
		}
	}
}

func (c scrape) counts(n report.Counts) {
	c.send("syncs_total", n.Syncs)
	c.send("changes_total", n.Changes)
	c.send("heals_total", n.Heals)
	c.send("fights_total", n.Fights)
	c.send("errors_total", n.Errors)
	c.send("reloads_total", n.Reloads)
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
		pending := 0
		if n.Pending {
			pending = 1
		}
		c.send("nginx_generation", n.Generation, key[:]...)
		c.stamp("nginx_loaded", n.Loaded, key[:]...)
		c.send("pending_load", pending, key[:]...)
	}
}

// lastHop sends what the mode last-hop does. It sends no addresses and MACs:
// any host on a link can create any number of those.
func (c scrape) lastHop(l report.LastHop) {
	for _, x := range l.Links {
		for state, n := range map[report.HopState]int{report.HopAlive: x.Alive,
			report.HopDead: x.Dead, report.HopQuiet: x.Quiet} {
			c.send("hops", n, x.Link, string(state))
		}
	}
	for _, f := range l.Fill {
		c.add("flows_fill_ratio", f.Ratio, []string{f.Map})
	}
	c.send("learned_total", l.Counts.Learned)
	c.send("moved_total", l.Counts.Moved)
	c.send("refused_total", l.Counts.Refused)
	c.send("answered_total", l.Counts.Answered)
	c.send("by_table_total", l.Counts.ByTable)
	c.send("dead_total", l.Counts.Dead)
}

// reloadTimes is the family of newReloadTimes.
var reloadTimes = report.Metric{Name: "lasthop_reload_to_in_sync_seconds",
	Help: "Time from the fork of NGINX's first new worker to a kernel that holds the plan."}

// newReloadTimes is the histogram of the time from NGINX's fork to a kernel
// that holds the plan.
func newReloadTimes() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: reloadTimes.Name, Help: reloadTimes.Help,
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1,
			2.5, 10, 30}})
}

// scrapes is how many scrapes are answered at a time; further ones get 503.
const scrapes = 2

// landing is what a person sees who opens the port in a browser.
const landing = `<!DOCTYPE html>
<html lang="en">
<title>lasthop</title>
<h1>lasthop %s</h1>
<p>lasthop keeps source-based routing right for NGINX's listeners. This is for Prometheus.</p>
<ul>
<li><a href="metrics">Metrics</a></li>
<li><a href="healthz">Health</a>: 200 if everything is in sync</li>
</ul>
</html>
`

// metricsHandler answers /metrics, /healthz and / to all clients of the
// network.
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
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		fmt.Fprintf(w, landing, html.EscapeString(report.BuildVersion().Lasthop))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownName(r.Host, hosts) {
			http.Error(w, "ask by an address, by the name of this host, or by one of "+
				"metrics.hosts in lasthop.yaml", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// ownName reports whether a request is for this host: it names an address, the
// host's name in any domain, or one of the names in the settings. A web page
// can make a browser send a request to any address under a name of the page's
// own (DNS rebinding), and then read the answer. Browsers always send a name.
func ownName(host string, names []string) bool {
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
