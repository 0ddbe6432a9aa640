package capture

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// rule builds the line that `ip rule` would print and makes the parser of lines
// read it.
func (d members) rule(r *reader) (routing.Rule, bool) {
	if len(d) == 0 {
		return routing.Rule{}, false
	}
	o := object{r, d}
	family := cmp.Or(families[o.get("family", "family")], routing.IPv4)
	rule := parse(r, 1, o.parts(), func(line string) (routing.Rule, error) {
		return routing.ParseRule(family, line)
	})
	rule.Opaque = o.opaque()
	if rule.Opaque == "l3mdev" || strings.HasSuffix(rule.Opaque, " l3mdev") {
		rule.Table = 0
	}
	return rule, true
}

func (o object) parts() (parts []part) {
	add := func(key string, words ...string) {
		parts = append(parts, part{o.path.AppendToken(key), words})
	}
	add("priority", "pref", o.need("priority"))
	if o.yes("not") {
		add("not", "not")
	}
	add("src", "from", o.need("src")+o.length("srclen"))
	if o.has("dst") {
		add("dst", "to", o.word("dst")+o.length("dstlen"))
	}
	if o.has("fwmark") {
		mark := o.word("fwmark")
		if o.has("fwmask") {
			mark += "/" + o.word("fwmask")
		}
		add("fwmark", "fwmark", mark)
	}
	for _, k := range [][2]string{{"iif", "iif"}, {"oif", "oif"}, {"table", "lookup"},
		{"suppress_prefixlen", "suppress_prefixlength"},
		{"suppress_ifgroup", "suppress_ifgroup"}, {"goto", "goto"},
		{"protocol", "protocol"}} {
		parts = o.part(parts, k[0], k[1], o.word(k[0]))
	}
	o.get("iif", "name")
	o.get("oif", "name")
	if o.yes("nop") {
		add("nop", "nop")
	}
	if o.has("action") {
		add("action", typeWord(o.word("action")))
	}
	return parts
}

// length is the length of a prefix, if the rule has it: "/24".
func (o object) length(key string) string {
	if !o.has(key) {
		return ""
	}
	return "/" + o.get(key, "0..128")
}

func (o object) opaque() string {
	var w []string
	span := func(first, last string) string { return o.word(first) + "-" + o.need(last) }
	if o.has("tos") {
		w = append(w, "tos "+o.word("tos"))
	}
	if o.has("uid_start") {
		w = append(w, "uidrange "+span("uid_start", "uid_end"))
	}
	if o.has("ipproto") {
		proto := strings.TrimPrefix(o.word("ipproto"), "ipproto-")
		names := map[string]string{"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp"}
		w = append(w, "ipproto "+cmp.Or(names[proto], proto))
	}
	for _, port := range []string{"sport", "dport"} {
		if o.has(port) {
			w = append(w, port+" "+o.word(port))
		} else if o.has(port + "_start") {
			w = append(w, port+" "+span(port+"_start", port+"_end"))
		}
	}
	w = append(w, o.unknown()...)
	if o.has("flow_from") {
		w = append(w, "realms "+o.word("flow_from")+"/"+o.need("flow_to"))
	} else if o.has("flow_to") {
		w = append(w, "realms "+o.word("flow_to"))
	}
	if s := o.get("opaque", ""); s != "" {
		w = append(w, s)
	}
	if o.yes("l3mdev") {
		w = append(w, "l3mdev")
	}
	return strings.Join(w, " ")
}

// wholeMasks select the whole value, so they have no effect. Since 6.15 the
// kernel sends them, and `ip` of iproute2 6.15 prints them.
var wholeMasks = []string{"sport_mask 0xffff", "dport_mask 0xffff", "dscp_mask 0x3f"}

// unknown are the selectors that are not known here, in alphabetical order.
func (o object) unknown() (w []string) {
	for key, value := range o.members {
		text := key + " " + strings.Trim(value.String(), `"`)
		if !slices.Contains(ruleKeys, key) && !slices.Contains(wholeMasks, text) {
			w = append(w, text)
		}
	}
	slices.Sort(w)
	return w
}

// ruleKeys are the keys that are read, or that do not affect a rule's meaning.
var ruleKeys = strings.Fields("family priority not src srclen dst dstlen fwmark fwmask iif oif " +
	"table suppress_prefixlen suppress_ifgroup goto protocol nop action opaque l3mdev " +
	"iif_detached oif_detached unresolved tos uid_start uid_end ipproto sport sport_start " +
	"sport_end dport dport_start dport_end flow_from flow_to")

func ruleDocOf(r routing.Rule) members {
	d := members{"priority": number(r.Priority), "src": quoted("all"),
		"protocol": quoted(digitsOf(r.Protocol))}
	text := func(key, value string) {
		if value != "" {
			d[key] = quoted(value)
		}
	}
	if r.Family == routing.IPv6 {
		text("family", "inet6")
	}
	prefix := func(addr, length string, p netip.Prefix) {
		if p.IsValid() {
			text(addr, p.Addr().String())
			d[length] = number(p.Bits())
		}
	}
	prefix("src", "srclen", r.From)
	prefix("dst", "dstlen", r.To)
	null := scalar{'n', "null"}
	if r.Not {
		d["not"] = null
	}
	if r.Mark != 0 || r.Mask != 0 {
		text("fwmark", fmt.Sprintf("%#x", r.Mark))
		text("fwmask", fmt.Sprintf("%#x", r.Mask))
	}
	text("iif", r.IIF)
	text("oif", r.OIF)
	text("opaque", r.Opaque)
	if r.SuppressPrefix != routing.None {
		d["suppress_prefixlen"] = number(r.SuppressPrefix)
	}
	if r.SuppressGroup != routing.None {
		text("suppress_ifgroup", strconv.Itoa(r.SuppressGroup))
	}
	if r.Table != 0 {
		d["table"] = quoted(digitsOf(r.Table))
	}
	switch r.Action {
	case routing.ToTable:
	case routing.Goto:
		d["goto"] = number(r.Goto)
	case routing.Nop:
		d["nop"] = null
	default:
		d["action"] = quoted(digitsOf(uint8(r.Action)))
	}
	return d
}

func number(n int) scalar { return scalar{'0', strconv.Itoa(n)} }

func quoted(s string) scalar { return scalar{'"', s} }
