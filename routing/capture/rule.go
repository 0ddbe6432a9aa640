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

// rule builds the line that `ip rule` would print and lets the parser of lines
// read it.
func (d members) rule(r *reader) (routing.Rule, bool) {
	if len(d) == 0 {
		return routing.Rule{}, false
	}
	for _, key := range []string{"priority", "src"} {
		if !d.has(key) {
			r.fail(key, "missing key")
		}
	}
	family := cmp.Or(families[d.get(r, "family", "family")], routing.IPv4)
	rule := parse(r, 1, d.parts(r), func(line string) (routing.Rule, error) {
		return routing.ParseRule(family, line)
	})
	rule.Opaque = d.opaque(r)
	if rule.Opaque == "l3mdev" || strings.HasSuffix(rule.Opaque, " l3mdev") {
		rule.Table = 0
	}
	return rule, true
}

func (d members) parts(r *reader) (parts []part) {
	add := func(key string, words ...string) {
		parts = append(parts, part{r.path.AppendToken(key), words})
	}
	add("priority", "pref", d.word(r, "priority"))
	if d.yes(r, "not") {
		add("not", "not")
	}
	add("src", "from", d.word(r, "src")+d.length(r, "srclen"))
	if d.has("dst") {
		add("dst", "to", d.word(r, "dst")+d.length(r, "dstlen"))
	}
	if d.has("fwmark") {
		mark := d.word(r, "fwmark")
		if d.has("fwmask") {
			mark += "/" + d.word(r, "fwmask")
		}
		add("fwmark", "fwmark", mark)
	}
	for _, k := range [][2]string{{"iif", "iif"}, {"oif", "oif"}, {"table", "lookup"},
		{"suppress_prefixlen", "suppress_prefixlength"},
		{"suppress_ifgroup", "suppress_ifgroup"}, {"goto", "goto"},
		{"protocol", "protocol"}} {
		parts = r.part(parts, k[0], k[1], d.word(r, k[0]))
	}
	d.get(r, "iif", "name")
	d.get(r, "oif", "name")
	if d.yes(r, "nop") {
		add("nop", "nop")
	}
	if d.has("action") {
		add("action", typeWord(d.word(r, "action")))
	}
	return parts
}

// length is the length of a prefix, if the rule has it: "/24".
func (d members) length(r *reader, key string) string {
	if !d.has(key) {
		return ""
	}
	return "/" + d.get(r, key, "0..128")
}

func (d members) opaque(r *reader) string {
	var w []string
	get := func(key string) string { return d.word(r, key) }
	need := func(key string) string {
		if !d.has(key) {
			r.fail(key, "missing key")
		}
		return get(key)
	}
	span := func(first, last string) string { return get(first) + "-" + need(last) }
	if d.has("tos") {
		w = append(w, "tos "+get("tos"))
	}
	if d.has("uid_start") {
		w = append(w, "uidrange "+span("uid_start", "uid_end"))
	}
	if d.has("ipproto") {
		proto := strings.TrimPrefix(get("ipproto"), "ipproto-")
		names := map[string]string{"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp"}
		w = append(w, "ipproto "+cmp.Or(names[proto], proto))
	}
	for _, port := range []string{"sport", "dport"} {
		if d.has(port) {
			w = append(w, port+" "+get(port))
		} else if d.has(port + "_start") {
			w = append(w, port+" "+span(port+"_start", port+"_end"))
		}
	}
	w = append(w, d.unknown()...)
	if d.has("flow_from") {
		w = append(w, "realms "+get("flow_from")+"/"+need("flow_to"))
	} else if d.has("flow_to") {
		w = append(w, "realms "+get("flow_to"))
	}
	if s := d.get(r, "opaque", ""); s != "" {
		w = append(w, s)
	}
	if d.yes(r, "l3mdev") {
		w = append(w, "l3mdev")
	}
	return strings.Join(w, " ")
}

// wholeMasks select the whole value, so that they say nothing. Since 6.15 the
// kernel sends them, and `ip` of iproute2 6.15 prints them.
var wholeMasks = []string{"sport_mask 0xffff", "dport_mask 0xffff", "dscp_mask 0x3f"}

// unknown are the selectors that are not known here, in the order of the
// alphabet.
func (d members) unknown() (w []string) {
	for key, value := range d {
		text := key + " " + strings.Trim(value.String(), `"`)
		if !slices.Contains(ruleKeys, key) && !slices.Contains(wholeMasks, text) {
			w = append(w, text)
		}
	}
	slices.Sort(w)
	return w
}

// ruleKeys are the keys that are read, or that say nothing of a rule's meaning.
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
