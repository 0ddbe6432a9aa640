package netlab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// world is the station behind all routers. It has the addresses of all clients
// there, and sends each request by the router that the network defines.
const world = "world"

// firewall is what a strict router has besides rp_filter: it forwards a flow's
// first packet only if it is a request, and drops IPv6 sources that do not
// belong to the leg.
const firewall = `table inet fw {
 chain pre { type filter hook prerouting priority -300;
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  meta nfproto ipv6 ip6 saddr 2000::/3 fib saddr . iif oif missing drop
 }
 chain forwarded { type filter hook forward priority 0; policy drop;
  ct state established,related accept
  ct state invalid drop
  tcp flags & (syn|ack) == syn accept
  udp dport 53 accept
  icmp type echo-request accept
  icmpv6 type echo-request accept
 }
}
`

// wire gives routers and the world their links, addresses and routes.
func (d *drawer) wire() {
	w := d.station(world)
	w.Sysctls = append(w.Sysctls, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for _, r := range d.Routers {
		d.wireRouter(w, r)
	}
	for _, c := range d.Clients {
		if c.Station == world {
			nodad := ""
			if !c.Addr.Is4() {
				nodad = " nodad"
			}
			w.add("addr add %s dev lo%s", host32(c.Addr), nodad)
		}
	}
	tables := map[*Client]int{}
	for _, c := range d.Clients {
		if c.Station == world {
			tables[c] = 1000 + len(tables)
			w.add("rule add from %s lookup %d", c.Addr, tables[c])
		}
	}
	for _, q := range d.Requests {
		if t := tables[q.Client]; t > 0 && q.Listener != nil {
			w.add("route replace %s via %s table %d", q.Listener.Addr,
				outer(q.Router, q.Listener.Addr, 1), t)
		}
	}
	for _, l := range d.Listeners {
		if l.Subnet != nil {
			w.add("route replace %s via %s", l.Addr,
				outer(d.Routers[l.Router], l.Addr, 1))
		}
	}
	for _, s := range d.subnets() {
		if s.Bare {
			continue
		}
		w.add("route replace %s via %s", s.at(numHost),
			outer(d.Routers[s.Router], s.at(0), 1))
	}
	for _, lines := range [][]string{w.Lines, w.Lines6} { // routes need the addresses
		slices.SortStableFunc(lines, func(a, b string) int {
			return strings.Compare(a[:4], b[:4])
		})
	}
}

// host32 returns an address as a host prefix.
func host32(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// outer returns an address between a router (1) and the world (2), of the
// family of another address.
func outer(r *Router, family netip.Addr, end int) netip.Addr {
	if family.Is4() {
		return netip.AddrFrom4([4]byte{100, 64, byte(r.Number), byte(end)})
	}
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:f%x::%x", r.Number, end))
}

var (
	any4 = netip.IPv4Unspecified()
	any6 = netip.IPv6Unspecified()
)

// wireRouter makes a router's legs and its link to the world.
func (d *drawer) wireRouter(w *Station, r *Router) {
	s := d.station(r.Name)
	out := fmt.Sprintf("w%d", r.Number)
	d.Wires = append(d.Wires, Wire{Station: r.Name, Link: "out", Peer: world, Port: out})
	for _, a := range []netip.Addr{any4, any6} {
		bits, nodad := 30, ""
		if !a.Is4() {
			bits, nodad = 64, " nodad"
		}
		s.add("addr add %s/%d dev out%s", outer(r, a, 1), bits, nodad)
		w.add("addr add %s/%d dev %s%s", outer(r, a, 2), bits, out, nodad)
		s.add("neigh add %s lladdr %s dev out nud permanent", outer(r, a, 2), mac(out))
		w.add("neigh add %s lladdr %s dev %s nud permanent", outer(r, a, 1),
			mac(r.Name+"out"), out)
		s.add("route add default via %s", outer(r, a, 2))
	}
	s.Sysctls = append(s.Sysctls, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for _, l := range r.Legs {
		d.wireLeg(s, r, l)
	}
	for _, n := range d.subnets() { // subnets inside a leg's subnet are elsewhere
		if !r.in(n) && d.nests(r, n) {
			s.add("route add %s via %s", n.Prefix, outer(r, n.Prefix.Addr(), 2))
		}
	}
	for _, l := range d.Listeners {
		if l.Subnet != nil && !r.onLink(l) && (l.comesBy(r) ||
			r.Behind.IsValid() && (r.Only == l.Subnet || d.entersBy(r, l))) {
			s.add("route replace %s via %s", l.Addr, d.nextHop(r, l))
		}
	}
	if r.Strict {
		s.Nft = firewall
		s.Sysctls = append(s.Sysctls, "net.ipv4.conf.all.rp_filter=1")
	}
}

// nests reports whether a subnet lies inside one of a router's.
func (d *drawer) nests(r *Router, n *Subnet) bool {
	return slices.ContainsFunc(d.subnets(), func(s *Subnet) bool {
		return s != n && r.in(s) && s.Prefix.Contains(n.Prefix.Addr())
	})
}

// onLink reports whether a router has the listener's address on-link.
func (r *Router) onLink(l *Listener) bool {
	return l.resolved() && r.in(l.Subnet)
}

// resolved reports whether the host answers ARP or neighbour solicitations for
// the listener's address on its link. For IPv6 it does so only for the link's
// own addresses.
func (l *Listener) resolved() bool {
	switch l.Place {
	case placeLo, placeBridge:
		return l.Addr.Is4()
	}
	return l.Subnet.Prefix.Contains(l.Addr)
}

// comesBy reports whether clients of the world come to a listener by a router.
func (l *Listener) comesBy(r *Router) bool {
	return l.Router == r.Number || l.Also > 0 && l.Also == r.Number
}

// entersBy reports whether a request for a listener comes in by a router.
func (d *drawer) entersBy(r *Router, l *Listener) bool {
	return slices.ContainsFunc(d.Requests,
		func(q Request) bool { return q.Router == r && q.Listener == l })
}

// in reports whether a router has an address in a subnet.
func (r *Router) in(s *Subnet) bool {
	_, ok := r.leg(s.Segment)
	return ok && (r.Only == s || r.Only == nil && s.Router == r.Number)
}

// nextHop returns the host's address by which a router reaches a listener that
// is in none of its subnets.
func (d *drawer) nextHop(r *Router, l *Listener) netip.Addr {
	for _, s := range d.subnets() {
		if r.in(s) && s.is4() == l.Addr.Is4() && (s == l.Subnet || l.Router != r.Number) {
			return s.at(numHost)
		}
	}
	return l.Subnet.at(numHost)
}

// address returns a router's address in a subnet, as the host would name it.
func (r *Router) address(s *Subnet) netip.Addr {
	l, _ := r.leg(s.Segment)
	return s.at(l.Num)
}

func (d *drawer) wireLeg(s *Station, r *Router, l Leg) {
	segment := d.Segments[l.Segment]
	link := legLink(l.Segment)
	d.Wires = append(d.Wires, Wire{Station: r.Name, Link: link, Segment: segment.Name})
	s.add("addr add %s/64 dev %s nodad", linkLocal(r.Number), link)
	for _, n := range segment.Subnets {
		if r.in(n) {
			nodad := ""
			if !n.is4() {
				nodad = " nodad"
			}
			s.add("addr add %s/%d dev %s%s", n.at(l.Num), n.Prefix.Bits(), link, nodad)
		}
	}
}
