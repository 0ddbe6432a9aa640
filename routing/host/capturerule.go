package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// rule builds the line that `ip rule` would print and lets the parser of lines
// read it.
func (n *node) rule() routing.Rule {
	family := routing.IPv4
	if f := n.field("family"); f.string() == "inet6" {
		family = routing.IPv6
	} else if f.string() != "inet" && !f.absent() {
		f.want("inet or inet6")
	}
	var parts []part
	add := func(x *node, words ...string) { parts = append(parts, part{x, words}) }
	add(n.field("priority"), "pref", n.field("priority").must().word())
	if n.field("not").flag() {
		add(n, "not")
	}
	add(n.field("src"), "from", n.selector("src", "srclen"))
	if n.has("dst") {
		add(n.field("dst"), "to", n.selector("dst", "dstlen"))
	}
	if n.has("fwmark") {
		add(n.field("fwmark"), "fwmark", n.mark())
	}
	for _, k := range [][2]string{{"iif", "iif"}, {"oif", "oif"}, {"table", "lookup"},
		{"suppress_prefixlen", "suppress_prefixlength"},
		{"suppress_ifgroup", "suppress_ifgroup"}, {"goto", "goto"},
		{"protocol", "protocol"}} {
		if x := n.field(k[0]); !x.absent() {
			add(x, k[1], x.word())
		}
	}
	n.field("iif").name()
	n.field("oif").name()
	if n.field("nop").flag() {
		add(n.field("nop"), "nop")
	}
	if x := n.field("action"); !x.absent() {
		add(x, typeWord(x.word()))
	}
	r := parse(1, parts, func(line string) (routing.Rule, error) {
		return routing.ParseRule(family, line)
	})
	r.Opaque = n.ruleOpaque()
	if r.Opaque == "l3mdev" || strings.HasSuffix(r.Opaque, " l3mdev") {
		r.Table = 0
	}
	return r
}

// selector is an address, "all", or an address and its length.
func (n *node) selector(addr, length string) string {
	s := n.field(addr).must().word()
	if x := n.field(length); !x.absent() {
		s = fmt.Sprintf("%s/%d", s, x.number(128))
	}
	return s
}

func (n *node) mark() string {
	s := n.field("fwmark").word()
	if mask := n.field("fwmask"); !mask.absent() {
		s += "/" + mask.word()
	}
	return s
}

// ruleDocKeys are what rule reads; all else is a selector that is not modelled.
var ruleDocKeys = []string{"family", "priority", "not", "src", "srclen", "dst", "dstlen", "fwmark",
	"fwmask", "iif", "oif", "table", "suppress_prefixlen", "suppress_ifgroup", "goto",
	"protocol", "nop", "action", "opaque", "l3mdev", "iif_detached", "oif_detached",
	"unresolved"}

func (n *node) ruleOpaque() string {
	var w []string
	span := func(first, last string) string {
		return n.field(first).word() + "-" + n.field(last).must().word()
	}
	if n.has("tos") {
		w = append(w, "tos "+n.field("tos").word())
	}
	if n.has("uid_start") {
		w = append(w, "uidrange "+span("uid_start", "uid_end"))
	}
	if n.has("ipproto") {
		proto := strings.TrimPrefix(n.field("ipproto").word(), "ipproto-")
		for name, number := range map[string]string{"icmp": "1", "tcp": "6", "udp": "17",
			"ipv6-icmp": "58"} {
			if proto == number {
				proto = name
			}
		}
		w = append(w, "ipproto "+proto)
	}
	for _, port := range []string{"sport", "dport"} {
		if n.has(port) {
			w = append(w, port+" "+n.field(port).word())
		} else if n.has(port + "_start") {
			w = append(w, port+" "+span(port+"_start", port+"_end"))
		}
	}
	w = append(w, n.unknownSelectors()...)
	if n.has("flow_from") {
		w = append(w, "realms "+n.field("flow_from").word()+"/"+
			n.field("flow_to").must().word())
	} else if n.has("flow_to") {
		w = append(w, "realms "+n.field("flow_to").word())
	}
	if s := n.field("opaque").string(); s != "" {
		w = append(w, s)
	}
	if n.field("l3mdev").flag() {
		w = append(w, "l3mdev")
	}
	return strings.Join(w, " ")
}

// unknownSelectors are the keys that are not known here, in the order of the
// alphabet.
func (n *node) unknownSelectors() (w []string) {
	done := slices.Concat(ruleDocKeys, []string{"tos", "uid_start", "uid_end", "ipproto",
		"sport", "sport_start", "sport_end", "dport", "dport_start", "dport_end",
		"flow_from", "flow_to"})
	object, _ := n.value.(fields)
	for _, f := range object {
		if !slices.Contains(done, f.key) {
			w = append(w, f.key+" "+strings.Trim(f.String(), `"`))
		}
	}
	slices.Sort(w)
	return w
}

// ruleDoc is a rule as its keys.
type ruleDoc map[string]any

func ruleDocOf(r routing.Rule) ruleDoc {
	d := ruleDoc{}
	set := func(key string, value any) { d[key] = value }
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
