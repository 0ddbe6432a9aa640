package netlab

import (
	"fmt"
	"net/netip"
)

// drawExtras draws what else may be on a host.
func (d *drawer) drawExtras() {
	d.drawStatics()
	d.drawOwnRouters()
	d.drawContainers()
	d.drawOverlay()
	d.drawTunnel()
	d.drawVPN()
	d.drawMarks()
	d.drawBans()
	if d.has("forwarding", "", 18) {
		d.Host.Forward = true
	}
	if d.has("bypass rule", "", 14) {
		d.ip("rule add pref 4000 to 10.0.0.0/8 lookup main")
	}
	if d.has("reject default", "", 16) {
		d.ip("route add unreachable default metric 4294967295")
		d.ip6("route add unreachable default metric 4294967294")
	}
	if d.has("strict host", "", 16) {
		for _, i := range d.links() {
			d.late("net.ipv4.conf.%s.rp_filter=1", i)
		}
	}
}

// links returns the host's links that hold addresses of its subnets.
func (d *drawer) links() (list []string) {
	for _, s := range d.Segments {
		if !s.Subnets[0].Bare {
			list = append(list, s.Link)
		}
	}
	return list
}

// drawStatics puts a further router into some subnets, with a network behind it
// that the host knows: by a route if the manager of the link writes routes, or
// by a rule to a table of its own.
func (d *drawer) drawStatics() {
	for i, s := range d.subnets() {
		percent := 14
		switch {
		case d.management(s.Segment):
			percent = 75
		case s.Style == styleNM, s.Style == styleNetworkd:
			percent = 45
		}
		if s.pair() || s.Bare || s.Style == styleOnlink ||
			!d.has("static next hop", i, percent) {
			continue
		}
		r := d.Routers[d.router(s.Segment, numStatic)]
		r.Only = s
		behind := fmt.Sprintf("172.20.%d.0/24", i)
		if !s.is4() {
			behind = fmt.Sprintf("2001:db8:2%d::/64", i)
		}
		r.Behind = netip.MustParsePrefix(behind)
		u := &up{drawer: d, Subnet: s, link: d.Segments[s.Segment].Link}
		route := fmt.Sprintf("route add %s %s", behind, u.by(s.at(numStatic)))
		switch {
		case s.Moved:
			d.Ingredients["static next hop in a table"] = true
			u.ip("%s table %d proto static", route, s.Table)
		case !d.management(s.Segment) && d.has("rule by destination", i, 35):
			r.Deliberate = true
			if !s.is4() {
				u.ip("route add %s dev %s table 55", s.Prefix, u.link)
			}
			u.ip("%s table 55", route)
			u.ip("rule add to %s lookup 55", behind)
		default:
			u.ip("%s", route)
		}
	}
}

// drawOwnRouters gives some subnets a second router and a VIP of its own, whose
// path the administrator has written by hand.
func (d *drawer) drawOwnRouters() {
	for i, s := range d.subnets() {
		if s.pair() || s.Bare || d.management(s.Segment) || s.Style == styleOnlink ||
			s.Style == styleRA || !d.has("router of a vip", i, 9) {
			continue
		}
		r := d.router(s.Segment, numSecond)
		d.Routers[r].Only = s
		l := d.listener(s, s.at(numVIP+10*i+5), placeVIP)
		l.Router, l.Rung = r, byHand
		u := &up{drawer: d, Subnet: s, link: d.Segments[s.Segment].Link}
		u.vip(l, map[bool]string{true: "", false: " nodad"}[s.is4()])
		t := 400 + i
		if !s.is4() || d.rand(fmt.Sprint("on-link by hand", i)).IntN(2) == 0 {
			u.ip("route add %s dev %s table %d", s.Prefix, u.link, t)
		}
		u.ip("route add default %s table %d", u.by(s.at(numSecond)), t)
		u.ip("rule add from %s lookup %d", l.Addr, t)
	}
}

// drawContainers makes a bridge as Docker does, with a container.
func (d *drawer) drawContainers() {
	if !d.has("containers", "", 32) {
		return
	}
	d.Host.Forward = true
	d.Wires = append(d.Wires, Wire{Station: host, Link: "veth0", Peer: "ctr", Port: "eth0"})
	d.ip("link add docker0 type bridge mcast_snooping 0")
	d.ip("link set docker0 up")
	d.ip("link set veth0 master docker0")
	d.ip("addr add 172.17.0.1/16 dev docker0")
	d.ip6("addr add fd17::1/64 dev docker0 nodad")
	d.ip6("addr add fe80::d/64 dev docker0 nodad")
	c := d.station("ctr")
	c.add("addr add 172.17.0.2/16 dev eth0")
	c.add("addr add fd17::2/64 dev eth0 nodad")
	c.add("route add default via 172.17.0.1")
	c.add("route add default via fd17::1")
	if d.has("listener for containers", "", 50) {
		d.Listeners = append(d.Listeners, &Listener{Place: placeInside, Router: -1,
			Addr: netip.MustParseAddr("172.17.0.1"), Link: "docker0"})
	}
	if d.has("router flag", "", 50) {
		d.ip6("neigh add fe80::77 lladdr 02:00:00:00:00:77 dev docker0 router nud stale")
	}
}

// drawOverlay joins the host with another node, as flannel does. A pod there is
// an address of the node.
func (d *drawer) drawOverlay() {
	s := d.Segments[0].Subnets[0]
	if s.Style != styleMain || !d.has("overlay", "", 20) {
		return
	}
	d.Host.Forward = true
	const vxlan = "link add flannel.1 type vxlan id 1 local %s remote %s dstport 8472"
	d.ip(vxlan, s.at(numHost), s.at(numPeer))
	d.ip("link set flannel.1 up")
	d.ip("addr add 172.30.0.0/32 dev flannel.1")
	d.ip("route add 172.30.1.0/24 via 172.30.1.0 dev flannel.1 onlink")
	n := d.station("node")
	d.Wires = append(d.Wires, Wire{Station: "node", Link: "eth0", Segment: d.Segments[0].Name})
	n.add("addr add %s/%d dev eth0", s.at(numPeer), s.Prefix.Bits())
	n.add(vxlan, s.at(numPeer), s.at(numHost))
	n.add("link set flannel.1 up")
	n.add("addr add 172.30.1.0/32 dev flannel.1")
	n.add("addr add 172.30.1.7/32 dev lo")
	n.add("route add 172.30.0.0/24 via 172.30.0.0 dev flannel.1 onlink")
}

// drawTunnel makes a server elsewhere send its clients here through a tunnel.
func (d *drawer) drawTunnel() {
	s := d.Segments[0].Subnets[0]
	if s.Style != styleMain || !d.has("tunnel", "", 28) {
		return
	}
	const vxlan = "link add wg0 type vxlan id 7 local %s remote %s dstport 4789"
	r := d.router(0, numPeer+1)
	d.Routers[r].Strict, d.Routers[r].Only = false, &Subnet{}
	d.ip(vxlan, s.at(numHost), s.at(numPeer+1))
	d.ip("link set wg0 up")
	d.ip("addr add 10.66.66.2/24 dev wg0")
	v := d.station(d.Routers[r].Name)
	v.add("addr add %s/%d dev %s", s.at(numPeer+1), s.Prefix.Bits(), legLink(0))
	v.add(vxlan, s.at(numPeer+1), s.at(numHost))
	v.add("link set wg0 up")
	v.add("addr add 10.66.66.1/24 dev wg0")
	l := &Listener{Addr: netip.MustParseAddr("10.66.66.2"), Place: placeTunnel, Link: "wg0",
		Router: r}
	d.Listeners = append(d.Listeners, l)
	if d.has("tunnel by hand", "", 60) {
		l.Rung = byHand
		d.ip("route add default via 10.66.66.1 dev wg0 table 820")
		d.ip("rule add from 10.66.66.2 lookup 820")
	}
}

// drawVPN makes a VPN for everything, perhaps.
func (d *drawer) drawVPN() {
	if d.has("vpn", "", 18) {
		d.vpnOf(choose(d, "vpn", []choice[string]{{1, "wg-quick"}, {1, "tailscale"},
			{1, "netbird"}}))
	}
}

// vpnOf writes the tunnel as a program does. No host is behind it here: what it
// takes is lost.
func (d *drawer) vpnOf(program string) {
	d.ip("tuntap add tun0 mode tun")
	d.ip("link set tun0 up")
	d.ip("addr add 10.99.0.2/32 dev tun0")
	both := func(format string, args ...any) {
		d.ip6(format, args...)
		d.ip(format, args...)
	}
	switch program {
	case "wg-quick":
		both("route add default dev tun0 table 51820")
		both("rule add not fwmark 51820 table 51820")
		both("rule add table main suppress_prefixlength 0")
	case "tailscale":
		both("route add default dev tun0 table 52")
		d.ip("route add 100.100.0.5 dev tun0 table 52")
		both("rule add pref 5210 fwmark 0x80000/0xff0000 lookup main")
		both("rule add pref 5230 fwmark 0x80000/0xff0000 lookup default")
		both("rule add pref 5250 fwmark 0x80000/0xff0000 type unreachable")
		both("rule add pref 5270 lookup 52")
	case "netbird":
		both("route add default dev tun0 table 7120")
		both("rule add pref 105 lookup main suppress_prefixlength 0")
		both("rule add pref 110 not fwmark 0x1bd00 lookup 7120")
	}
}

// drawMarks draws rules for marked packets: of outgoing connections, and of
// replies whose request was marked when it came in.
func (d *drawer) drawMarks() {
	s := d.Segments[1].Subnets[0]
	link := d.Segments[1].Link
	if !s.pair() && !s.Bare && s.Style != styleOnlink && d.has("table for marks", "", 24) {
		d.ip("route add default via %s dev %s onlink table 90", s.at(numSecond+1), link)
		d.ip("rule add fwmark 0x500 lookup 90")
	}
	if s.Style == styleOnlink || s.Bare || !d.has("connmark", "", 29) {
		return
	}
	nft := ""
	for i, s := range d.Segments {
		n := s.Subnets[0]
		if d.management(i) || n.Bare || n.Style == styleOnlink {
			continue
		}
		for _, l := range d.Listeners {
			if l.Addr.Is4() && l.Link == s.Link &&
				(l.Subnet != n || l.Router != n.Router) {
				nft += fmt.Sprintf("  iifname %s ip daddr %s accept\n",
					s.Link, l.Addr)
			}
		}
		d.ip("route add default via %s dev %s onlink table %d", n.at(numRouter),
			s.Link, 301+i)
		d.ip("route add %s dev %s table %d", n.Prefix, s.Link, 301+i)
		for _, r := range d.Routers {
			if r.Behind.IsValid() && r.Only == n {
				d.ip("route add %s via %s dev %s onlink table %d", r.Behind,
					n.at(numStatic), s.Link, 301+i)
			}
		}
		d.ip("rule add fwmark %d lookup %d", i+1, 301+i)
		nft += fmt.Sprintf("  iifname %s ct state new ct mark set %d\n", s.Link, i+1)
	}
	d.Host.Nft = fmt.Sprintf(connmark, nft)
	a, b := d.Segments[0].Subnets[0].Router, s.Router
	if a == b {
		return
	}
	d.Ingredients["address of two uplinks"] = true
	l := d.listener(d.Segments[0].Subnets[0], netip.MustParseAddr("203.0.113.200"),
		placeTwoWays)
	l.Also = b
	d.ip("addr add %s/32 dev %s", l.Addr, l.Link)
}

// connmark is a ruleset that gives a reply the mark of its request. The mark
// stands for the first subnet of a link and its router; a request by another
// router has none.
const connmark = `table ip m {
 chain pre { type filter hook prerouting priority -150;
%s }
 chain outbound { type route hook output priority -150;
  meta mark set ct mark
 }
}
`

// The banned clients, one of each family.
var bannedClients = []netip.Addr{netip.MustParseAddr("198.51.100.66"),
	netip.MustParseAddr("2001:db8:c::66")}

// drawBans bans one client, by a route or by a rule.
func (d *drawer) drawBans() {
	if !d.has("ban", "", 24) {
		return
	}
	kind := choose(d, "ban", []choice[string]{{1, "blackhole"}, {1, "unreachable"},
		{1, "prohibit"}})
	for _, a := range bannedClients {
		u := &up{drawer: d, Subnet: &Subnet{Prefix: netip.PrefixFrom(a, a.BitLen())}}
		if d.has("ban by a rule", a, 50) {
			u.ip("rule add to %s type %s", a, kind)
		} else {
			u.ip("route add %s %s", kind, a)
		}
	}
}
