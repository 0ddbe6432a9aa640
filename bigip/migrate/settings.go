package migrate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// settings writes what was decided and is proposed as lasthop.yaml. What is
// unknown, and what only the user can decide, is a comment.
func (n *needs) settings() string {
	var b strings.Builder
	section := func(name string, body []string) {
		if len(body) > 0 {
			fmt.Fprintf(&b, "%s:\n%s", name, strings.Join(body, ""))
		}
	}
	section("interfaces", n.interfaces())
	section("addresses", n.addresses())
	var direct []string
	for _, p := range n.policy.Direct {
		direct = append(direct, fmt.Sprintf("  - %s\n", word(p.String())))
	}
	section("direct", direct)
	return b.String()
}

// interfaces writes what is known and what is missing of each interface.
func (n *needs) interfaces() []string {
	type keys struct{ gateways, missing, more []string }
	links := map[string]*keys{}
	of := func(link string) *keys {
		if links[link] == nil {
			links[link] = &keys{}
		}
		return links[link]
	}
	for _, g := range n.policy.Gateways {
		k := of(g.Link)
		k.gateways = append(k.gateways, word(g.String()))
	}
	for _, u := range n.open() {
		k := of(u.link)
		k.missing = append(k.missing, u.family.String())
	}
	for _, r := range n.policy.Returns {
		if !r.Addr.IsValid() {
			k := of(r.Link)
			k.more = append(k.more, fmt.Sprintf("    return: %s\n", r.Mode))
		}
	}
	for _, link := range n.policy.FailClosed {
		k := of(link)
		k.more = appendNew(k.more, "    fail_closed: true\n")
	}
	for _, a := range n.asked {
		if !a.addr.IsValid() {
			k := of(a.link)
			k.more = append(k.more, "    "+n.comment(a))
		}
	}
	var out []string
	for _, link := range slices.Sorted(maps.Keys(links)) {
		k := links[link]
		text := fmt.Sprintf("  %s:\n", word(link))
		if len(k.gateways)+len(k.missing) > 0 {
			text += fmt.Sprintf("    gateways: [%s]", strings.Join(k.gateways, ", "))
			if len(k.missing) > 0 {
				text += fmt.Sprintf("  # add the router for %s, which migrate "+
					"cannot detect",
					strings.Join(k.missing, " and "))
			}
			text += "\n"
		}
		out = append(out, text+strings.Join(k.more, ""))
	}
	return out
}

// comment writes a question as a line that holds without its condition.
func (n *needs) comment(a asked) string {
	answer, instead := a.answer, slices.ContainsFunc(n.policy.Returns,
		func(r routing.ReturnPin) bool { return r.Link == a.link && !r.Addr.IsValid() })
	if a.gateway.IsValid() {
		answer, instead = n.gateways(a.link, a.gateway)
	}
	q := a.question
	q.who = printable(routing.Some(a.who, 6)) // a line break would end the comment
	when := "only if " + q.condition()
	if instead {
		when = "instead, " + when
	}
	return "# " + when + ": " + answer + "\n"
}

// gateways writes the gateways of a link with another one for its family, and
// reports whether the link has gateways now.
func (n *needs) gateways(link string, addr netip.Addr) (list string, has bool) {
	words := []string{word(addr.String())}
	for _, g := range n.policy.Gateways {
		if g.Link != link {
			continue
		}
		has = true
		if g.Addr.IsValid() && routing.FamilyOf(g.Addr) != routing.FamilyOf(addr) {
			words = append(words, word(g.String()))
		}
	}
	return "gateways: [" + strings.Join(words, ", ") + "]", has
}

func (n *needs) addresses() []string {
	keys := map[netip.Addr][]string{}
	for _, a := range n.policy.Addresses {
		keys[a.Addr] = append(keys[a.Addr], "interface: "+word(a.Link))
		if a.Gateway.IsValid() {
			keys[a.Addr] = append(keys[a.Addr], "gateway: "+word(a.Gateway.String()))
		}
	}
	for _, r := range n.policy.Returns {
		if r.Addr.IsValid() {
			keys[r.Addr] = append(keys[r.Addr], "return: "+string(r.Mode))
		}
	}
	var out []string
	for _, a := range slices.SortedFunc(maps.Keys(keys), netip.Addr.Compare) {
		out = append(out,
			fmt.Sprintf("  %s: {%s}\n", word(a.String()), strings.Join(keys[a], ", ")))
	}
	for _, a := range n.asked {
		if a.addr.IsValid() {
			out = append(out, fmt.Sprintf("  # only if %s: %s: {interface: %s}\n",
				a.condition(), word(a.addr.String()), word(a.link)))
		}
	}
	return out
}

// word writes a scalar of YAML: an IPv4 address or prefix and the usual name of
// an interface unchanged, everything else in quotes.
func word(s string) string {
	addr, _, _ := strings.Cut(s, "/")
	if a, err := netip.ParseAddr(addr); err == nil && a.Is4() || s == "none" || s == "static" {
		return s
	}
	// then a number, so that it is none of YAML's own words
	name := strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz")
	if name != "" && name != s && strings.Trim(name, "0123456789") == "" {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// LimitSettings warns in the step of lasthop.yaml that lasthop reads no file of
// that size, if it is larger than so many bytes.
func (r Result) LimitSettings(most int) {
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Where != "lasthop.yaml" || len(r.Settings) <= most {
			continue
		}
		s.Notes = append(s.Notes, fmt.Sprintf("This is too large: lasthop reads at most "+
			"%d KiB. Leave addresses out and give them as flags (--address ADDR=IF), "+
			"or serve them by another host.", most>>10))
	}
}
