package capture

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

type hopDoc struct {
	Gateway string   `json:"gateway,omitempty"`
	Via     *viaDoc  `json:"via,omitempty"`
	Dev     string   `json:"dev,omitempty"`
	Weight  int      `json:"weight,omitempty"`
	Flags   []string `json:"flags"`
}

type viaDoc struct {
	Family string `json:"family"`
	Host   string `json:"host"`
}

type routeDoc struct {
	Type     string              `json:"type,omitempty"`
	Dst      string              `json:"dst"`
	Table    string              `json:"table"`
	Protocol string              `json:"protocol"`
	Scope    string              `json:"scope"`
	Src      string              `json:"prefsrc,omitempty"`
	Metric   uint32              `json:"metric,omitempty"`
	NextHops []hopDoc            `json:"nexthops,omitempty"`
	Metrics  []map[string]string `json:"metrics,omitempty"` // one object, in a list
	Pref     string              `json:"pref,omitempty"`    // of all IPv6 routes
	Opaque   string              `json:"opaque,omitempty"`
	hopDoc
}

// hop is a next hop, and what a route does with packets that take it.
type hop struct {
	routing.Hop
	encap, flow string
}

// readHop reads the object of a next hop, or of a route, which may have one
// itself. more has the readers of further parts.
func readHop(r *reader, more map[string]func()) (h hop, o *object) {
	var via netip.Addr
	read := map[string]func(){
		"flags": func() {
			flags := scalars(r, str)
			h.OnLink, h.Dead = slices.Contains(flags, "onlink"),
				slices.Contains(flags, "dead")
			h.LinkDown = slices.Contains(flags, "linkdown")
		},
		"via":   func() { via = required(r.object(nil), "host", addr) },
		"flow":  func() { h.flow = realms(r.object(nil)) },
		"encap": func() { h.encap = tunnel(r) },
	}
	maps.Copy(read, more)
	o = r.object(read)
	h.Link, h.Via, h.Weight = field(o, "dev", name), field(o, "gateway", addr), 1
	if via.IsValid() {
		h.Via = via
	}
	return h, o
}

func readNextHop(r *reader) (hop, bool) {
	h, o := readHop(r, nil)
	h.Weight = max(1, int(field(o, "weight", number(0, 256))))
	return h, true
}

// tunnel reads the kind of a tunnel. `ip` of iproute2 6.15 prints an object
// with its settings; that of 6.1 prints the kind alone, and the settings beside
// it.
func tunnel(r *reader) string {
	if r.dec.PeekKind() == '{' {
		return required(r.object(nil), "encap_type", word)
	}
	return word(r, r.next())
}

func realms(o *object) string {
	to := required(o, "to", word)
	if o.has("from") {
		return fmt.Sprintf("realms %s/%s", field(o, "from", word), to)
	}
	return "realm " + to
}

// readRoute lets the parser of lines read what `ip route` has words for, which
// is all but metric and next hops.
func readRoute(r *reader) (routing.Route, bool) {
	var hops []hop
	var metrics metrics
	own, o := readHop(r, map[string]func(){
		"nexthops": func() { hops = listOf(r, readNextHop) },
		"metrics":  func() { metrics.read(r) },
	})
	if o.empty() {
		return routing.Route{}, false
	}
	// What a tunnel needs follows the route's own keys, and may have these
	// again.
	o.keepFirst("dst")
	o.keepFirst("tos")
	route, rejects := parseRoute(o, metrics.parts)
	opaqueHops := append([]hop{own}, hops...)
	if len(hops) == 0 && o.has("dev") {
		hops = []hop{own}
	}
	if rejects {
		hops = nil
	}
	route.Hops = mapped(hops, func(h hop) routing.Hop { return h.Hop })
	route.Opaque = routeOpaque(o, opaqueHops, metrics.words, len(hops) == 0 && !rejects)
	return route, true
}

// parseRoute reads all of a route but its next hops and Opaque. It reports
// whether the route rejects packets.
func parseRoute(o *object, metrics []part) (route routing.Route, rejects bool) {
	kind, dst := field(o, "type", routeType), required(o, "dst", word)
	family := routeFamily(o, dst)
	rejects = slices.Contains([]string{"blackhole", "unreachable", "prohibit", "throw"}, kind)
	parts := []part{{"dst", []string{kind, dst}}}
	if !rejects {
		parts[0].words = append(parts[0].words, "dev", "lo") // readHop reads the real ones
	}
	add := func(key, keyword string) { parts = o.part(parts, key, keyword) }
	add("table", "table")
	add("protocol", "proto")
	if family == routing.IPv4 {
		add("scope", "scope")
	}
	add("prefsrc", "src")
	parts = append(parts, metrics...)
	if family == routing.IPv6 {
		add("pref", "pref")
	}
	route = parse(o.r, 1, parts, func(line string) (routing.Route, error) {
		return routing.ParseRoute(family, line)
	})
	route.Metric = uint32(field(o, "metric", number(0, 1<<32-1)))
	if family == routing.IPv6 && route.Metric == 0 && route.Type == routing.Unicast {
		route.Metric = 1024
	}
	return route, rejects
}

// routeFamily tells IPv6 by a colon in the destination, or by the router
// preference, which `ip` prints for every IPv6 route.
func routeFamily(o *object, dst string) routing.Family {
	if o.has("pref") || strings.Contains(dst, ":") {
		return routing.IPv6
	}
	return routing.IPv4
}

// typeWords are the types of routes, by number.
var typeWords = []string{"", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole",
	"unreachable", "prohibit", "throw"}

func routeType(r *reader, s scalar) string {
	kind := typeWord(word(r, s))
	if !slices.Contains(typeWords, kind) {
		r.want("a type of routes", s)
	}
	return kind
}

func typeWord(s string) string {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || int(n) >= len(typeWords) {
		return s
	}
	return typeWords[n]
}

// routeOpaque is what the host package says of the same route. A locked mtu
// looks like any other here: `ip -j` does not print the lock.
func routeOpaque(o *object, hops []hop, metrics []string, unresolved bool) string {
	var w, flows []string
	if o.has("from") {
		w = append(w, "from "+field(o, "from", word))
	}
	if tos := field(o, "tos", whole); tos.kind == '"' { // a number is a tunnel's
		w = append(w, "tos "+tos.text)
	}
	if id := field(o, "nhid", number(0, 1<<32-1)); id != 0 && unresolved {
		w = append(w, fmt.Sprintf("nhid %d", id))
	}
	for _, h := range hops {
		if h.encap != "" {
			w = append(w, "encap "+h.encap)
		}
		if h.flow != "" {
			flows = append(flows, h.flow)
		}
	}
	w = slices.Concat(w, metrics, flows)
	if s := field(o, "opaque", str); s != "" {
		w = append(w, s)
	}
	return strings.Join(slices.Compact(w), " ")
}

// metrics are those of a route: the parts of its line that the parser reads,
// and the words of the others.
type metrics struct {
	parts []part
	words []string
}

// metricKeys are the keys of the metrics that routing.Route does not model, in
// the kernel's order.
var metricKeys = strings.Fields("window rtt rttvar ssthresh cwnd reordering hoplimit initcwnd " +
	"ecn rto_min initrwnd quickack congestion fastopen_no_cookie")

func (m *metrics) read(r *reader) {
	r.list(func() {
		at, o := r.path[len(r.path)-1].index, r.object(nil)
		for _, key := range []string{"mtu", "advmss"} {
			for _, p := range o.part(nil, key, key) {
				p.key = fmt.Sprintf("metrics[%d].%s", at, key)
				m.parts = append(m.parts, p)
			}
		}
		for _, key := range metricKeys {
			if o.has(key) {
				m.words = append(m.words, metric(o, key))
			}
		}
	})
}

// metric is a metric as `ip route` prints it; its key is often its word. Times
// are in milliseconds.
func metric(o *object, key string) string {
	if key == "ecn" {
		return "features ecn" // its value is null
	}
	value := field(o, key, word)
	switch key {
	case "congestion":
		key = "congctl"
	case "rtt", "rttvar", "rto_min":
		if ms, _ := strconv.ParseUint(value, 10, 32); ms < 1000 {
			value = fmt.Sprintf("%dms", ms)
		} else {
			value = fmt.Sprintf("%gs", float64(ms)/1000)
		}
	}
	return key + " " + value
}

func routeDocOf(r routing.Route) routeDoc {
	d := routeDoc{Type: digitsOf(r.Type), Dst: "default", Table: digitsOf(r.Table),
		Protocol: digitsOf(r.Protocol), Scope: digitsOf(r.Scope), Metric: r.Metric,
		Opaque: r.Opaque}
	if r.Dst.Bits() > 0 {
		d.Dst = r.Dst.String()
	}
	if r.Src.IsValid() {
		d.Src = r.Src.String()
	}
	metrics := map[string]string{}
	if r.MTU != 0 {
		metrics["mtu"] = digitsOf(r.MTU)
	}
	if r.AdvMSS != 0 {
		metrics["advmss"] = digitsOf(r.AdvMSS)
	}
	if len(metrics) > 0 {
		d.Metrics = []map[string]string{metrics}
	}
	if r.Family() == routing.IPv6 {
		d.Pref = map[int8]string{-1: "low", 0: "medium", 1: "high"}[r.Pref]
	}
	d.Flags = []string{}
	if len(r.Hops) == 1 {
		d.hopDoc = hopDocOf(r.Hops[0], r.Family())
		d.Weight = 0
	}
	if len(r.Hops) > 1 {
		d.NextHops = mapped(r.Hops, func(h routing.Hop) hopDoc {
			return hopDocOf(h, r.Family())
		})
	}
	return d
}

func digitsOf[T ~uint8 | ~uint32](n T) string { return strconv.FormatUint(uint64(n), 10) }

func hopDocOf(h routing.Hop, f routing.Family) hopDoc {
	d := hopDoc{Dev: h.Link, Weight: h.Weight,
		Flags: set(option{h.Dead, "dead"}, option{h.LinkDown, "linkdown"},
			option{h.OnLink, "onlink"})}
	switch {
	case !h.Via.IsValid():
	case routing.FamilyOf(h.Via) == f:
		d.Gateway = h.Via.String()
	default:
		d.Via = &viaDoc{familyWord(h.Via), h.Via.String()}
	}
	return d
}
