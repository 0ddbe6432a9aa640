package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// clue is weak evidence of a link's gateway: too weak to act on, but worth
// telling.
type clue struct {
	router netip.Addr
	what   string // "10.0.1.9 is the next hop of static routes"
	pin    string // what --gateway would say
}

// clues returns what may be the gateway of a link: what tables for something
// else know, next hops of main's static routes, neighbours that call themselves
// routers.
func (u ladder) clues(link string, f Family) []clue {
	var out []clue
	add := func(router netip.Addr, pin, format string, args ...any) {
		if router.IsValid() {
			out = append(out, clue{router, fmt.Sprintf(format, args...), pin})
		}
	}
	for _, r := range u.defaults[linkFamily{link, f}] {
		if via := r.Hops[0].Via; r.Table != TableMain && r.Hops[0].Link == link {
			add(via, via.String(), "table %d has a default via %s", r.Table, via)
		}
	}
	routers := u.staticRouters(link, f)
	for _, via := range routers {
		pin := "static"
		if len(routers) > 1 {
			pin = via.String()
		}
		add(via, pin, "%s is the next hop of static routes", via)
	}
	for _, via := range u.flagged(link, f) {
		add(via, via.String(), "%s announces itself as a router", via)
	}
	return out
}

// staticRouters returns the next hops of main's static routes through a link,
// sorted.
func (u ladder) staticRouters(link string, f Family) []netip.Addr {
	var out []netip.Addr
	for _, r := range u.statics[linkFamily{link, f}] {
		for _, h := range r.Hops {
			if h.Link == link && h.Via.IsValid() {
				out = append(out, h.Via)
			}
		}
	}
	return sortOnce(out, netip.Addr.Compare)
}

// flagged returns the neighbours on a link that call themselves routers, as
// only IPv6 ones can, sorted.
func (u ladder) flagged(link string, f Family) []netip.Addr {
	var out []netip.Addr
	for _, n := range u.host.Neighs {
		if f == IPv6 && n.Link == link && n.Router && n.State != "FAILED" &&
			FamilyOf(n.Addr) == f {
			out = append(out, n.Addr)
		}
	}
	return sortOnce(out, netip.Addr.Compare)
}

// hint is the first clue with its flag; "" if there is none.
func (u ladder) hint(link string, f Family) string {
	for _, c := range u.clues(link, f) {
		return c.what + ": " + Flag("gateway", link+"="+c.pin)
	}
	return ""
}

// tellAssumed names the paths whose gateway is assumed, if another router of
// the subnet is known, or if the gateway may belong to a single other address.
func (d *draft) tellAssumed() {
	for _, p := range d.paths {
		if !p.source.Assumed() || !p.needed {
			continue
		}
		if other, ok := (ladder{d.topology}).otherRouter(p); ok {
			d.find(Warning.Finding("assumed-gateway", p.name(), "the gateway %s is "+
				"assumed (%s), and lasthop sees another router: %s", p.hops[0].Via,
				p.source, other.what).
				Advise("name the router that sends the requests: %s, or %s",
					Flag("gateway", p.link+"="+p.hops[0].Via.String()),
					other.pin))
		} else if p.of.IsValid() {
			d.find(Info.Finding("assumed-gateway", p.name(), "the gateway %s is "+
				"assumed: lasthop knows it only from %s, which a rule uses for "+
				"%s alone, and that address may have a router of its "+
				"own", p.hops[0].Via,
				p.detail, p.of).
				Advise("name the router of the other addresses: %s, or another one",
					Flag("gateway", p.link+"="+p.hops[0].Via.String())))
		}
	}
}

// otherRouter returns another router of a path's subnet, or a router without
// subnet, that is not the path's.
func (u ladder) otherRouter(p *path) (c clue, ok bool) {
	home := u.subnetOf(p.link, p.hops[0].Via)
	all := u.clues(p.link, p.family)
	i := slices.IndexFunc(all, func(c clue) bool {
		return (everywhere(c.router) || u.subnetOf(p.link, c.router) == home) &&
			!slices.ContainsFunc(slices.Concat(p.hops, p.standby),
				func(h Hop) bool { return h.Via == c.router })
	})
	if i < 0 {
		return c, false
	}
	return all[i], true
}
