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
	hops     map[int][]router // members of last-hop-pools, by route domain
}

// place is where a VLAN is on this host.
type place struct {
	domain   int
	origin   string
	prefixes []netip.Prefix // the subnets of its self IPs
	links    []string       // the interfaces with an address in these
	routers  []router       // on it: of default routes, of others, of last-hop-pools
	shared   string         // a VLAN of another route domain with the same subnet
}

// router is a gateway that the BIG-IP's files name.
type router struct {
	addr    netip.Addr
	network netip.Prefix // of its route; not valid for a member of a last-hop-pool
	domain  int
	from    string // "net route /Common/default"
	origin  string
}

func (r router) String() string { return r.addr.String() }

// isDefault reports whether the route is for all of a family.
func (r router) isDefault() bool { return r.network.Bits() == 0 }

func (p place) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p.prefixes, func(x netip.Prefix) bool {
		return x.Contains(addr)
	})
}

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

// newNetwork finds the place of each VLAN.
func newNetwork(c bigip.Config, h routing.Host) network {
	n := network{c, map[string]place{}, map[int][]router{}, lastHops(c)}
	for _, r := range c.Routes {
		for _, addr := range c.Gateways(r) {
			n.gateways[r.Domain] = append(n.gateways[r.Domain],
				router{addr, r.Network, r.Domain, "net route " + r.Name, r.Origin})
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
			return q.domain != p.domain && slices.ContainsFunc(q.prefixes, p.overlaps)
		})
		if i >= 0 {
			p.shared = c.VLANs[i].Name
			n.places[name] = p
		}
	}
	return n
}

// lastHops returns the members of the virtual servers' last-hop-pools: a router
// of one virtual server is a router of the VLAN for all.
func lastHops(c bigip.Config) map[int][]router {
	all := map[int][]router{}
	seen := map[string]bool{}
	for _, v := range c.Virtuals {
		if v.LastHopPool == "" || seen[v.LastHopPool] {
			continue
		}
		seen[v.LastHopPool] = true
		for _, m := range v.LastHops {
			if m.Addr.IsValid() && !m.Disabled {
				all[m.Domain] = append(all[m.Domain], router{addr: m.Addr,
					domain: m.Domain, origin: v.Origin,
					from: "last-hop-pool " + v.LastHopPool})
			}
		}
	}
	return all
}

// on returns the routers in the VLAN's subnets.
func (n network) on(p place) []router {
	var defaults, others []router
	for _, r := range slices.Concat(n.gateways[p.domain], n.hops[p.domain]) {
		switch {
		case !p.contains(r.addr):
		case r.isDefault():
			defaults = append(defaults, r)
		default:
			others = append(others, r)
		}
	}
	return append(defaults, others...)
}

// answered returns the routers that the BIG-IP sent a row's replies to, as far
// as its files say it: the members of the last-hop-pool, else the gateways on
// the VLAN. If none of them is on the VLAN, it returns them as elsewhere.
func (n network) answered(l *line, f routing.Family) (on, elsewhere []router) {
	var all []router
	switch l.in.Return {
	case bigip.ToLastHopPool:
		for _, m := range l.in.Hops {
			if m.Addr.IsValid() && !m.Disabled && routing.FamilyOf(m.Addr) == f {
				all = append(all, router{addr: m.Addr, domain: l.d.Domain,
					from:   "last-hop-pool " + l.in.Value,
					origin: l.in.Origin})
			}
		}
	case bigip.Routed:
		for _, r := range n.gateways[l.d.Domain] {
			if r.isDefault() && routing.FamilyOf(r.network.Addr()) == f {
				all = append(all, r)
			}
		}
	default:
		return l.place.of(f), nil
	}
	for _, r := range all {
		if l.place.contains(r.addr) {
			on = append(on, r)
		}
	}
	if len(on) == 0 {
		return nil, all
	}
	return on, nil
}

// before says where the BIG-IP sent a row's replies.
func (n network) before(l *line) string {
	vlan := cmp.Or(l.in.VLAN, "its VLAN")
	switch l.in.Return {
	case bigip.ToLastHop:
		return "back to the router that asked, on " + vlan
	case bigip.Scripted:
		return "by iRule"
	}
	addr, ok := l.d.Host()
	if !ok {
		return "by its routing table"
	}
	on, elsewhere := n.answered(l, routing.FamilyOf(addr))
	checked := ""
	if l.in.SourceChecking {
		checked = ", source-checking"
	}
	switch {
	case l.in.Return == bigip.ToLastHopPool && len(on)+len(elsewhere) == 0:
		return "to its last-hop-pool"
	case l.in.Return == bigip.ToLastHopPool:
		return "to its last-hop-pool: " + list(append(on, elsewhere...))
	case len(on) > 0:
		return "by its routing table: " + list(on) + " on " + vlan + checked
	case len(elsewhere) > 0:
		return "by its routing table: " + list(elsewhere) + checked
	}
	return "by its routing table: no default route" + checked
}
