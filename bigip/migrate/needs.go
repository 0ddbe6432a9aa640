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

// needs is what is missing for lasthop, as flags and as settings.
type needs struct {
	policy   routing.Policy // what was decided, and what is proposed
	proposed int            // how often policy has grown
	flags    []string
	unknowns []unknown
}

// unknown is a gateway that neither the files nor this host tell.
type unknown struct {
	link, vlan string
	family     routing.Family
	prefixes   []netip.Prefix
}

func newNeeds(p routing.Policy) *needs {
	p.Gateways, p.Returns, p.Addresses = slices.Clone(p.Gateways), slices.Clone(p.Returns),
		slices.Clone(p.Addresses)
	return &needs{policy: p}
}

// gateway proposes one, and returns its flag for people to read. Of two for a
// link and family it proposes the first.
func (n *needs) gateway(link string, addr netip.Addr) string {
	pin := routing.GatewayPin{Link: link, Addr: addr}
	value := link + "=" + pin.String()
	if !slices.ContainsFunc(n.policy.Gateways, func(g routing.GatewayPin) bool {
		return g.Link == link && g.Addr.IsValid() &&
			routing.FamilyOf(g.Addr) == routing.FamilyOf(addr)
	}) {
		n.policy.Gateways = append(n.policy.Gateways, pin)
		n.proposed++
		n.flags = append(n.flags, routing.Flag("gateway", value))
	}
	return routing.Flag("gateway", value)
}

// address proposes the link of an address, and its gateway if that is valid.
// The proposal replaces what was decided. It returns the flag for people to
// read.
func (n *needs) address(addr netip.Addr, link string, gateway netip.Addr) string {
	pin := routing.AddressPin{Addr: addr, Link: link, Gateway: gateway}
	value := addr.String() + "=" + pin.String()
	if !slices.Contains(n.policy.Addresses, pin) {
		n.policy.Addresses = append(slices.DeleteFunc(n.policy.Addresses,
			func(p routing.AddressPin) bool { return p.Addr == addr }), pin)
		n.proposed++
		n.flags = append(n.flags, routing.Flag("address", value))
	}
	return routing.Flag("address", value)
}

// ret proposes the mode of a link, if none was decided or proposed.
func (n *needs) ret(link string, mode routing.Return) {
	if slices.ContainsFunc(n.policy.Returns,
		func(r routing.ReturnPin) bool { return r.Link == link && !r.Addr.IsValid() }) {
		return
	}
	n.policy.Returns = append(n.policy.Returns, routing.ReturnPin{Link: link, Mode: mode})
	n.proposed++
	n.flags = append(n.flags, routing.Flag("return", link+"="+string(mode)))
}

// unknown asks for the gateway of a link and family.
func (n *needs) unknown(link, vlan string, f routing.Family, p place) {
	if slices.ContainsFunc(n.unknowns,
		func(u unknown) bool { return u.link == link && u.family == f }) {
		return
	}
	u := unknown{link: link, vlan: vlan, family: f}
	for _, x := range p.prefixes {
		if routing.FamilyOf(x.Addr()) == f {
			u.prefixes = append(u.prefixes, x)
		}
	}
	n.unknowns = append(n.unknowns, u)
	n.flags = append(n.flags, routing.Flag("gateway", link+"=ADDR"))
}

// settings writes what was decided and is proposed as lasthop.yaml. What is not
// known is a comment.
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
	for _, u := range n.unknowns {
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
	var out []string
	for _, link := range slices.Sorted(maps.Keys(links)) {
		k := links[link]
		text := fmt.Sprintf("  %s:\n", word(link))
		if len(k.gateways)+len(k.missing) > 0 {
			text += fmt.Sprintf("    gateways: [%s]", strings.Join(k.gateways, ", "))
			if len(k.missing) > 0 {
				text += fmt.Sprintf("  # add the router for "+
					"%s, which nobody can see",
					strings.Join(k.missing, " and "))
			}
			text += "\n"
		}
		out = append(out, text+strings.Join(k.more, ""))
	}
	return out
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
	return out
}

// word writes a scalar of YAML: an IPv4 address or prefix and the usual name of
// an interface as they stand, all else in quotes.
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
