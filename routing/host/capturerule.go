package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

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
