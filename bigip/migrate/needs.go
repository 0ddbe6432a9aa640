package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// needs is what is missing for lasthop, as flags and as settings.
type needs struct {
	policy   routing.Policy     // what was decided, and what is proposed
	pins     map[netip.Addr]int // indexes of policy.Addresses
	proposed int                // how often policy and routes have grown
	flags    []string
	unknowns []unknown
	asked    []asked
	index    map[question]int // of asked, without the addresses
	routes   []route
}

// route is a route of the BIG-IP that main lacks here.
type route struct {
	router
	link string
}

// question is a decision that only the user can make: a line of lasthop.yaml
// that holds under a condition.
type question struct {
	link    string
	addr    netip.Addr // valid for one about an address
	when    string     // the condition; %s in it is the list of addresses
	who     string
	answer  string // "return: strict"; "" for a gateway
	gateway netip.Addr
}

func (q question) condition() string { return strings.Replace(q.when, "%s", q.who, 1) }

// asked is a question and all addresses that it is about.
type asked struct {
	question
	who []string
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
	n := &needs{policy: p, index: map[question]int{}, pins: map[netip.Addr]int{}}
	for i, a := range p.Addresses {
		n.pins[a.Addr] = i
	}
	return n
}

// ask asks a question once, for all its addresses.
func (n *needs) ask(q question) {
	key := q
	key.who = ""
	i, ok := n.index[key]
	if !ok {
		i = len(n.asked)
		n.index[key] = i
		n.asked = append(n.asked, asked{question: q})
	}
	n.asked[i].who = appendNew(n.asked[i].who, q.who)
}

// route proposes a route of main.
func (n *needs) route(r router, link string) {
	if !slices.Contains(n.routes, route{r, link}) {
		n.routes = append(n.routes, route{r, link})
		n.proposed++
	}
}

// on returns a host with what is proposed.
func (n *needs) on(h routing.Host) routing.Host {
	h.Routes = slices.Clone(h.Routes)
	for _, r := range n.routes {
		key := routing.RouteKey{Dst: r.network, Table: routing.TableMain}
		if r.network.Addr().Is6() {
			key.Metric = 1024 // the kernel's default
		}
		h.Routes = append(h.Routes, routing.Route{RouteKey: key, Type: routing.Unicast,
			Hops: []routing.Hop{{Link: r.link, Via: r.addr}}})
	}
	return h
}

// known reports whether a gateway of a link and family was decided or proposed.
func (n *needs) known(link string, f routing.Family) bool {
	return slices.ContainsFunc(n.policy.Gateways, func(g routing.GatewayPin) bool {
		return g.Link == link && g.Addr.IsValid() && routing.FamilyOf(g.Addr) == f
	})
}

// open returns the gateways that are unknown.
func (n *needs) open() []unknown {
	return slices.DeleteFunc(slices.Clone(n.unknowns),
		func(u unknown) bool { return n.known(u.link, u.family) })
}

// all returns the flags, including those that only the user can fill in.
func (n *needs) all() []string {
	out := slices.Clone(n.flags)
	for _, u := range n.open() {
		out = append(out, routing.Flag("gateway", u.link+"="+askFor(u.family)))
	}
	return out
}

// askFor returns a word for an address that only the user knows.
func askFor(f routing.Family) string { return f.String() + "-ADDR" }

// gateway proposes a gateway, and returns its flag for the report. Of two for a
// link and family it proposes the first.
func (n *needs) gateway(link string, addr netip.Addr) string {
	pin := routing.GatewayPin{Link: link, Addr: addr}
	value := link + "=" + pin.String()
	if !n.known(link, routing.FamilyOf(addr)) {
		n.policy.Gateways = append(n.policy.Gateways, pin)
		n.proposed++
		n.flags = append(n.flags, routing.Flag("gateway", value))
	}
	return routing.Flag("gateway", value)
}

// address proposes the link of an address, and its gateway if that is valid.
// The proposal replaces what was decided. It returns the flag for the report.
func (n *needs) address(addr netip.Addr, link string, gateway netip.Addr) string {
	pin := routing.AddressPin{Addr: addr, Link: link, Gateway: gateway}
	value := addr.String() + "=" + pin.String()
	i, ok := n.pins[addr]
	switch {
	case ok && n.policy.Addresses[i] == pin:
		return routing.Flag("address", value)
	case ok:
		old := routing.Flag("address", addr.String()+"="+n.policy.Addresses[i].String())
		n.flags = slices.DeleteFunc(n.flags, func(f string) bool { return f == old })
		n.policy.Addresses[i] = pin
	default:
		n.pins[addr] = len(n.policy.Addresses)
		n.policy.Addresses = append(n.policy.Addresses, pin)
	}
	n.proposed++
	n.flags = append(n.flags, routing.Flag("address", value))
	return routing.Flag("address", value)
}

// ret proposes the mode of a link. It reports whether that is the proposal, and
// no other mode was decided.
func (n *needs) ret(link string, mode routing.Return) bool {
	i := slices.IndexFunc(n.policy.Returns,
		func(r routing.ReturnPin) bool { return r.Link == link && !r.Addr.IsValid() })
	if i >= 0 {
		return n.policy.Returns[i].Mode == mode
	}
	n.policy.Returns = append(n.policy.Returns, routing.ReturnPin{Link: link, Mode: mode})
	n.proposed++
	n.flags = append(n.flags, routing.Flag("return", link+"="+string(mode)))
	return true
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
}
