package bigip

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// place is where a VLAN is on the host that takes the BIG-IP's place.
type place struct {
	vlan     string
	domain   int
	origin   string
	prefixes []netip.Prefix // the subnets of its self IPs
	links    []string       // the interfaces with an address in these
	routers  []router       // that `net route` names on it
	shared   string         // a VLAN of another route domain with the same subnet
}

// router is a gateway that the BIG-IP's files name.
type router struct {
	addr        netip.Addr
	from        string // "net route /Common/default"
	origin      string
	wholeFamily bool // of a default route
}

func (p place) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p.prefixes, func(x netip.Prefix) bool {
		return x.Contains(addr)
	})
}

func (p place) hasDefault(f routing.Family) bool {
	return slices.ContainsFunc(p.routers, func(r router) bool {
		return r.wholeFamily && routing.FamilyOf(r.addr) == f
	})
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

// places finds every VLAN's place.
func (j *joiner) places() {
	j.place = map[string]place{}
	for _, v := range j.config.VLANs {
		p := place{vlan: v.Name, domain: v.Domain, origin: v.Origin}
		for _, s := range j.config.Selfs {
			if s.VLAN == v.Name && s.Prefix.IsValid() {
				p.prefixes = appendNew(p.prefixes, s.Prefix.Masked())
			}
		}
		for _, a := range j.here.Host.Addrs {
			c := a.Connected()
			if c.IsSingleIP() || c.Addr().IsLinkLocalUnicast() ||
				c.Addr().IsLoopback() {
				continue
			}
			if slices.ContainsFunc(p.prefixes, c.Overlaps) {
				p.links = appendNew(p.links, a.Link)
			}
		}
		slices.Sort(p.links)
		p.routers = j.routersOn(p)
		j.place[v.Name] = p
	}
	for name, p := range j.place {
		for _, v := range j.config.VLANs {
			if q := j.place[v.Name]; q.domain != p.domain &&
				slices.ContainsFunc(q.prefixes, func(x netip.Prefix) bool {
					return slices.ContainsFunc(p.prefixes, x.Overlaps)
				}) {
				p.shared = v.Name
				j.place[name] = p
				break
			}
		}
	}
}

// routersOn returns the gateways of routes that are in the VLAN's subnets,
// those of default routes first.
func (j *joiner) routersOn(p place) []router {
	var out []router
	for _, r := range j.config.Routes {
		if r.Domain != p.domain {
			continue
		}
		for _, gateway := range j.gatewaysOf(r) {
			if p.contains(gateway) {
				out = append(out, router{gateway, "net route " + r.Name, r.Origin,
					r.Network.IsValid() && r.Network.Bits() == 0})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b router) int {
		return cmp.Compare(map[bool]int{true: 0, false: 1}[a.wholeFamily],
			map[bool]int{true: 0, false: 1}[b.wholeFamily])
	})
	return out
}

// gatewaysOf returns the gateways of a route: one, or the members of its pool.
func (j *joiner) gatewaysOf(r Route) []netip.Addr {
	if r.Gateway.IsValid() {
		return []netip.Addr{r.Gateway}
	}
	var out []netip.Addr
	for _, pool := range j.config.Pools {
		if r.Pool == "" || pool.Name != r.Pool {
			continue
		}
		for _, m := range pool.Members {
			if m.Addr.IsValid() && !m.Disabled {
				out = append(out, m.Addr)
			}
		}
	}
	return out
}

// routers returns those that the BIG-IP sent a row's replies to, as far as its
// files say it: the members of the last-hop-pool, else the gateways on the
// VLAN. elsewhere says that there are some, and none of them is on the VLAN.
func (j *joiner) routers(l *line) (on []router, elsewhere []router) {
	f := routing.FamilyOf(l.addr)
	switch l.in.Return {
	case ToLastHopPool:
		for _, m := range l.in.Hops {
			r := router{m.Addr, "last-hop-pool " + l.in.Value, l.in.Origin, false}
			switch {
			case !m.Addr.IsValid() || m.Disabled || routing.FamilyOf(m.Addr) != f:
			case l.place.contains(m.Addr):
				on = append(on, r)
			default:
				elsewhere = append(elsewhere, r)
			}
		}
	case Routed:
		for _, r := range j.config.Routes {
			if r.Domain != l.d.Domain || !r.Network.IsValid() || r.Network.Bits() > 0 ||
				routing.FamilyOf(r.Network.Addr()) != f {
				continue
			}
			for _, gateway := range j.gatewaysOf(r) {
				if x := (router{gateway, "net route " + r.Name, r.Origin,
					true}); l.place.contains(gateway) {
					on = append(on, x)
				} else {
					elsewhere = append(elsewhere, x)
				}
			}
		}
	default:
		return l.place.of(f), nil
	}
	if len(on) > 0 {
		elsewhere = nil
	}
	return on, elsewhere
}

func addrs(list []router) string {
	var parts []string
	for _, r := range list {
		parts = append(parts, r.addr.String())
	}
	return strings.Join(parts, ", ")
}

// before says where the BIG-IP sent replies.
func (j *joiner) before(l *line) string {
	vlan := cmp.Or(l.in.VLAN, "its VLAN")
	switch l.in.Return {
	case ToLastHop:
		return "back to the router that asked, on " + vlan
	case Scripted:
		return "by iRule"
	}
	addr, ok := l.d.Host()
	if !ok {
		return "by its routing table"
	}
	probe := *l
	probe.addr = addr
	on, elsewhere := j.routers(&probe)
	checked := ""
	if l.in.SourceChecking {
		checked = ", source-checking"
	}
	switch {
	case l.in.Return == ToLastHopPool && len(on)+len(elsewhere) == 0:
		return "to its last-hop-pool"
	case l.in.Return == ToLastHopPool:
		return "to its last-hop-pool: " + addrs(append(on, elsewhere...))
	case len(on) > 0:
		return "by its routing table: " + addrs(on) + " on " + vlan + checked
	case len(elsewhere) > 0:
		return "by its routing table: " + addrs(elsewhere) + checked
	}
	return "by its routing table: no default route" + checked
}
