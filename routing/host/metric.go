package host

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// metricNames are iproute2's words for the metrics that routing.Route does not
// model, by number (RTAX_*).
var metricNames = map[int]string{
	unix.RTAX_MTU: "mtu", unix.RTAX_WINDOW: "window", unix.RTAX_RTT: "rtt",
	unix.RTAX_RTTVAR: "rttvar", unix.RTAX_SSTHRESH: "ssthresh", unix.RTAX_CWND: "cwnd",
	unix.RTAX_ADVMSS: "advmss", unix.RTAX_REORDERING: "reordering",
	unix.RTAX_HOPLIMIT: "hoplimit", unix.RTAX_INITCWND: "initcwnd",
	unix.RTAX_FEATURES: "features", unix.RTAX_RTO_MIN: "rto_min",
	unix.RTAX_INITRWND: "initrwnd", unix.RTAX_QUICKACK: "quickack",
	unix.RTAX_CC_ALGO: "congctl", unix.RTAX_FASTOPEN_NO_COOKIE: "fastopen_no_cookie",
}

// decodeMetrics sets the metrics that Route models and returns the other ones
// in `ip` syntax, in the kernel's order. A locked mtu is among the latter: a
// copy without the lock would mean something else.
func decodeMetrics(r *routing.Route, b []byte) (opaque []string, err error) {
	list, err := attrs(b)
	if err != nil {
		return nil, err
	}
	var locked uint32
	for _, a := range list {
		if a.kind == unix.RTAX_LOCK {
			locked = a.uint()
		}
	}
	for _, a := range list {
		lock := locked&(1<<(a.kind&31)) != 0
		switch {
		case a.kind == unix.RTAX_LOCK:
		case a.kind == unix.RTAX_MTU && !lock:
			r.MTU = a.uint()
		case a.kind == unix.RTAX_ADVMSS && !lock:
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
		return fmt.Sprintf("rtax %d %x", a.kind, a.value)
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
	case unix.RTAX_CC_ALGO:
		return a.string()
	case unix.RTAX_FEATURES:
		if v == 1 {
			return "ecn"
		}
		return fmt.Sprintf("%#x", v)
	case unix.RTAX_RTT:
		return milliseconds(v / 8)
	case unix.RTAX_RTTVAR:
		return milliseconds(v / 4)
	case unix.RTAX_RTO_MIN:
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

// encodeMetrics is the inverse of decodeMetrics. It returns an error for a word
// that decodeMetrics does not print.
func encodeMetrics(r routing.Route) (m message, err error) {
	m.putNumber(unix.RTAX_MTU, r.MTU)
	m.putNumber(unix.RTAX_ADVMSS, r.AdvMSS)
	words, _ := routing.SplitMetrics(r.Opaque)
	var locked uint32
	for _, metric := range words {
		w := strings.Fields(metric)
		kind, value := metricNumber(w[0]), w[len(w)-1]
		if w[0] == "rtax" {
			if kind, err = strconv.Atoi(w[1]); err != nil {
				return m, fmt.Errorf("encode metric %q: %w", metric, err)
			}
		}
		if w[1] == "lock" {
			locked |= 1 << (kind & 31)
		}
		b, err := metricBytes(w[0], value)
		if err != nil {
			return m, fmt.Errorf("encode metric %q: %w", metric, err)
		}
		m.put(kind, b)
	}
	if locked != 0 {
		m.putUint32(unix.RTAX_LOCK, locked)
	}
	return m, nil
}

func metricNumber(name string) int {
	for kind, n := range metricNames {
		if n == name {
			return kind
		}
	}
	return 0
}

// metricBytes is the inverse of metricValue.
func metricBytes(name, value string) ([]byte, error) {
	scale := map[string]uint32{"rtt": 8, "rttvar": 4, "rto_min": 1}[name]
	switch {
	case name == "rtax":
		return hex.DecodeString(value)
	case name == "congctl":
		return append([]byte(value), 0), nil
	case value == "ecn":
		value = "1"
	case scale != 0:
		d, err := time.ParseDuration(value)
		return binary.NativeEndian.AppendUint32(nil,
			uint32(d.Milliseconds())*scale), err
	}
	n, err := strconv.ParseUint(value, 0, 32)
	return binary.NativeEndian.AppendUint32(nil, uint32(n)), err
}

// printUnknown keeps an attribute that iproute2 6.1 has no word for, so that it
// is not treated as absent.
func printUnknown(a attr) string { return fmt.Sprintf("attr %d %x", a.kind, a.value) }
