package routing

import (
	"slices"
	"strings"
)

// metrics are the attributes of a route for the transports that use it. They
// decide no way, and a copy keeps them.
type metrics struct {
	mtu, advmss uint32
	more        string // in `ip` syntax: "mtu lock 1400 initcwnd 20"
}

// metricWords are the keys of metrics that Route does not model and keeps in
// Opaque. A locked metric has the word lock behind its key. rtax is a metric
// that iproute2 has no word for: its number, and its bytes in hexadecimal.
var metricWords = []string{"mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss",
	"reordering", "hoplimit", "initcwnd", "features", "rto_min", "initrwnd", "quickack",
	"congctl", "fastopen_no_cookie", "rtax"}

func (r Route) metrics() metrics {
	more, _ := SplitMetrics(r.Opaque)
	return metrics{r.MTU, r.AdvMSS, strings.Join(more, " ")}
}

// with returns the route with these metrics, and no other attribute that is not
// modelled.
func (r Route) with(m metrics) Route {
	r.MTU, r.AdvMSS, r.Opaque = m.mtu, m.advmss, m.more
	return r
}

// SplitMetrics splits the attributes of a route that are not modelled: its
// metrics, each with its value ("mtu lock 1400"), and the other attributes,
// which a copy lacks.
func SplitMetrics(opaque string) (metrics []string, rest string) {
	words := strings.Fields(opaque)
	var left []string
	for len(words) > 0 {
		n := 1
		if slices.Contains(metricWords, words[0]) {
			if n = 2; words[0] == "rtax" || len(words) > 1 && words[1] == "lock" {
				n = 3
			}
			n = min(n, len(words))
			metrics = append(metrics, strings.Join(words[:n], " "))
		} else {
			left = append(left, words[0])
		}
		words = words[n:]
	}
	return metrics, strings.Join(left, " ")
}
