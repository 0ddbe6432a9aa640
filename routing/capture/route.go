package capture

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

type hopDoc struct {
	Gateway netip.Addr `json:"gateway,omitzero" is:"address"`
	Via     viaDoc     `json:"via,omitzero"`
	Dev     string     `json:"dev,omitempty" is:"name"`
	Weight  int        `json:"weight,omitempty" is:"0..256"`
	Flags   []string   `json:"flags"`
	// attributes that are not modelled, as `ip` prints them
	Flow  flowDoc `json:"flow,omitzero"`
	Encap tunnel  `json:"encap,omitzero"`
	// the program of an encap of kind bpf, if it stands next to the kind
	Xmit string `json:"xmit,omitempty"`
}

type viaDoc struct {
	Family string     `json:"family" is:"any"`
	Host   netip.Addr `json:"host" is:"address" need:"always"`
}

type flowDoc struct {
	From string `json:"from" is:"word"`
	To   string `json:"to" is:"word" need:"always"`
}

type routeDoc struct {
	Type     string    `json:"type,omitempty" is:"type"`
	Dst      string    `json:"dst" is:"word" need:"if any" again:"of the tunnel"`
	Table    string    `json:"table" is:"word"`
	Protocol string    `json:"protocol" is:"word"`
	Scope    string    `json:"scope" is:"word"`
	Src      string    `json:"prefsrc,omitempty" is:"word"`
	Metric   uint32    `json:"metric,omitempty" is:"0..4294967295"`
	NextHops []hopDoc  `json:"nexthops,omitempty"`
	Metrics  []members `json:"metrics,omitempty" is:"any"` // one object, in a list
	Pref     string    `json:"pref,omitempty" is:"word"`   // of all IPv6 routes
	Opaque   string    `json:"opaque,omitempty"`
	// attributes that are not modelled, as `ip` prints them
	From    string `json:"from,omitempty" is:"word"`
	TOS     scalar `json:"tos,omitzero" is:"any" again:"of the tunnel"`
	NextHop uint32 `json:"nhid,omitempty" is:"0..4294967295"`
	hopDoc
}

// hop is a next hop. A route may be one itself.
func (d hopDoc) hop() routing.Hop {
	has := func(flag string) bool { return slices.Contains(d.Flags, flag) }
	h := routing.Hop{Link: d.Dev, Via: d.Gateway, Weight: 1, OnLink: has("onlink"),
		Dead: has("dead"), LinkDown: has("linkdown")}
	if d.Via.Host.IsValid() {
		h.Via = d.Via.Host
	}
	return h
}

func (d hopDoc) nextHop(*reader) (routing.Hop, bool) {
	h := d.hop()
	h.Weight = max(1, d.Weight)
	return h, true
}

// tunnel is the kind of a tunnel, and the program of one of kind bpf. `ip` of
// iproute2 6.15 prints an object with its settings; that of 6.1 prints the kind
// alone, and the settings next to it.
type tunnel struct {
	Kind string `json:"encap_type" is:"word" need:"always"`
	Xmit string `json:"xmit,omitempty"`
}

func (t *tunnel) fill(r *reader) {
	if r.dec.PeekKind() == '{' {
		r.structure(reflect.ValueOf(t).Elem())
		return
	}
	r.leaf(reflect.ValueOf(&t.Kind).Elem(), "word")
}

// program returns lasthop's program on the next hop; "" for none.
func (d hopDoc) program() string {
	name := cmp.Or(d.Encap.Xmit, d.Xmit)
	if d.Encap.Kind != "bpf" || !strings.HasPrefix(name, routing.LastHopPrefix) {
		return ""
	}
	return name
}

// realms are the words of `ip route` for the flow.
func (d flowDoc) realms() string {
	if d.From != "" {
		return fmt.Sprintf("realms %s/%s", d.From, d.To)
	}
	return "realm " + d.To
}

// route makes the parser of lines read what `ip route` has words for, which is
// everything except metric and next hops.
func (d routeDoc) route(r *reader) (routing.Route, bool) {
	if d.Dst == "" {
		return routing.Route{}, false
	}
	hops := all(r, "nexthops", d.NextHops, hopDoc.nextHop)
	tuned := d.metrics(r)
	route, rejects := d.parse(r, tuned.parts)
	if len(hops) == 0 && d.Dev != "" {
		hops = []routing.Hop{d.hop()}
	}
	if rejects {
		hops = nil
	}
	route.Hops = hops
	if !rejects {
		route.Encap = cmp.Or(d.program(), encapOf(d.NextHops))
	}
	unresolved := len(hops) == 0 && !rejects
	route.Opaque = d.opaque(tuned.words, unresolved)
	return route, true
}

// encapOf returns the program of lasthop that next hops carry.
func encapOf(hops []hopDoc) string {
	i := slices.IndexFunc(hops, func(h hopDoc) bool { return h.program() != "" })
	if i < 0 {
		return ""
	}
	return hops[i].program()
}

// parse reads all of a route except its next hops and Opaque. It reports
// whether the route rejects packets.
func (d routeDoc) parse(r *reader, metrics []part) (route routing.Route, rejects bool) {
	kind, family := typeWord(d.Type), d.family()
	rejects = slices.Contains([]string{"blackhole", "unreachable", "prohibit", "throw"}, kind)
	parts := r.part(nil, "dst", kind, d.Dst)
	if !rejects {
		parts[0].words = append(parts[0].words, "dev", "lo") // hop has the real ones
	}
	parts = r.part(parts, "table", "table", d.Table)
	parts = r.part(parts, "protocol", "proto", d.Protocol)
	if family == routing.IPv4 {
		parts = r.part(parts, "scope", "scope", d.Scope)
	}
	parts = append(r.part(parts, "prefsrc", "src", d.Src), metrics...)
	if family == routing.IPv6 {
		parts = r.part(parts, "pref", "pref", d.Pref)
	}
	route = parse(r, 1, parts, func(line string) (routing.Route, error) {
		return routing.ParseRoute(family, line)
	})
	route.Metric = d.Metric
	if family == routing.IPv6 && route.Metric == 0 && route.Type == routing.Unicast {
		route.Metric = 1024
	}
	return route, rejects
}

// family recognises IPv6 by a colon in the destination, or by the router
// preference, which `ip` prints for every IPv6 route.
func (d routeDoc) family() routing.Family {
	if d.Pref != "" || strings.Contains(d.Dst, ":") {
		return routing.IPv6
	}
	return routing.IPv4
}

// typeWords are the types of routes, by number.
var typeWords = []string{"", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole",
	"unreachable", "prohibit", "throw"}

func typeWord(s string) string {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || int(n) >= len(typeWords) {
		return s
	}
	return typeWords[n]
}

// opaque returns what the host package has for the same route. A locked mtu
// looks like any other here: `ip -j` does not print the lock.
func (d routeDoc) opaque(metrics []string, unresolved bool) string {
	var w, flows []string
	if d.From != "" {
		w = append(w, "from "+d.From)
	}
	if d.TOS.kind == '"' { // a number is a tunnel's
		w = append(w, "tos "+d.TOS.text)
	}
	if d.NextHop != 0 && unresolved {
		w = append(w, fmt.Sprintf("nhid %d", d.NextHop))
	}
	for _, h := range append([]hopDoc{d.hopDoc}, d.NextHops...) {
		if h.Encap.Kind != "" && h.program() == "" {
			w = append(w, "encap "+h.Encap.Kind)
		}
		if h.Flow.To != "" {
			flows = append(flows, h.Flow.realms())
		}
	}
	w = slices.Concat(w, metrics, flows)
	if d.Opaque != "" {
		w = append(w, d.Opaque)
	}
	return strings.Join(slices.Compact(w), " ")
}

// metrics are those of a route: the parts of its line that the parser reads,
// and the words of all other metrics.
type metrics struct {
	parts []part
	words []string
}

// metricKeys are the keys of the metrics that routing.Route does not model, in
// the kernel's order.
var metricKeys = strings.Fields("window rtt rttvar ssthresh cwnd reordering hoplimit initcwnd " +
	"ecn rto_min initrwnd quickack congestion fastopen_no_cookie")

func (d routeDoc) metrics(r *reader) (m metrics) {
	all(r, "metrics", d.Metrics, func(d members, r *reader) (none struct{}, ok bool) {
		o := object{r, d}
		for _, key := range []string{"mtu", "advmss"} {
			m.parts = r.part(m.parts, key, key, o.word(key))
		}
		for _, key := range metricKeys {
			if o.has(key) {
				m.words = append(m.words, metric(o, key))
			}
		}
		return none, ok
	})
	return m
}

// metric is a metric as `ip route` prints it; its key is often its word. Times
// are in milliseconds.
func metric(o object, key string) string {
	if key == "ecn" {
		return "features ecn" // its value is null
	}
	value := o.word(key)
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
	metrics := members{}
	if r.MTU != 0 {
		metrics["mtu"] = quoted(digitsOf(r.MTU))
	}
	if r.AdvMSS != 0 {
		metrics["advmss"] = quoted(digitsOf(r.AdvMSS))
	}
	if len(metrics) > 0 {
		d.Metrics = []members{metrics}
	}
	if r.Family() == routing.IPv6 {
		d.Pref = map[int8]string{-1: "low", 0: "medium", 1: "high"}[r.Pref]
	}
	d.Flags = []string{}
	if len(r.Hops) == 1 {
		d.hopDoc = hopDocOf(r, r.Hops[0])
		d.Weight = 0
	}
	if len(r.Hops) > 1 {
		d.NextHops = mapped(r.Hops, func(h routing.Hop) hopDoc {
			return hopDocOf(r, h)
		})
	}
	return d
}

func digitsOf[T ~uint8 | ~uint32](n T) string { return strconv.FormatUint(uint64(n), 10) }

func hopDocOf(r routing.Route, h routing.Hop) hopDoc {
	d := hopDoc{Dev: h.Link, Weight: h.Weight,
		Flags: set(option{h.Dead, "dead"}, option{h.LinkDown, "linkdown"},
			option{h.OnLink, "onlink"})}
	if r.Encap != "" {
		d.Encap = tunnel{Kind: "bpf", Xmit: r.Encap}
	}
	switch {
	case !h.Via.IsValid():
	case routing.FamilyOf(h.Via) == r.Family():
		d.Gateway = h.Via
	default:
		d.Via = viaDoc{familyWord(h.Via), h.Via}
	}
	return d
}
