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

// readRule builds the line that `ip rule` would print and lets the parser of
// lines read it.
func readRule(r *reader) (routing.Rule, bool) {
	o := r.object(nil)
	if o.empty() {
		return routing.Rule{}, false
	}
	f := cmp.Or(field(o, "family", family), routing.IPv4)
	rule := parse(r, 1, ruleParts(o), func(line string) (routing.Rule, error) {
		return routing.ParseRule(f, line)
	})
	rule.Opaque = ruleOpaque(o)
	if rule.Opaque == "l3mdev" || strings.HasSuffix(rule.Opaque, " l3mdev") {
		rule.Table = 0
	}
	return rule, true
}

func family(r *reader, s scalar) routing.Family {
	switch str(r, s) {
	case "inet":
		return routing.IPv4
	case "inet6":
		return routing.IPv6
	}
	r.want("inet or inet6", s)
	return routing.IPv4
}

func ruleParts(o *object) (parts []part) {
	add := func(key string, words ...string) { parts = append(parts, part{key, words}) }
	add("priority", "pref", required(o, "priority", word))
	if field(o, "not", yes) {
		add("not", "not")
	}
	add("src", "from", required(o, "src", word)+length(o, "srclen"))
	if o.has("dst") {
		add("dst", "to", field(o, "dst", word)+length(o, "dstlen"))
	}
	if o.has("fwmark") {
		mark := field(o, "fwmark", word)
		if o.has("fwmask") {
			mark += "/" + field(o, "fwmask", word)
		}
		add("fwmark", "fwmark", mark)
	}
	for _, k := range [][2]string{{"iif", "iif"}, {"oif", "oif"}, {"table", "lookup"},
		{"suppress_prefixlen", "suppress_prefixlength"},
		{"suppress_ifgroup", "suppress_ifgroup"}, {"goto", "goto"},
		{"protocol", "protocol"}} {
		parts = o.part(parts, k[0], k[1])
	}
	field(o, "iif", name)
	field(o, "oif", name)
	if field(o, "nop", yes) {
		add("nop", "nop")
	}
	if o.has("action") {
		add("action", typeWord(field(o, "action", word)))
	}
	return parts
}

// length is the length of a prefix, if the rule has it: "/24".
func length(o *object, key string) string {
	if !o.has(key) {
		return ""
	}
	return fmt.Sprintf("/%d", field(o, key, number(0, 128)))
}

func ruleOpaque(o *object) string {
	var w []string
	get := func(key string) string { return field(o, key, word) }
	span := func(first, last string) string {
		return get(first) + "-" + required(o, last, word)
	}
	if o.has("tos") {
		w = append(w, "tos "+get("tos"))
	}
	if o.has("uid_start") {
		w = append(w, "uidrange "+span("uid_start", "uid_end"))
	}
	if o.has("ipproto") {
		proto := strings.TrimPrefix(get("ipproto"), "ipproto-")
		for name, number := range map[string]string{"icmp": "1", "tcp": "6", "udp": "17",
			"ipv6-icmp": "58"} {
			if proto == number {
				proto = name
			}
		}
		w = append(w, "ipproto "+proto)
	}
	for _, port := range []string{"sport", "dport"} {
		if o.has(port) {
			w = append(w, port+" "+get(port))
		} else if o.has(port + "_start") {
			w = append(w, port+" "+span(port+"_start", port+"_end"))
		}
	}
	w = append(w, unknownSelectors(o)...)
	if o.has("flow_from") {
		w = append(w, "realms "+get("flow_from")+"/"+required(o, "flow_to", word))
	} else if o.has("flow_to") {
		w = append(w, "realms "+get("flow_to"))
	}
	if s := field(o, "opaque", str); s != "" {
		w = append(w, s)
	}
	if field(o, "l3mdev", yes) {
		w = append(w, "l3mdev")
	}
	return strings.Join(w, " ")
}

// wholeMasks select the whole value, so that they say nothing. Since 6.15 the
// kernel sends them, and `ip` of iproute2 6.15 prints them.
var wholeMasks = []string{"sport_mask 0xffff", "dport_mask 0xffff", "dscp_mask 0x3f"}

// unknownSelectors are the members that are not known here, in the order of the
// alphabet.
func unknownSelectors(o *object) (w []string) {
	for _, m := range o.members {
		text := m.key + " " + strings.Trim(m.value.String(), `"`)
		if !slices.Contains(ruleKeys, m.key) && !slices.Contains(wholeMasks, text) {
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

// ruleDoc is a rule as its keys.
type ruleDoc map[string]any

func ruleDocOf(r routing.Rule) ruleDoc {
	d := ruleDoc{"priority": r.Priority, "src": "all", "protocol": digitsOf(r.Protocol)}
	if r.Family == routing.IPv6 {
		d["family"] = "inet6"
	}
	prefix := func(addr, length string, p netip.Prefix) {
		if p.IsValid() {
			d[addr] = p.Addr().String()
			d[length] = p.Bits()
		}
	}
	prefix("src", "srclen", r.From)
	prefix("dst", "dstlen", r.To)
	if r.Not {
		d["not"] = nil
	}
	if r.Mark != 0 || r.Mask != 0 {
		d["fwmark"] = fmt.Sprintf("%#x", r.Mark)
		d["fwmask"] = fmt.Sprintf("%#x", r.Mask)
	}
	for key, value := range map[string]string{"iif": r.IIF, "oif": r.OIF, "opaque": r.Opaque} {
		if value != "" {
			d[key] = value
		}
	}
	if r.SuppressPrefix != routing.None {
		d["suppress_prefixlen"] = r.SuppressPrefix
	}
	if r.SuppressGroup != routing.None {
		d["suppress_ifgroup"] = strconv.Itoa(r.SuppressGroup)
	}
	if r.Table != 0 {
		d["table"] = digitsOf(r.Table)
	}
	switch r.Action {
	case routing.ToTable:
	case routing.Goto:
		d["goto"] = r.Goto
	case routing.Nop:
		d["nop"] = nil
	default:
		d["action"] = digitsOf(uint8(r.Action))
	}
	return d
}
