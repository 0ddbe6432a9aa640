package routing

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// topology is a host without anything that lasthop owns, and what each step of
// Decide asks of it, derived once. It never changes: a variant is a copy.
type topology struct {
	policy Policy
	host   Host  // without anything that lasthop owns
	own    State // what lasthop owns on it
	fib    *FIB  // of host

	links     map[string]Link
	sorted    []Link // by name
	assigned  map[netip.Addr][]Addr
	ports     map[string][]Link       // by master
	addrs     map[string][]Addr       // by link
	defaults  map[linkFamily][]*Route // of every table
	statics   map[linkFamily][]*Route // main's by a next hop, without defaults
	byHand    []Rule                  // hand-written rules for addresses
	connected map[linkFamily][]netip.Prefix
	// in the order in which they serve; a link without an entry is no
	// uplink
	uplinks map[linkFamily][]gateway
	routed  map[linkFamily][]netip.Prefix // subnets that a gateway of the link is in
}

type linkFamily struct {
	link   string
	family Family
}

func newTopology(h Host, p Policy) *topology {
	t := &topology{policy: p, host: Without(h, p.Numbers), own: Owned(h, p.Numbers),
		links: map[string]Link{}, ports: map[string][]Link{}, assigned: Assigned(h)}
	t.fib = NewFIB(t.host)
	t.sorted = slices.SortedFunc(slices.Values(t.host.Links),
		func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	for _, l := range t.sorted {
		t.links[l.Name] = l
		if l.Master != "" {
			t.ports[l.Master] = append(t.ports[l.Master], l)
		}
	}
	t.index()
	t.connected = connected(t.host)
	t.setUplinks(ladder{t}.findUplinks())
	return t
}

// setUplinks sets the uplinks, and the subnets that their gateways are in.
func (t *topology) setUplinks(ups map[linkFamily][]gateway) {
	t.uplinks, t.routed = ups, map[linkFamily][]netip.Prefix{}
	for key, gateways := range ups {
		for _, g := range gateways {
			if p := t.subnetOf(key.link, g.hops[0].Via); p.IsValid() {
				t.routed[key] = appendOnce(t.routed[key], p)
			}
		}
	}
}

// index derives what the ladder asks for each link.
func (t *topology) index() {
	t.addrs = map[string][]Addr{}
	t.defaults, t.statics = map[linkFamily][]*Route{}, map[linkFamily][]*Route{}
	count := map[string]int{}
	for _, a := range t.host.Addrs {
		count[a.Link]++
	}
	for _, a := range t.host.Addrs {
		if t.addrs[a.Link] == nil {
			t.addrs[a.Link] = make([]Addr, 0, count[a.Link])
		}
		t.addrs[a.Link] = append(t.addrs[a.Link], a)
	}
	var own []netip.Addr
	if slices.ContainsFunc(t.host.Rules, Rule.byHand) {
		own = sortOnce(addrsOf(t.host.Addrs), netip.Addr.Compare)
	}
	for i := range t.host.Routes {
		r := &t.host.Routes[i]
		for _, h := range r.Hops {
			key := linkFamily{h.Link, r.Family()}
			switch {
			case r.Type != Unicast:
			case r.IsDefault():
				t.defaults[key] = appendOnce(t.defaults[key], r)
			case r.Table == TableMain && h.Via.IsValid():
				t.statics[key] = append(t.statics[key], r)
			}
		}
	}
	t.byHand = filter(t.host.Rules, func(r Rule) bool {
		// a single address may move to another host at any time
		return r.byHand() && (r.From.IsSingleIP() || holds(r.From, own))
	})
}

// Assigned returns the host's addresses by their value.
func Assigned(h Host) map[netip.Addr][]Addr {
	m := make(map[netip.Addr][]Addr, len(h.Addrs))
	for i, a := range h.Addrs {
		if same := m[a.Prefix.Addr()]; same != nil {
			m[a.Prefix.Addr()] = append(same, a)
		} else {
			m[a.Prefix.Addr()] = h.Addrs[i : i+1 : i+1]
		}
	}
	return m
}

// Present returns a function that reports whether the host takes an address as
// its own: it is assigned, or a route of table local says so (`local
// 203.0.113.5 dev eth1`).
func Present(h Host) func(netip.Addr) bool {
	var local prefixSet
	for _, a := range h.Addrs {
		local.add(netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen()))
	}
	for _, r := range h.Routes {
		if r.Table == TableLocal && r.Type == Local {
			local.add(r.Dst)
		}
	}
	return func(a netip.Addr) bool { return local.longest(a).IsValid() }
}

// onLinkProtocol are the protocols of routes that make a prefix connected:
// kernel, ra, dhcp.
var onLinkProtocol = map[uint8]bool{2: true, 9: true, 16: true}

// connected returns the connected prefixes of each link, sorted: those of its
// addresses, and those that the kernel, router advertisements or DHCP made
// on-link. Host prefixes (/32, /128) and link-local ones do not count.
func connected(h Host) map[linkFamily][]netip.Prefix {
	m := map[linkFamily][]netip.Prefix{}
	add := func(link string, p netip.Prefix) {
		if !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() &&
			p.Bits() > 0 {
			key := linkFamily{link, FamilyOf(p.Addr())}
			if list := m[key]; len(list) == 0 || list[len(list)-1] != p {
				m[key] = append(list, p) // many addresses have one subnet
			}
		}
	}
	for _, a := range h.Addrs {
		add(a.Link, a.Connected())
	}
	for _, r := range h.Routes {
		if r.Table == TableMain && r.Type == Unicast && onLinkProtocol[r.Protocol] &&
			len(r.Hops) == 1 && !r.Hops[0].Via.IsValid() {
			add(r.Hops[0].Link, r.Dst)
		}
	}
	for key, prefixes := range m {
		m[key] = sortOnce(prefixes, comparePrefix)
	}
	return m
}

// withRules returns the topology with other rules.
func (t *topology) withRules(rules []Rule) *topology {
	c := *t
	c.host.Rules = rules
	c.fib = t.fib.with(c.host, State{})
	return &c
}

// withoutHeld returns the topology where the given links hold no gateway.
func (t *topology) withoutHeld(none map[linkFamily]bool) *topology {
	c, ups := *t, maps.Clone(t.uplinks)
	for key := range none {
		left := without(ups[key], func(g gateway) bool { return g.source == FromHeld })
		if ups[key] = left; len(left) == 0 {
			delete(ups, key)
		}
	}
	c.setUplinks(ups)
	return &c
}

// vrf returns the name of the VRF that a link is in; "" for none.
func (t *topology) vrf(l Link) string {
	if t.links[l.Master].Kind == "vrf" {
		return l.Master
	}
	return ""
}

// vrfOf returns the VRF that an address is in, and its link there; "" for none.
func (t *topology) vrfOf(addr netip.Addr) (link, vrf string) {
	for _, a := range t.assigned[addr] {
		if vrf := t.vrf(t.links[a.Link]); vrf != "" {
			return a.Link, vrf
		}
	}
	return "", ""
}

// isUplink reports whether a link is an uplink of a family.
func (t *topology) isUplink(link string, f Family) bool {
	return len(t.uplinks[linkFamily{link, f}]) > 0
}

// isOutward reports whether a link is outward in either family: what main knows
// behind it is elsewhere, and no client of a listener on another link comes in
// by it. These are the links of lasthop's link group, which has no family.
func (t *topology) isOutward(link string) bool {
	return t.outwardIn(link, IPv4) || t.outwardIn(link, IPv6)
}

// outwardIn reports whether a link is outward in a family: it is an uplink, or
// it has static next hops. A link on which this host forwards does not count by
// its next hops, since this host may itself be the router of the networks
// behind it.
func (t *topology) outwardIn(link string, f Family) bool {
	key := linkFamily{link, f}
	if t.outside(t.links[link]) {
		return t.isUplink(link, f) || t.leadsElsewhere(key) &&
			(!t.forwards(key) || t.wasOutward(link, f))
	}
	// Peers of a tunnel and containers use this host as their next hop. A
	// rule for an address there does not tell where they are.
	return slices.ContainsFunc(t.uplinks[key], func(g gateway) bool {
		return g.source != FromRule && g.source != FromTable
	})
}

// wasOutward reports whether lasthop's rules already take a link as outward
// because of this family: a link group has no family. The link stays outward:
// forwarding may begin at any time, when the first container starts, and tells
// nothing about clients that are answered today. If another program has deleted
// the rules, the group alone counts.
func (t *topology) wasOutward(link string, f Family) bool {
	other := linkFamily{link, IPv4 + IPv6 - f}
	named := func(f Family) bool {
		return slices.ContainsFunc(t.own.Rules, func(r Rule) bool {
			return r.Family == f && r.SuppressGroup == t.policy.Numbers.Group
		})
	}
	both := t.leadsElsewhere(other)
	return !t.isUplink(link, other.family) && (!both || t.forwards(other)) &&
		slices.ContainsFunc(t.own.Groups, func(g LinkGroup) bool {
			return g.Link == link
		}) &&
		(named(f) || !both || !named(other.family))
}

// leadsElsewhere reports whether main has static next hops on a link that leads
// to a network.
func (t *topology) leadsElsewhere(key linkFamily) bool {
	l := t.links[key.link]
	return len(t.statics[key]) > 0 && l.Up && t.outside(l) && t.vrf(l) == "" &&
		!t.policy.none(l.Name)
}

// forwards reports whether the host forwards what comes in by a link.
func (t *topology) forwards(key linkFamily) bool {
	return t.host.forwards(key.link, key.family)
}

// pointed returns the subnets of a link whose addresses are host prefixes. A
// network manager then writes the subnet as a route by the gateway, which is in
// that subnet (DHCP on Google Cloud: `10.7.1.0/24 via 10.7.1.1`).
func (t *topology) pointed(key linkFamily) []netip.Prefix {
	var own []netip.Addr
	for _, a := range t.addrs[key.link] {
		if a.Connected().IsSingleIP() {
			own = append(own, a.Prefix.Addr())
		}
	}
	own = sortOnce(own, netip.Addr.Compare)
	var out []netip.Prefix
	for _, r := range t.statics[key] {
		if r.Dst.Bits() > 2*wide(key.family) && r.Dst.Contains(r.Hops[0].Via) &&
			holds(r.Dst, own) {
			out = append(out, r.Dst)
		}
	}
	return out
}

// connects reports whether a connected prefix of the link holds the address.
func (t *topology) connects(key linkFamily, addr netip.Addr) bool {
	return slices.ContainsFunc(t.connected[key],
		func(p netip.Prefix) bool { return p.Contains(addr) })
}

// mainMetric returns the lowest metric of the defaults in main by a link.
func (t *topology) mainMetric(link string, f Family) uint32 {
	best := ^uint32(0)
	for _, r := range t.defaults[linkFamily{link, f}] {
		if r.Table == TableMain && len(hopsOn(r.Hops, t.links[link], false)) > 0 {
			best = min(best, r.Metric)
		}
	}
	return best
}

// globalAddrs returns the host's global addresses of a family, sorted, without
// temporary ones: those come and go, and are for the host's own connections. A
// prefix that another program has made local counts as one address.
func (t *topology) globalAddrs(f Family) []netip.Addr {
	var out []netip.Addr
	for _, r := range t.host.Routes {
		if r.Table == TableLocal && r.Type == Local && r.Protocol != protocolKernel &&
			r.Family() == f {
			out = append(out, inside(r.Dst, r.Dst.Addr().Next(), t.assigned))
		}
	}
	for _, a := range t.host.Addrs {
		addr := a.Prefix.Addr()
		if FamilyOf(addr) == f && a.Scope < ScopeLink && !a.Temporary &&
			!addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
			out = append(out, addr)
		}
	}
	return sortOnce(out, netip.Addr.Compare)
}

// ConnectedPrefixes returns the connected prefixes of each link: see connected.
func ConnectedPrefixes(h Host) map[string][]netip.Prefix {
	m := map[string][]netip.Prefix{}
	for key, prefixes := range connected(h) {
		m[key.link] = append(m[key.link], prefixes...)
	}
	return m
}
