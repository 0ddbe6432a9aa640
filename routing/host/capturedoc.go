package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// This file has the shapes of iproute2's JSON, object by object, both ways.

type linkDoc struct {
	Index  int       `json:"ifindex"`
	Name   string    `json:"ifname"`
	Flags  []string  `json:"flags"`
	MTU    int       `json:"mtu"`
	Master string    `json:"master,omitempty"`
	Group  text      `json:"group"`
	Info   *linkInfo `json:"linkinfo,omitempty"`
}

type linkInfo struct {
	Kind string    `json:"info_kind,omitempty"`
	Data *linkData `json:"info_data,omitempty"`
}

type linkData struct {
	Table text `json:"table,omitempty"` // of a vrf
}

func (d linkDoc) link() (routing.Link, error) {
	l := routing.Link{Index: d.Index, Name: d.Name, MTU: d.MTU, Master: d.Master, Loopback: slices.Contains(d.Flags, "LOOPBACK"),
		Up: slices.Contains(d.Flags, "UP"), Carrier: slices.Contains(d.Flags, "LOWER_UP"), PointToPoint: slices.Contains(d.Flags, "POINTOPOINT")}
	if l.Name == "" {
		return l, errors.New("no ifname")
	}
	group, err := numberOr(d.Group, "default", 0, 31)
	if err != nil {
		return l, fmt.Errorf("group: %w", err)
	}
	l.Group = int(group)
	if d.Info == nil {
		return l, nil
	}
	l.Kind = d.Info.Kind
	if l.Kind != "vrf" || d.Info.Data == nil {
		return l, nil
	}
	table, err := numberOr(d.Info.Data.Table, "", 0, 32)
	l.Table = uint32(table)
	return l, err
}

// numberOr reads a number of so many bits; the word, and nothing, stand for a number too. Other words are names in a file of
// the captured machine.
func numberOr(t text, word text, value uint64, bits int) (uint64, error) {
	if t == "" || t == word {
		return value, nil
	}
	n, err := strconv.ParseUint(string(t), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number: capture with ip -N", t)
	}
	return n, nil
}

func linkDocOf(l routing.Link) linkDoc {
	d := linkDoc{Index: l.Index, Name: l.Name, MTU: l.MTU, Master: l.Master, Group: text(strconv.Itoa(l.Group)), Flags: []string{}}
	for _, f := range []struct {
		on   bool
		name string
	}{{l.Loopback, "LOOPBACK"}, {l.PointToPoint, "POINTOPOINT"}, {l.Up, "UP"}, {l.Carrier, "LOWER_UP"}} {
		if f.on {
			d.Flags = append(d.Flags, f.name)
		}
	}
	if l.Kind != "" {
		d.Info = &linkInfo{Kind: l.Kind}
	}
	if l.Kind == "vrf" {
		d.Info.Data = &linkData{number(l.Table)}
	}
	return d
}

type addrDoc struct {
	Name  string        `json:"ifname"`
	Addrs []addrInfoDoc `json:"addr_info"`
}

type addrInfoDoc struct {
	Family    string `json:"family"`
	Local     string `json:"local"`
	Peer      string `json:"address,omitempty"`
	Bits      int    `json:"prefixlen"`
	Scope     text   `json:"scope"`
	Temporary flag   `json:"temporary,omitempty"`
	NoPrefix  flag   `json:"noprefixroute,omitempty"`
	Tentative flag   `json:"tentative,omitempty"`
	DADFailed flag   `json:"dadfailed,omitempty"`
}

func (d addrDoc) addTo(h *routing.Host) error {
	if d.Name == "" {
		return errors.New("no ifname")
	}
	for _, x := range d.Addrs {
		if x.Family != "inet" && x.Family != "inet6" {
			continue
		}
		local, err := parseAddr(x.Local)
		if err != nil {
			return err
		}
		scope, err := scopeOf(x.Scope)
		if err != nil {
			return fmt.Errorf("scope: %w", err)
		}
		a := routing.Addr{Link: d.Name, Prefix: netip.PrefixFrom(local, x.Bits), Scope: scope, Temporary: bool(x.Temporary),
			NoPrefix: bool(x.NoPrefix), Tentative: bool(x.Tentative || x.DADFailed)}
		if x.Peer != "" {
			peer, err := parseAddr(x.Peer)
			if err != nil {
				return err
			}
			a.Prefix, a.Peer = netip.PrefixFrom(local, local.BitLen()), netip.PrefixFrom(peer, x.Bits)
		}
		if !a.Prefix.IsValid() || a.Peer != (netip.Prefix{}) && !a.Peer.IsValid() {
			return fmt.Errorf("%s/%d is no address with prefix length", x.Local, x.Bits)
		}
		h.Addrs = append(h.Addrs, a)
	}
	return nil
}

func scopeOf(s text) (uint8, error) {
	named := map[text]uint8{"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
	if n, ok := named[s]; ok {
		return n, nil
	}
	n, err := numberOr(s, "", 0, 8)
	return uint8(n), err
}

func addrDocsOf(h routing.Host) []addrDoc {
	out := []addrDoc{}
	for _, a := range h.Addrs {
		x := addrInfoDoc{Family: familyWord(a.Prefix.Addr()), Local: a.Prefix.Addr().String(), Bits: a.Prefix.Bits(), Scope: text(strconv.Itoa(int(a.Scope))),
			Temporary: flag(a.Temporary), NoPrefix: flag(a.NoPrefix), Tentative: flag(a.Tentative)}
		if a.Peer.IsValid() {
			x.Peer, x.Bits = a.Peer.Addr().String(), a.Peer.Bits()
		}
		if n := len(out); n > 0 && out[n-1].Name == a.Link {
			out[n-1].Addrs = append(out[n-1].Addrs, x)
			continue
		}
		out = append(out, addrDoc{a.Link, []addrInfoDoc{x}})
	}
	return out
}

func familyWord(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

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

// ruleDoc is a rule as its keys: what is not known must not be lost.
type ruleDoc map[string]json.RawMessage

func (d ruleDoc) word(key string) string {
	var t text
	if raw, ok := d[key]; ok && t.UnmarshalJSON(raw) == nil {
		return string(t)
	}
	return ""
}

func (d ruleDoc) has(key string) bool { _, ok := d[key]; return ok }

// rule builds the line that `ip rule` would print and lets the parser of lines read it.
func (d ruleDoc) rule() (routing.Rule, error) {
	family := routing.IPv4
	if d.word("family") == "inet6" {
		family = routing.IPv6
	}
	if !d.has("priority") {
		return routing.Rule{}, errors.New("no priority")
	}
	w := []string{"pref", d.word("priority")}
	if d.has("not") {
		w = append(w, "not")
	}
	w = append(w, "from", d.prefix("src", "srclen"))
	if d.has("dst") {
		w = append(w, "to", d.prefix("dst", "dstlen"))
	}
	if d.has("fwmark") {
		mark := d.word("fwmark")
		if d.has("fwmask") {
			mark += "/" + d.word("fwmask")
		}
		w = append(w, "fwmark", mark)
	}
	for _, k := range [][2]string{{"iif", "iif"}, {"oif", "oif"}, {"table", "lookup"}, {"suppress_prefixlen", "suppress_prefixlength"},
		{"suppress_ifgroup", "suppress_ifgroup"}, {"goto", "goto"}, {"protocol", "protocol"}} {
		if d.has(k[0]) {
			w = append(w, k[1], d.word(k[0]))
		}
	}
	if d.has("nop") {
		w = append(w, "nop")
	}
	if d.has("action") {
		w = append(w, typeWord(text(d.word("action"))))
	}
	r, err := routing.ParseRule(family, strings.Join(w, " "))
	if err != nil {
		return r, err
	}
	r.Opaque = d.opaque()
	if r.Opaque == "l3mdev" || strings.HasSuffix(r.Opaque, " l3mdev") {
		r.Table = 0
	}
	return r, nil
}

func (d ruleDoc) prefix(addr, length string) string {
	if d.has(length) {
		return d.word(addr) + "/" + d.word(length)
	}
	return d.word(addr)
}

// ruleDocKeys are what rule reads; all else is a selector that is not modelled.
var ruleDocKeys = []string{"family", "priority", "not", "src", "srclen", "dst", "dstlen", "fwmark", "fwmask", "iif", "oif", "table",
	"suppress_prefixlen", "suppress_ifgroup", "goto", "protocol", "nop", "action", "opaque", "l3mdev", "iif_detached", "oif_detached", "unresolved"}

func (d ruleDoc) opaque() string {
	var w []string
	if d.has("tos") {
		w = append(w, "tos "+d.word("tos"))
	}
	if d.has("uid_start") {
		w = append(w, "uidrange "+d.word("uid_start")+"-"+d.word("uid_end"))
	}
	if d.has("ipproto") {
		proto := strings.TrimPrefix(d.word("ipproto"), "ipproto-")
		for name, n := range map[string]string{"icmp": "1", "tcp": "6", "udp": "17", "ipv6-icmp": "58"} {
			if proto == n {
				proto = name
			}
		}
		w = append(w, "ipproto "+proto)
	}
	for _, port := range []string{"sport", "dport"} {
		if d.has(port) {
			w = append(w, port+" "+d.word(port))
		} else if d.has(port + "_start") {
			w = append(w, port+" "+d.word(port+"_start")+"-"+d.word(port+"_end"))
		}
	}
	done := slices.Concat(ruleDocKeys, []string{"tos", "uid_start", "uid_end", "ipproto", "sport", "sport_start", "sport_end", "dport",
		"dport_start", "dport_end", "flow_from", "flow_to"})
	for _, key := range sortedKeys(d) {
		if !slices.Contains(done, key) {
			w = append(w, key+" "+strings.Trim(string(d[key]), `"`))
		}
	}
	if d.has("flow_from") {
		w = append(w, "realms "+d.word("flow_from")+"/"+d.word("flow_to"))
	} else if d.has("flow_to") {
		w = append(w, "realms "+d.word("flow_to"))
	}
	if d.has("opaque") {
		w = append(w, d.word("opaque"))
	}
	if d.has("l3mdev") {
		w = append(w, "l3mdev")
	}
	return strings.Join(w, " ")
}

func ruleDocOf(r routing.Rule) ruleDoc {
	d := ruleDoc{}
	set := func(key string, value any) { d[key], _ = json.Marshal(value) }
	if r.Family == routing.IPv6 {
		set("family", "inet6")
	}
	set("priority", r.Priority)
	prefix := func(addr, length string, p netip.Prefix) {
		if p.IsValid() {
			set(addr, p.Addr().String())
			set(length, p.Bits())
		}
	}
	set("src", "all")
	prefix("src", "srclen", r.From)
	prefix("dst", "dstlen", r.To)
	if r.Not {
		set("not", nil)
	}
	if r.Mark != 0 || r.Mask != 0 {
		set("fwmark", fmt.Sprintf("%#x", r.Mark))
		set("fwmask", fmt.Sprintf("%#x", r.Mask))
	}
	for key, value := range map[string]string{"iif": r.IIF, "oif": r.OIF, "opaque": r.Opaque} {
		if value != "" {
			set(key, value)
		}
	}
	if r.SuppressPrefix != routing.None {
		set("suppress_prefixlen", r.SuppressPrefix)
	}
	if r.SuppressGroup != routing.None {
		set("suppress_ifgroup", strconv.Itoa(r.SuppressGroup))
	}
	if r.Table != 0 {
		set("table", number(r.Table))
	}
	switch r.Action {
	case routing.ToTable:
	case routing.Goto:
		set("goto", r.Goto)
	case routing.Nop:
		set("nop", nil)
	default:
		set("action", number(uint8(r.Action)))
	}
	set("protocol", number(r.Protocol))
	return d
}

type neighDoc struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	MAC    string   `json:"lladdr,omitempty"`
	Router flag     `json:"router,omitempty"`
	State  []string `json:"state"`
}

func (d neighDoc) neigh() (routing.Neigh, error) {
	addr, err := parseAddr(d.Dst)
	return routing.Neigh{Link: d.Dev, Addr: addr, MAC: d.MAC, Router: bool(d.Router), State: strings.Join(d.State, ",")}, err
}

func neighDocOf(n routing.Neigh) neighDoc {
	return neighDoc{Dst: n.Addr.String(), Dev: n.Link, MAC: n.MAC, Router: flag(n.Router), State: []string{n.State}}
}

type leaseDoc struct {
	Dev     string `json:"dev"`
	Gateway string `json:"gateway"`
	Client  string `json:"client"`
}

func (d leaseDoc) lease() (routing.Lease, error) {
	addr, err := parseAddr(d.Gateway)
	return routing.Lease{Link: d.Dev, Gateway: addr, Client: d.Client}, err
}

func leaseDocOf(l routing.Lease) leaseDoc { return leaseDoc{l.Link, l.Gateway.String(), l.Client} }

type listenDoc struct {
	Address   string   `json:"address"`
	First     uint16   `json:"first_port"`
	Last      uint16   `json:"last_port"`
	Transport string   `json:"transport"`
	Context   string   `json:"context,omitempty"`
	Listen    string   `json:"listen,omitempty"`
	Origins   []string `json:"origins,omitempty"`
	Servers   []string `json:"servers,omitempty"`
}

func (d listenDoc) listener() (routing.Listener, error) {
	addr, err := parseAddr(d.Address)
	if t := routing.Transport(d.Transport); err == nil && t != routing.TCP && t != routing.UDP {
		err = fmt.Errorf("transport %q, want tcp or udp", d.Transport)
	}
	return routing.Listener{Addr: addr, Ports: routing.PortRange{First: d.First, Last: d.Last}, Transport: routing.Transport(d.Transport),
		Context: d.Context, Listen: d.Listen, Origins: d.Origins, Servers: d.Servers}, err
}

func listenDocOf(l routing.Listener) listenDoc {
	return listenDoc{l.Addr.String(), l.Ports.First, l.Ports.Last, string(l.Transport), l.Context, l.Listen, l.Origins, l.Servers}
}

type bindDoc struct {
	Address     string   `json:"address,omitempty"`
	Transparent bool     `json:"transparent,omitempty"`
	Upstreams   []string `json:"upstreams,omitempty"`
	Origin      string   `json:"origin,omitempty"`
}

func (d bindDoc) bind() (routing.Bind, error) {
	b := routing.Bind{Transparent: d.Transparent, Origin: d.Origin}
	var err error
	if d.Address != "" {
		if b.Addr, err = parseAddr(d.Address); err != nil {
			return b, err
		}
	}
	for _, s := range d.Upstreams {
		u, err := parseAddr(s)
		if err != nil {
			return b, err
		}
		b.Upstreams = append(b.Upstreams, u)
	}
	return b, nil
}

func bindDocOf(b routing.Bind) bindDoc {
	d := bindDoc{Transparent: b.Transparent, Origin: b.Origin}
	if b.Addr.IsValid() {
		d.Address = b.Addr.String()
	}
	for _, u := range b.Upstreams {
		d.Upstreams = append(d.Upstreams, u.String())
	}
	return d
}
