package migrate

import (
	"cmp"
	"net/netip"
	"slices"

	"lasthop/bigip"
	"lasthop/routing"
)

// network is where the VLANs of a BIG-IP are on this host.
type network struct {
	config   bigip.Config
	places   map[string]place // by VLAN
	gateways map[int][]router // of routes, by route domain
	pools    lastHopPools
}

// place is where a VLAN is on this host.
type place struct {
	domain   int
	origin   string
	prefixes []netip.Prefix // the subnets of its self IPs
	links    []string       // the interfaces with an address in these
	routers  []router       // on it: of default routes, of other routes, of last-hop-pools
	shared   string         // a VLAN of another route domain with the same subnet
}

// router is a gateway that the BIG-IP's files name, or the VLAN of a route
// without one: its clients are on-link there.
type router struct {
	addr    netip.Addr   // not valid for a VLAN
	vlan    string       // "" for a gateway
	network netip.Prefix // of its route; not valid for a member of a last-hop-pool
	domain  int
	from    string // "net route /Common/default"
	origin  string
}

func (r router) String() string {
	if r.vlan != "" {
		return r.vlan + ", on-link"
	}
	return r.addr.String()
}

// family returns that of its route, or of a member of a last-hop-pool itself.
func (r router) family() routing.Family {
	if r.network.IsValid() {
		return routing.FamilyOf(r.network.Addr())
	}
	return routing.FamilyOf(r.addr)
}

// onLink reports whether it is a VLAN, for a route without a gateway.
func (r router) onLink(vlan string) bool { return r.vlan != "" && r.vlan == vlan }

// isDefault reports whether the route is for all of a family.
func (r router) isDefault() bool { return r.network.Bits() == 0 }

func (p place) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p.prefixes, func(x netip.Prefix) bool {
		return x.Contains(addr)
	})
}

// holds reports whether a router is in the VLAN's subnets.
func (p place) holds(r router) bool { return r.domain == p.domain && p.contains(r.addr) }

func (p place) overlaps(x netip.Prefix) bool { return slices.ContainsFunc(p.prefixes, x.Overlaps) }

func (p place) hasDefault(f routing.Family) bool {
	return slices.ContainsFunc(p.of(f), router.isDefault)
}

// of returns the routers of a family, each once.
func (p place) of(f routing.Family) []router {
	var out []router
	for _, r := range p.routers {
		if routing.FamilyOf(r.addr) == f &&
			!slices.ContainsFunc(out, func(x router) bool { return x.addr == r.addr }) {
			out = append(out, r)
		}
	}
	return out
}

// newNetwork finds the place of each VLAN. VLANs of route domains that this
// host is not for overlap nothing.
func newNetwork(c bigip.Config, h routing.Host, s *selected) network {
	n := network{c, map[string]place{}, map[int][]router{}, newLastHopPools(c)}
	for _, r := range c.Routes {
		to := router{network: r.Network, domain: r.Domain, from: "net route " + r.Name,
			origin: r.Origin, vlan: r.Interface}
		if to.vlan != "" {
			n.gateways[r.Domain] = append(n.gateways[r.Domain], to)
		}
		for _, to.addr = range c.Gateways(r) {
			n.gateways[r.Domain] = append(n.gateways[r.Domain], to)
		}
	}
	for _, v := range c.VLANs {
		p := place{domain: v.Domain, origin: v.Origin}
		for _, s := range c.Selfs {
			if s.VLAN == v.Name && s.Prefix.IsValid() {
				p.prefixes = appendNew(p.prefixes, s.Prefix.Masked())
			}
		}
		for _, a := range h.Addrs {
			x := a.Connected()
			if !x.IsSingleIP() && !x.Addr().IsLinkLocalUnicast() &&
				!x.Addr().IsLoopback() && p.overlaps(x) {
				p.links = appendNew(p.links, a.Link)
			}
		}
		slices.Sort(p.links)
		p.routers = n.on(p)
		n.places[v.Name] = p
	}
	for name, p := range n.places {
		i := slices.IndexFunc(c.VLANs, func(v bigip.VLAN) bool {
			q := n.places[v.Name]
			return q.domain != p.domain && s.serves(q.domain) &&
				slices.ContainsFunc(q.prefixes, p.overlaps)
		})
		if i >= 0 {
			p.shared = c.VLANs[i].Name
			n.places[name] = p
		}
	}
	return n
}

// lastHopPools are the routers that virtual servers' last-hop-pools name. A
// router of one virtual server is a router of the VLAN for all.
type lastHopPools struct {
	of  map[string][]router // by pool
	all []router
}

func newLastHopPools(c bigip.Config) lastHopPools {
	p := lastHopPools{of: map[string][]router{}}
	for _, v := range c.Virtuals {
		if _, known := p.of[v.LastHopPool]; known || v.LastHopPool == "" {
			continue
		}
		var members []router
		for _, m := range v.LastHops {
			if m.Addr.IsValid() && !m.Disabled {
				members = append(members, router{addr: m.Addr, domain: m.Domain,
					origin: v.Origin, from: "last-hop-pool " + v.LastHopPool})
			}
		}
		p.of[v.LastHopPool], p.all = members, append(p.all, members...)
	}
	return p
}

// on returns the routers in the VLAN's subnets.
func (n network) on(p place) []router {
	var defaults, narrower []router
	for _, r := range slices.Concat(n.gateways[p.domain], n.pools.all) {
		switch {
		case !p.holds(r):
		case r.isDefault():
			defaults = append(defaults, r)
		default:
			narrower = append(narrower, r)
		}
	}
	return append(defaults, narrower...)
}

// answered returns the routers that the BIG-IP sent a row's replies to, as far
// as its files tell: the members of the last-hop-pool, else the gateways on the
// VLAN. If none of them is on the VLAN, it returns them as elsewhere.
func (n network) answered(l *line, f routing.Family) (on, elsewhere []router) {
	var all []router
	switch l.in.Return {
	case bigip.ToLastHopPool:
		for _, r := range n.pools.of[l.in.Value] {
			if routing.FamilyOf(r.addr) == f {
				all = append(all, r)
			}
		}
	case bigip.Routed:
		for _, r := range n.gateways[l.d.Domain] {
			if r.isDefault() && r.family() == f && !r.onLink(l.in.VLAN) {
				all = append(all, r)
			}
		}
	default:
		return l.place.of(f), nil
	}
	for _, r := range all {
		if l.place.holds(r) {
			on = append(on, r)
		}
	}
	if len(on) == 0 {
		return nil, all
	}
	return on, nil
}

// before returns where the BIG-IP sent a row's replies.
func (l *line) before() string {
	vlan := cmp.Or(l.in.VLAN, "its VLAN")
	switch l.in.Return {
	case bigip.ToLastHop:
		return "back to the router that asked, on " + vlan
	case bigip.Scripted:
		return "by iRule"
	}
	if _, ok := l.d.Host(); !ok {
		return "by its routing table"
	}
	checked := ""
	if l.in.SourceChecking {
		checked = ", source-checking"
	}
	switch {
	case l.in.Return == bigip.ToLastHopPool && len(l.on)+len(l.elsewhere) == 0:
		return "to its last-hop-pool"
	case l.in.Return == bigip.ToLastHopPool:
		return "to its last-hop-pool: " + list(slices.Concat(l.on, l.elsewhere))
	case len(l.on) > 0:
		return "by its routing table: " + list(l.on) + " on " + vlan + checked
	case len(l.elsewhere) > 0:
		return "by its routing table: " + list(l.elsewhere) + checked
	}
	return "by its routing table: no default gateway" + checked
}
