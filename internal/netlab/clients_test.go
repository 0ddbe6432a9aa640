package netlab

import (
	"fmt"
	"net/netip"
	"slices"
)

// drawClients draws the clients, and by which way each request comes in.
//
// The ground truth: an address in a connected subnet is reached through that
// subnet, unless the client uses the host as its next hop. Containers, tunnel
// peers, and hosts of a LAN for which the host knows no default gateway do so,
// if the host forwards. Other hosts of a LAN use its router. So do all clients
// if the administrator has written a listener's path by hand: the rule says
// that all of them should take it.
func (d *drawer) drawClients() {
	for _, r := range d.Routers {
		if !r.Dead {
			d.behind(r)
			d.itself(r)
		}
	}
	if d.Ingredients["ban"] {
		for _, a := range bannedClients {
			c := d.client(world, a)
			for _, l := range d.Listeners {
				d.request(c, l, banned, d.router0(l))
			}
		}
	}
	for i, s := range d.subnets() {
		if !s.pair() && !s.Bare && s.Style != styleOnlink &&
			d.rand(fmt.Sprint("neighbour", i)).IntN(100) < 65 {
			d.neighbour(fmt.Sprintf("m%d", i), s)
		}
	}
	d.ownClients()
	d.hostAsks()
}

// hostAsks makes the host connect to some stations of the world: as an
// application that chooses no source, and as one that marks its packets.
func (d *drawer) hostAsks() {
	for _, c := range slices.Clone(d.Clients) {
		if c.Station != world || slices.Contains(bannedClients, c.Addr) {
			continue
		}
		d.Requests = append(d.Requests, Request{Client: c, Class: own})
		if d.Ingredients["table for marks"] && c.Addr.Is4() {
			d.Requests = append(d.Requests, Request{Client: c, Class: own, Mark: 0x500})
		}
	}
}

func (d *drawer) client(station string, a netip.Addr) *Client {
	c := &Client{Station: station, Addr: a}
	d.Clients = append(d.Clients, c)
	return c
}

// router0 returns the router by which a listener's clients come, nil for none.
func (d *drawer) router0(l *Listener) *Router {
	if l.Router < 0 {
		return nil
	}
	return d.Routers[l.Router]
}

// request makes a client of the world ask through a router.
func (d *drawer) request(c *Client, l *Listener, class string, r *Router) {
	if r == nil || c.Addr.Is4() != l.Addr.Is4() {
		return
	}
	d.Requests = append(d.Requests, Request{Client: c, Listener: l, Class: class,
		Way: d.by(r, l), Router: r})
}

// by returns the way of requests that a router sends to a listener.
func (d *drawer) by(r *Router, l *Listener) Way {
	if l.Place == placeTunnel {
		return Way{l.Link, netip.MustParseAddr("10.66.66.1")}
	}
	for _, s := range d.subnets() {
		if r.in(s) && s.is4() == l.Addr.Is4() &&
			(s == l.Subnet || l.comesBy(r) && r.Number != l.Router || r.Only != nil) {
			return Way{d.Segments[s.Segment].Link, r.address(s)}
		}
	}
	return Way{l.Link, r.address(l.Subnet)}
}

// behind makes the clients behind a router. Those that the host has a route for
// ask all listeners: through their own router, or through the listener's.
func (d *drawer) behind(r *Router) {
	addrs := []netip.Addr{
		netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + r.Number)}),
		netip.MustParseAddr(fmt.Sprintf("2001:db8:c::%x", 16+r.Number)),
	}
	if r.Behind.IsValid() {
		b := r.Behind.Addr().AsSlice()
		b[len(b)-1] = 5
		a, _ := netip.AddrFromSlice(b)
		addrs = []netip.Addr{a}
	}
	for _, a := range addrs {
		c := d.client(world, a)
		for _, l := range d.Listeners {
			switch {
			case !r.Behind.IsValid() && l.comesBy(r):
				d.request(c, l, offLink, r)
			case r.Behind.IsValid() && l.Subnet != nil:
				d.request(c, l, static, d.staticEntry(r, l))
			}
		}
	}
}

// staticEntry returns the router by which clients of a static route come to a
// listener: their own if the listener is in its subnet, or if this host is the
// router of the LAN there; else the listener's.
func (d *drawer) staticEntry(r *Router, l *Listener) *Router {
	switch {
	case l.Place == placeTwoWays:
		return nil
	case l.Subnet == r.Only:
		return r
	case r.Deliberate || l.Subnet.Segment == r.Only.Segment:
		return nil
	case d.Host.Forward && !d.outward(r.Only.Segment) && l.Rung != byHand:
		return r
	}
	return d.router0(l)
}

// outward reports whether the host knows a default by a segment, in any family.
func (d *drawer) outward(segment int) bool {
	for _, s := range d.Segments[segment].Subnets {
		if s.Known {
			return true
		}
	}
	return false
}

// itself makes a router ask the listeners of its subnets.
func (d *drawer) itself(r *Router) {
	for _, s := range d.subnets() {
		if !r.in(s) {
			continue
		}
		c := d.client(r.Name, r.address(s))
		for _, l := range d.Listeners {
			if l.Subnet == s && l.Place != placeTwoWays &&
				(l.resolved() || l.comesBy(r)) {
				d.asks(c, l, theRouter, Way{Link: l.Link})
			}
		}
	}
}

// asks adds a request of a station other than the world.
func (d *drawer) asks(c *Client, l *Listener, class string, w Way) {
	if c.Addr.Is4() == l.Addr.Is4() {
		d.Requests = append(d.Requests, Request{Client: c, Listener: l, Class: class,
			Way: w})
	}
}

// neighbour makes a host of a LAN. It asks the listeners of its subnet on-link,
// all other listeners through its router, or through this host.
func (d *drawer) neighbour(name string, s *Subnet) {
	m := d.station(name)
	segment := d.Segments[s.Segment]
	d.Wires = append(d.Wires, Wire{Station: name, Link: "eth0", Segment: segment.Name})
	nodad, family := "", netip.MustParseAddr("0.0.0.0")
	a := s.at(numLocal)
	if s.Prefix.Bits() == 8 { // not in the subnets inside
		a = netip.MustParseAddr("10.200.0.50")
	}
	if !s.is4() {
		nodad, family = " nodad", netip.IPv6Unspecified()
	}
	m.add("addr add %s/%d dev eth0%s", a, s.Prefix.Bits(), nodad)
	r := d.Routers[s.Router]
	m.add("route add default via %s", r.address(s))
	d.station(world).add("route add %s via %s", host32(a), outer(r, family, 1))
	c := d.client(name, a)
	for _, l := range d.Listeners {
		d.fromLAN(m, c, s, l)
	}
}

// fromLAN adds the request of a host of a LAN for one listener.
func (d *drawer) fromLAN(m *Station, c *Client, s *Subnet, l *Listener) {
	r := d.Routers[s.Router]
	mine := d.Segments[s.Segment].Link
	switch {
	case l.Subnet == nil || l.Place == placeTwoWays || l.Addr.Is4() != c.Addr.Is4():
	case l.Subnet == s && l.resolved():
		d.asks(c, l, onLink, Way{Link: mine})
	case l.Subnet == s && s.Prefix.Contains(l.Addr): // no machine answers for it on-link
	case l.Subnet.Segment == s.Segment && l.Subnet != s && s.Style == styleNone:
		// in a subnet without a gateway: on-link, or by a router
	case !s.Known && d.Host.Forward && !d.outward(s.Segment) && l.Rung != byHand:
		m.add("route add %s via %s", l.Addr, s.at(numHost))
		d.asks(c, l, otherLAN, Way{Link: mine})
	case !s.Known && l.Rung != byHand:
	default:
		m.add("route add %s via %s", l.Addr, r.address(s))
		if r.in(l.Subnet) {
			d.asks(c, l, otherLAN, Way{l.Link, r.address(l.Subnet)})
			return
		}
		d.asks(c, l, otherLAN, Way{l.Link, d.Routers[l.Router].address(l.Subnet)})
	}
}

// ownClients draws the clients behind links that the host itself makes.
func (d *drawer) ownClients() {
	if d.Ingredients["containers"] {
		for _, a := range []string{"172.17.0.2", "fd17::2"} {
			c := d.client("ctr", netip.MustParseAddr(a))
			for _, l := range d.Listeners {
				if l.Place != placeTunnel {
					d.asks(c, l, container, Way{Link: "docker0"})
				}
			}
		}
	}
	if d.Ingredients["overlay"] {
		n := d.station("node")
		c := d.client("node", netip.MustParseAddr("172.30.1.7"))
		way := Way{"flannel.1", netip.MustParseAddr("172.30.1.0")}
		for _, l := range d.Listeners {
			if l.Addr.Is4() && l.Subnet != nil && l.Subnet.Segment > 0 {
				n.add("route add %s via 172.30.0.0 dev flannel.1 onlink src %s",
					l.Addr, c.Addr)
				d.asks(c, l, overlay, way)
			}
		}
	}
}
