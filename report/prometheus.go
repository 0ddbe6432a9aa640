package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"lasthop/routing"
)

// Metric is a family of metrics for Prometheus.
type Metric struct {
	Name, Help string
	Labels     string // names, with spaces between them
}

// Counter reports whether the metric only rises; else it is a gauge.
func (m Metric) Counter() bool { return strings.HasSuffix(m.Name, "_total") }

// CheckMetrics are the metrics that Check.Prometheus writes.
var CheckMetrics = []Metric{
	{Name: "lasthop_check_ok", Help: "1 if everything is as wanted: exit status 0."},
	{Name: "lasthop_check_timestamp_seconds", Help: "When the check was made."},
	{Name: "lasthop_check_listeners", Labels: "status",
		Help: "Listeners by what becomes of their replies."},
	{Name: "lasthop_check_verdicts", Labels: "verdict",
		Help: "Listeners by how their replies leave, as the kernel says."},
	{Name: "lasthop_check_missing", Help: "Changes that the kernel lacks of the plan."},
	{Name: "lasthop_check_findings", Help: "Findings of the check.",
		Labels: "code severity"},
}

// Prometheus writes the result in Prometheus' text format, for the textfile
// collector of node_exporter.
func (c Check) Prometheus(w io.Writer) error {
	o := &exposition{}
	wanted := 0
	if c.Wanted() {
		wanted = 1
	}
	o.add("ok", wanted)
	o.add("timestamp_seconds", int(c.Time.Unix()))
	statuses := counted(c.Checks, func(x Checked) routing.Status { return x.Status })
	for _, s := range routing.Statuses {
		o.add("listeners", statuses[s], string(s))
	}
	said := counted(c.Checks, func(x Checked) Verdict { return x.Verdict })
	for _, v := range verdicts {
		o.add("verdicts", said[v], string(v))
	}
	o.add("missing", c.Missing())
	findings := counted(c.Plan.Findings, func(f routing.Finding) [2]string {
		return [2]string{string(f.Code), string(f.Severity)}
	})
	for _, key := range slices.SortedFunc(maps.Keys(findings), func(a, b [2]string) int {
		return slices.Compare(a[:], b[:])
	}) {
		o.add("findings", findings[key], key[:]...)
	}
	_, err := w.Write(o.Bytes())
	return err
}

// exposition is a text of metrics of CheckMetrics.
type exposition struct {
	bytes.Buffer
	family string // the last
}

// escapeLabel makes a text the value of a label.
var escapeLabel = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// add writes a metric, with the values of its labels in their order. Those of
// one family follow each other.
func (o *exposition) add(name string, value int, values ...string) {
	name = "lasthop_check_" + name
	i := slices.IndexFunc(CheckMetrics, func(m Metric) bool { return m.Name == name })
	m := CheckMetrics[i]
	if o.family != name {
		o.family = name
		fmt.Fprintf(o, "# HELP %s %s\n# TYPE %s gauge\n", name, m.Help, name)
	}
	var labels []string
	for i, label := range strings.Fields(m.Labels) {
		labels = append(labels, fmt.Sprintf(`%s="%s"`, label,
			escapeLabel.Replace(values[i])))
	}
	if len(labels) > 0 {
		name += "{" + strings.Join(labels, ",") + "}"
	}
	fmt.Fprintf(o, "%s %d\n", name, value)
}
