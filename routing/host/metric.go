package host

import (
	"fmt"
	"strings"

	"lasthop/routing"
)

// Metrics of a route (RTAX_* of include/uapi/linux/rtnetlink.h).
const (
	metricLock     = 1
	metricMTU      = 2
	metricRTT      = 4
	metricRTTVar   = 5
	metricAdvMSS   = 8
	metricHopLimit = 10
	metricFeatures = 12
	metricRTOMin   = 13
	metricCongCtl  = 16
)

// metricNames are iproute2's words for the metrics that routing.Route does not
// model, by number.
var metricNames = map[int]string{metricMTU: "mtu", 3: "window", metricRTT: "rtt",
	metricRTTVar: "rttvar", 6: "ssthresh", 7: "cwnd",
	metricAdvMSS: "advmss", 9: "reordering", metricHopLimit: "hoplimit", 11: "initcwnd",
	metricFeatures: "features",
	metricRTOMin:   "rto_min", 14: "initrwnd", 15: "quickack", metricCongCtl: "congctl",
	17: "fastopen_no_cookie"}

// decodeMetrics sets the metrics that Route models and returns the others in
// `ip` syntax, in the kernel's order. A locked mtu is one of the others: a copy
// without the lock would mean something else.
func decodeMetrics(r *routing.Route, b []byte) (opaque []string, err error) {
	list, err := attrs(b)
	if err != nil {
		return nil, err
	}
	var locked uint32
	for _, a := range list {
		if a.kind == metricLock {
			locked = a.uint()
		}
	}
	for _, a := range list {
		lock := locked&(1<<(a.kind&31)) != 0
		switch {
		case a.kind == metricLock:
		case a.kind == metricMTU && !lock:
			r.MTU = a.uint()
		case a.kind == metricAdvMSS && !lock:
			r.AdvMSS = a.uint()
		default:
			opaque = append(opaque, printMetric(a, lock))
		}
	}
	return opaque, nil
}

func printMetric(a attr, lock bool) string {
	words := []string{metricNames[a.kind]}
	if words[0] == "" {
		return printUnknown(a)
	}
	if lock {
		words = append(words, "lock")
	}
	return strings.Join(append(words, metricValue(a)), " ")
}

// metricValue scales times as iproute2 does: the kernel keeps rtt in eighths
// and rttvar in quarters of a millisecond.
func metricValue(a attr) string {
	v := a.uint()
	switch a.kind {
	case metricCongCtl:
		return a.string()
	case metricFeatures:
		if v == 1 {
			return "ecn"
		}
		return fmt.Sprintf("%#x", v)
	case metricRTT:
		return milliseconds(v / 8)
	case metricRTTVar:
		return milliseconds(v / 4)
	case metricRTOMin:
		return milliseconds(v)
	}
	return fmt.Sprint(v)
}

func milliseconds(v uint32) string {
	if v >= 1000 {
		return fmt.Sprintf("%gs", float64(v)/1000)
	}
	return fmt.Sprintf("%dms", v)
}

// printUnknown keeps an attribute that iproute2 6.1 has no word for, so that
// what it changes is not taken to be absent.
func printUnknown(a attr) string { return fmt.Sprintf("attr %d %x", a.kind, a.value) }
