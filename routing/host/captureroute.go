package host

import (
	"fmt"
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
	Type     text              `json:"type,omitempty"`
	Dst      string            `json:"dst"`
	Table    text              `json:"table"`
	Protocol text              `json:"protocol"`
	Scope    text              `json:"scope"`
	Src      string            `json:"prefsrc,omitempty"`
	Metric   uint32            `json:"metric,omitempty"`
	NextHops []hopDoc          `json:"nexthops,omitempty"`
	Metrics  []map[string]text `json:"metrics,omitempty"` // one object, in a list
	Pref     string            `json:"pref,omitempty"`    // of IPv6 routes, and of all of them
	Opaque   string            `json:"opaque,omitempty"`
	hopDoc
}

// route lets the parser of lines read what `ip route` has words for, which is
// all but metric and next hops.
func (n *node) route() routing.Route {
	kind, dst := n.field("type").word(), n.field("dst").must().word()
	family := n.routeFamily(dst)
	parts := []part{{n.field("dst"), []string{typeWord(kind), dst}}}
	if !rejectWord(kind) {
		parts[0].words = append(parts[0].words, "dev", "lo") // its next hops are read below
	}
	if word := typeWord(kind); kind != "" && !slices.Contains(typeWords, word) {
		n.field("type").want("a type of routes")
	}
	add := func(key string, x *node) {
		if !x.absent() {
			parts = append(parts, part{x, []string{key, x.word()}})
		}
	}
	add("table", n.field("table"))
	add("proto", n.field("protocol"))
	if family == routing.IPv4 {
		add("scope", n.field("scope"))
	}
	add("src", n.field("prefsrc"))
	for _, m := range n.field("metrics").list() {
		add("mtu", m.field("mtu"))
		add("advmss", m.field("advmss"))
	}
	if family == routing.IPv6 {
		add("pref", n.field("pref"))
	}
	r := parse(1, parts, func(line string) (routing.Route, error) {
		return routing.ParseRoute(family, line)
	})
	r.Metric = uint32(n.field("metric").number(1<<32 - 1))
	if family == routing.IPv6 && r.Metric == 0 && r.Type == routing.Unicast {
		r.Metric = 1024
	}
	r.Hops = nil
	if !rejectWord(kind) {
		r.Hops = n.hops()
	}
	r.Opaque = n.routeOpaque(len(r.Hops) == 0 && !rejectWord(kind))
	return r
}

func rejectWord(kind string) bool {
	return slices.Contains([]string{"blackhole", "unreachable", "prohibit", "throw"},
		typeWord(kind))
}

// routeFamily tells IPv6 by a colon in the destination, or by the router
// preference, which `ip` prints for every IPv6 route.
func (n *node) routeFamily(dst string) routing.Family {
	if n.has("pref") || strings.Contains(dst, ":") {
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

func (n *node) hops() []routing.Hop {
	docs := n.field("nexthops").list()
	if len(docs) == 0 && n.has("dev") {
		docs = []*node{n}
	}
	var hops []routing.Hop
	for _, x := range docs {
		flags := x.field("flags").strings()
		h := routing.Hop{Link: x.field("dev").name(), Weight: 1,
			OnLink:   slices.Contains(flags, "onlink"),
			Dead:     slices.Contains(flags, "dead"),
			LinkDown: slices.Contains(flags, "linkdown"),
			Via:      x.field("gateway").addr()}
		if via := x.field("via"); !via.absent() {
			h.Via = via.field("host").must().addr()
		}
		if x != n {
			h.Weight = max(1, int(x.field("weight").number(256)))
		}
		hops = append(hops, h)
	}
	return hops
}

// routeOpaque is what decodeRoute says of the same route. A locked mtu looks
// like any other here: `ip -j` does not print the lock.
func (n *node) routeOpaque(unresolved bool) string {
	var w, flows []string
	if from := n.field("from"); !from.absent() {
		w = append(w, "from "+from.word())
	}
	if tos, ok := n.field("tos").value.(string); ok { // a number is a tunnel's
		w = append(w, "tos "+tos)
	}
	if id := n.field("nhid").number(1<<32 - 1); id != 0 && unresolved {
		w = append(w, fmt.Sprintf("nhid %d", id))
	}
	for _, h := range append([]*node{n}, n.field("nexthops").list()...) {
		if encap := h.field("encap"); !encap.absent() {
			w = append(w, "encap "+encap.word())
		}
		if flow := h.field("flow"); !flow.absent() {
			flows = append(flows, flow.realms())
		}
	}
	for _, m := range n.field("metrics").list() {
		w = append(w, m.metricWords()...)
	}
	w = append(w, flows...)
	if s := n.field("opaque").string(); s != "" {
		w = append(w, s)
	}
	return strings.Join(slices.Compact(w), " ")
}

func (n *node) realms() string {
	to := n.field("to").must().word()
	if from := n.field("from"); !from.absent() {
		return fmt.Sprintf("realms %s/%s", from.word(), to)
	}
	return "realm " + to
}

// metricWords prints the metrics that routing.Route does not model, in the
// kernel's order. What has no value is null.
func (n *node) metricWords() (w []string) {
	for kind := range metricCongCtl + 2 {
		name, key := metricNames[kind], metricNames[kind]
		if kind == metricFeatures {
			key = "ecn"
		}
		if kind == metricCongCtl {
			key = "congestion"
		}
		x := n.field(key)
		if x.absent() || name == "" || kind == metricMTU || kind == metricAdvMSS {
			continue
		}
		value := "ecn"
		if kind != metricFeatures {
			value = x.word()
		}
		switch ms, _ := strconv.ParseUint(value, 10, 32); kind {
		case metricRTT, metricRTTVar, metricRTOMin:
			value = milliseconds(uint32(ms))
		}
		w = append(w, name+" "+value)
	}
	return w
}

func routeDocOf(r routing.Route) routeDoc {
	d := routeDoc{Type: number(r.Type), Dst: "default", Table: number(r.Table),
		Protocol: number(r.Protocol), Scope: number(r.Scope), Metric: r.Metric,
		Opaque: r.Opaque}
	if r.Dst.Bits() > 0 {
		d.Dst = r.Dst.String()
	}
	if r.Src.IsValid() {
		d.Src = r.Src.String()
	}
	metrics := map[string]text{}
	if r.MTU != 0 {
		metrics["mtu"] = number(r.MTU)
	}
	if r.AdvMSS != 0 {
		metrics["advmss"] = number(r.AdvMSS)
	}
	if len(metrics) > 0 {
		d.Metrics = []map[string]text{metrics}
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

func number[T ~uint8 | ~uint32](n T) text { return text(strconv.FormatUint(uint64(n), 10)) }

func hopDocOf(h routing.Hop, f routing.Family) hopDoc {
	d := hopDoc{Dev: h.Link, Weight: h.Weight, Flags: []string{}}
	switch {
	case !h.Via.IsValid():
	case routing.FamilyOf(h.Via) == f:
		d.Gateway = h.Via.String()
	default:
		d.Via = &viaDoc{familyWord(h.Via), h.Via.String()}
	}
	for _, x := range []struct {
		on   bool
		name string
	}{{h.Dead, "dead"}, {h.LinkDown, "linkdown"}, {h.OnLink, "onlink"}} {
		if x.on {
			d.Flags = append(d.Flags, x.name)
		}
	}
	return d
}
