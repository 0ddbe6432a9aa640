package host

import (
	"bytes"
	"encoding/json"
	"errors"
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
	Encap   text     `json:"encap,omitempty"`
	Flow    *flowDoc `json:"flow,omitempty"`
}

// flowDoc is a route's realm.
type flowDoc struct {
	From text `json:"from,omitempty"`
	To   text `json:"to"`
}

func (f flowDoc) String() string {
	if f.From != "" {
		return fmt.Sprintf("realms %s/%s", f.From, f.To)
	}
	return "realm " + string(f.To)
}

type viaDoc struct {
	Family string `json:"family"`
	Host   string `json:"host"`
}

type routeDoc struct {
	Type     text              `json:"type,omitempty"`
	Dst      string            `json:"dst"`
	From     string            `json:"from,omitempty"`
	TOS      any               `json:"tos,omitempty"` // a string; a number is a tunnel's
	NextHop  int               `json:"nhid,omitempty"`
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

// UnmarshalJSON reads a route. `ip` prints what a tunnel (encap) needs beside the route's own keys, so that there are two dst: the
// first is the route's. (A tool that keeps only the last of equal keys spoils such a route, which is why jq is not used.)
func (d *routeDoc) UnmarshalJSON(b []byte) error {
	type plain routeDoc
	if err := json.Unmarshal(b, (*plain)(d)); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("want an object")
	}
	for dec.More() {
		var value json.RawMessage
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if key == "dst" {
			return json.Unmarshal(value, &d.Dst)
		}
	}
	return nil
}

func (d routeDoc) route() (routing.Route, error) {
	// `ip route` has words for all that a route is: the line says it, and there is one parser of lines.
	family := d.family()
	var w []string
	word := func(key string, value string) {
		if value != "" {
			w = append(w, key, value)
		}
	}
	w = append(w, typeWord(d.Type), d.Dst)
	if !rejectWord(d.Type) {
		w = append(w, "dev", "lo") // its next hops are read below
	}
	word("table", string(d.Table))
	word("proto", string(d.Protocol))
	if family == routing.IPv4 {
		word("scope", string(d.Scope))
	}
	word("src", d.Src)
	for _, m := range d.Metrics {
		word("mtu", string(m["mtu"]))
		word("advmss", string(m["advmss"]))
	}
	if d.Pref == "low" || d.Pref == "high" {
		word("pref", d.Pref)
	}
	r, err := routing.ParseRoute(family, strings.Join(w, " "))
	if err != nil {
		return r, err
	}
	r.Metric = d.Metric
	if family == routing.IPv6 && r.Metric == 0 && r.Type == routing.Unicast {
		r.Metric = 1024
	}
	r.Hops = nil
	if !rejectWord(d.Type) {
		if r.Hops, err = d.hops(); err != nil {
			return r, err
		}
	}
	r.Opaque = d.opaque(len(r.Hops) == 0 && !rejectWord(d.Type))
	return r, nil
}

func rejectWord(t text) bool {
	return slices.Contains([]string{"blackhole", "unreachable", "prohibit", "throw"}, typeWord(t))
}

// family tells IPv6 by a colon anywhere, or by the router preference, which `ip` prints for every IPv6 route.
func (d routeDoc) family() routing.Family {
	if d.Pref != "" || strings.Contains(d.Dst, ":") {
		return routing.IPv6
	}
	return routing.IPv4
}

func typeWord(t text) string {
	n, err := strconv.ParseUint(string(t), 10, 8)
	words := []string{"", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}
	if err != nil || int(n) >= len(words) {
		return string(t)
	}
	return words[n]
}

func (d routeDoc) hops() ([]routing.Hop, error) {
	docs := d.NextHops
	if len(docs) == 0 && d.Dev != "" {
		docs = []hopDoc{d.hopDoc}
		docs[0].Weight = 1
	}
	var hops []routing.Hop
	for _, x := range docs {
		h := routing.Hop{Link: x.Dev, Weight: max(x.Weight, 1), OnLink: slices.Contains(x.Flags, "onlink"),
			Dead: slices.Contains(x.Flags, "dead"), LinkDown: slices.Contains(x.Flags, "linkdown")}
		via := x.Gateway
		if x.Via != nil {
			via = x.Via.Host
		}
		if via != "" {
			var err error
			if h.Via, err = parseAddr(via); err != nil {
				return nil, err
			}
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// opaque is what decodeRoute says of the same route. A locked mtu looks like any other here: `ip -j` does not print the lock.
func (d routeDoc) opaque(unresolved bool) string {
	var w, flows []string
	if d.From != "" {
		w = append(w, "from "+d.From)
	}
	if tos, ok := d.TOS.(string); ok {
		w = append(w, "tos "+tos)
	}
	if d.NextHop != 0 && unresolved {
		w = append(w, fmt.Sprintf("nhid %d", d.NextHop))
	}
	for _, h := range append([]hopDoc{d.hopDoc}, d.NextHops...) {
		if h.Encap != "" {
			w = append(w, "encap "+string(h.Encap))
		}
		if h.Flow != nil {
			flows = append(flows, h.Flow.String())
		}
	}
	for _, m := range d.Metrics {
		w = append(w, metricWords(m)...)
	}
	w = append(w, flows...)
	if d.Opaque != "" {
		w = append(w, d.Opaque)
	}
	return strings.Join(slices.Compact(w), " ")
}

// metricWords prints the metrics that routing.Route does not model, in the kernel's order.
func metricWords(m map[string]text) (w []string) {
	for kind := range metricCongCtl + 2 {
		name, key := metricNames[kind], metricNames[kind]
		if kind == metricFeatures {
			key = "ecn"
		}
		if kind == metricCongCtl {
			key = "congestion"
		}
		value, ok := m[key]
		if !ok || name == "" || kind == metricMTU || kind == metricAdvMSS {
			continue
		}
		switch ms, _ := strconv.ParseUint(string(value), 10, 32); kind {
		case metricFeatures:
			value = "ecn"
		case metricRTT, metricRTTVar, metricRTOMin:
			value = text(milliseconds(uint32(ms)))
		}
		w = append(w, name+" "+string(value))
	}
	return w
}

func routeDocOf(r routing.Route) routeDoc {
	d := routeDoc{Type: number(r.Type), Dst: "default", Table: number(r.Table), Protocol: number(r.Protocol), Scope: number(r.Scope), Metric: r.Metric, Opaque: r.Opaque}
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
		d.NextHops = mapped(r.Hops, func(h routing.Hop) hopDoc { return hopDocOf(h, r.Family()) })
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
