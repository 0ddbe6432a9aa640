package migrate

import (
	"fmt"
	"net/netip"
	"slices"

	"lasthop/routing"
)

// This file compares the BIG-IP's routes with this host's, for the clients that
// they lead to.

// served reports whether replies from an address to the clients behind a router
// of the BIG-IP leave here by that router.
func (j judge) served(from netip.Addr, r router) bool { return j.takes(j.to(from, r), r) }

// takes reports whether a way leads to a router.
func (j judge) takes(w routing.Way, r router) bool {
	return w.LastHop || w.Via == r.addr && (r.vlan == "" || w.Link == j.network.link(r))
}

// to returns the way of replies from an address to the clients behind a router.
// Those of a default route, and of a last-hop-pool, are anywhere.
func (j judge) to(from netip.Addr, r router) routing.Way {
	if r.network.Bits() <= 0 {
		return j.here.outcome(from).After
	}
	return j.look(lookup{j.here.class(from), r.network, false}, r)
}

// toByMain returns what to returns, but without anything of lasthop: main
// decides.
func (j judge) toByMain(from netip.Addr, r router) routing.Way {
	if r.network.Bits() <= 0 {
		return j.here.outcome(from).Before
	}
	return j.look(lookup{j.here.class(from), r.network, true}, r)
}

// look answers each question once.
func (j judge) look(q lookup, r router) routing.Way {
	w, ok := j.ways[q]
	if !ok {
		fib := j.here.routes()
		if q.bare {
			fib = j.here.bare
		}
		w = fib.Way(routing.Query{Src: q.from, Dst: j.client(r)})
		j.ways[q] = w
	}
	return w
}

// lookup is a question for the host's routes.
type lookup struct {
	from netip.Addr // for all of its class
	to   netip.Prefix
	bare bool // without anything of lasthop
}

// client returns an address in the network of a route that no narrower route of
// the BIG-IP or of this host holds, nor a subnet of this host. If there is
// none, it returns the first.
func (j judge) client(r router) netip.Addr {
	narrower := func(p netip.Prefix) bool {
		return p.Bits() > r.network.Bits() && p.Overlaps(r.network)
	}
	var taken []netip.Prefix
	for _, x := range j.network.config.Routes {
		if x.Domain == r.domain && narrower(x.Network) {
			taken = append(taken, x.Network)
		}
	}
	for _, x := range j.here.host.Routes {
		if x.Table == routing.TableMain && narrower(x.Dst) {
			taken = append(taken, x.Dst)
		}
	}
	first := r.network.Addr()
	for bit := first.BitLen() - 1; bit >= r.network.Bits(); bit-- {
		addr := flip(first, bit)
		if !slices.ContainsFunc(taken,
			func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return addr
		}
	}
	return first
}

// flip changes one bit of an address; 0 is the first.
func flip(addr netip.Addr, bit int) netip.Addr {
	bytes := addr.AsSlice()
	bytes[bit/8] ^= 0x80 >> (bit % 8)
	out, _ := netip.AddrFromSlice(bytes)
	return out
}

// link returns the interface on which a router is; "" if it is on none, or if
// that is unknown.
func (n network) link(r router) string {
	for _, v := range n.config.VLANs {
		p := n.places[v.Name]
		if (r.onLink(v.Name) || p.holds(r)) && len(p.links) == 1 {
			return p.links[0]
		}
	}
	return ""
}

// missing asks for the routes of the BIG-IP that main here does not have, for
// clients of the row. only limits them to those by the row's VLAN.
func (j judge) missing(l *line, only bool) {
	for _, r := range j.lacking(l, j.to) {
		if !only || r.onLink(l.in.VLAN) || l.place.holds(r) {
			j.routeMissing(l, r)
		}
	}
}

// lacking returns a router of each route of the BIG-IP for clients of the row
// whose replies leave by none of its routers.
func (j judge) lacking(l *line, to func(netip.Addr, router) routing.Way) (out []router) {
	all := j.network.gateways[l.d.Domain]
	if len(all) == 0 {
		return nil
	}
	done := map[string]bool{}
	for _, r := range all {
		if r.family() != routing.FamilyOf(l.addr) || done[r.from] ||
			l.v.Source.IsValid() && !l.v.Source.Overlaps(r.network) {
			continue
		}
		done[r.from] = true
		w := to(l.addr, r)
		if !slices.ContainsFunc(all, func(x router) bool {
			return x.from == r.from && j.takes(w, x)
		}) {
			out = append(out, r)
		}
	}
	return out
}

// routeMissing asks for a route. It proposes the route, except a default: that
// is for clients of other addresses, too.
func (j judge) routeMissing(l *line, r router) {
	link := j.network.link(r)
	hint := j.add(r)
	if link != "" && !r.isDefault() {
		j.need.route(r, link)
	}
	l.needs("route-missing", r.network.String(), r.origin,
		fmt.Sprintf("the BIG-IP sent replies to these clients to %s (%s); here they would "+
			"leave by %s", r, r.from, j.to(l.addr, r)), hint)
}

// add returns the command that gives main the route of a router, or what to
// find out first.
func (j judge) add(r router) string {
	switch link := j.network.link(r); {
	case link == "":
		where := "in the subnet of " + r.addr.String()
		if r.vlan != "" {
			where = "on VLAN " + r.vlan
		}
		return "find out which router leads to " + r.network.String() + ": no interface " +
			"of this host is " + where
	case r.isDefault():
		return r.command("replace", link)
	default:
		return r.command("add", link)
	}
}

// command returns the command that adds, replaces or deletes the route of a
// router.
func (r router) command(verb, link string) string {
	via := ""
	if r.addr.IsValid() {
		via = " via " + r.addr.String()
	}
	return "ip route " + verb + " " + r.network.String() + via + " dev " +
		routing.ShellWord(link)
}
