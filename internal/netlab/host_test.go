package netlab

import (
	"fmt"
	"net/netip"
)

// Style is how a manager of the host writes a subnet and its gateway.
type Style string

// The styles of managers: what they write to the kernel.
const (
	styleMain     Style = "main"     // ifupdown, a DHCP client: a default of main
	styleNetworkd Style = "networkd" // RouteTable=, a rule for each address
	styleNM       Style = "nm"       // route-table and routing-rules of NetworkManager
	styleCloud    Style = "cloud"    // cloud-init: a rule for the first address
	styleNetplan  Style = "netplan"  // routing-policy of the subnet
	styleHand     Style = "hand"     // the usual recipe
	stylePartly   Style = "partly"   // the recipe, for one address of several
	styleIIF      Style = "iif"      // rules that match the incoming interface
	styleLease    Style = "lease"    // a DHCP lease whose routers no route uses
	styleNone     Style = "none"     // no default at all
	styleRA       Style = "ra"       // router advertisements
	styleSource   Style = "source"   // source-specific IPv6 defaults
	styleOnlink   Style = "onlink"   // a host prefix and a gateway outside of it
)

const (
	byHand     = 2   // the rung of a rule from the listener's address
	firstTable = 100 // of styles
	metricStep = 100 // between main's defaults

	preferenceLow byte = 3 // RFC 4191
)

// styles4 and styles6 are the styles of links except the first.
var (
	styles4 = []choice[Style]{{16, styleMain}, {9, styleNetworkd}, {9, styleNM},
		{9, styleCloud}, {9, styleNetplan}, {9, styleHand}, {11, stylePartly}, {9, styleIIF},
		{13, styleLease}, {6, styleNone}, {13, styleOnlink}}
	styles6 = []choice[Style]{{34, styleRA}, {9, styleMain}, {16, styleSource},
		{7, styleNetworkd}, {7, styleNM}, {7, styleCloud}, {7, styleNetplan}, {7, styleHand},
		{6, styleIIF}, {6, styleNone}}
)

// drawStyles draws which manager wrote each subnet. The first link has main's
// default in most networks, in any case of one family.
func (d *drawer) drawStyles() {
	for i, s := range d.subnets() {
		list := styles4
		if !s.is4() {
			list = styles6
		}
		s.Table = firstTable + i
		s.Style = choose(d, fmt.Sprint("style", i), list)
		first := s.Segment == 0 && d.rand(fmt.Sprint("first", i)).IntN(100) < 88
		switch {
		case d.management(s.Segment), s.Bare, d.strangeBridge(s):
			s.Style = styleNone
		case s.Style == styleRA && (s.Segment > 0 || !first):
		case first, s.Style == styleOnlink && s.Prefix.Bits() != 24:
			s.Style = styleMain
		}
		if s.Style != styleMain && !d.management(s.Segment) && !s.Bare &&
			!d.has("written by "+string(s.Style), i, 100) {
			s.Style = styleMain
		}
		if s.Style == styleMain {
			d.Ingredients["written by main"] = true
		}
		s.Known = s.Style != styleNone
	}
}

// strangeBridge draws whether a subnet is on a bridge with a NIC; the host does
// not know its gateway.
func (d *drawer) strangeBridge(s *Subnet) bool {
	g := d.Segments[s.Segment]
	return g.Link != g.NIC && d.rand("strange "+g.Link).IntN(100) < 40
}

// up is a subnet as its manager sees it.
type up struct {
	*drawer
	*Subnet
	link   string
	gw     netip.Addr
	metric int
}

func (u *up) ip(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if u.is4() {
		u.Host.Lines = append(u.Host.Lines, line)
	} else {
		u.Host.Lines6 = append(u.Host.Lines6, line)
	}
}

// writeHost writes all subnets, and the addresses that NGINX listens on.
func (d *drawer) writeHost() {
	for i, s := range d.Segments {
		if s.Link != s.NIC {
			d.bridge(s)
		}
		d.ip6("addr add fe80::%x/64 dev %s nodad", numHost+i, s.Link)
	}
	metric := 0
	for i, s := range d.subnets() {
		s.Moved = s.Style == styleNetworkd || s.Style == styleNM ||
			s.Style == styleIIF && d.rand(fmt.Sprint("moved", i)).IntN(2) == 0
		u := &up{d, s, d.Segments[s.Segment].Link, d.gateway(s), metric}
		metric += metricStep
		u.addresses()
		u.write()
		for _, l := range d.Listeners {
			if l.Subnet == s {
				l.Rung = u.rung(l)
			}
		}
		d.inherit(s)
	}
}

func (d *drawer) ip(format string, args ...any) {
	d.Host.Lines = append(d.Host.Lines, fmt.Sprintf(format, args...))
}

func (d *drawer) ip6(format string, args ...any) {
	d.Host.Lines6 = append(d.Host.Lines6, fmt.Sprintf(format, args...))
}

// gateway returns the address of a subnet's router.
func (d *drawer) gateway(s *Subnet) netip.Addr {
	if s.Style == styleRA || s.Style == styleSource {
		return linkLocal(s.Router)
	}
	return s.at(numRouter)
}

// bridge puts the NIC into a bridge. A macvlan in passthru mode stands for the
// NIC, since a host takes a veth for the port of a container.
func (d *drawer) bridge(s *Segment) {
	d.ip("link add link %s name nic%s type macvlan mode passthru", s.NIC, s.NIC)
	d.ip("link add %s type bridge mcast_snooping 0", s.Link)
	d.ip("link set nic%s master %s up", s.NIC, s.Link)
	d.ip("link set %s up", s.Link)
}

// addresses writes the host's own address and the VIPs of a subnet.
func (u *up) addresses() {
	flags := ""
	if u.Moved {
		flags = " noprefixroute"
	}
	if !u.is4() {
		flags += " nodad"
	}
	switch {
	case u.Bare:
	case u.Style == styleOnlink:
		u.ip("addr add %s/32 dev %s", u.at(numHost), u.link)
	default:
		u.ip("addr add %s dev %s%s", u.host(), u.link, flags)
	}
	for _, l := range u.Listeners {
		if l.Subnet == u.Subnet {
			u.vip(l, flags)
		}
	}
}

// vip writes one address that NGINX listens on.
func (u *up) vip(l *Listener, flags string) {
	nodad := ""
	if !u.is4() {
		nodad = " nodad"
	}
	bits := l.Addr.BitLen()
	switch l.Place {
	case placeVIP:
		if u.Style == styleOnlink {
			u.ip("addr add %s/%d dev %s", l.Addr, bits, u.link)
			return
		}
		u.ip("addr add %s/%d dev %s%s", l.Addr, u.Prefix.Bits(), u.link, flags)
	case placeVIP32:
		u.ip("addr add %s/%d dev %s%s", l.Addr, bits, u.link, nodad)
	case placeVMAC:
		u.vmac(l, nodad)
	case placeStandby:
		u.standby(l, nodad)
	case placeLo, placeRouted:
		u.ip("addr add %s/%d dev lo%s", l.Addr, bits, nodad)
	case placeBridge:
		name := "dummy" + fmt.Sprint(len(u.Host.Lines))
		u.drawer.ip("link add %s type bridge", name)
		u.drawer.ip("link set %s up", name)
		u.ip("addr add %s/%d dev %s%s", l.Addr, bits, name, nodad)
	case placeLocal:
		dev := u.link
		if !u.is4() {
			dev = "lo"
		}
		u.ip("route add local %s dev %s table local proto 66", l.Addr, dev)
	}
}

// standby writes what keepalived does at a failover: on the link, or on a
// macvlan that is already there.
func (u *up) standby(l *Listener, nodad string) {
	dev := u.link
	if u.rand("failover "+l.Addr.String()).IntN(2) == 0 {
		dev = fmt.Sprintf("vrrp.%d", len(u.Host.Lines))
		u.macvlan(dev, l)
	}
	u.Host.Later = append(u.Host.Later, fmt.Sprintf("addr add %s/%d dev %s%s", l.Addr,
		l.Addr.BitLen(), dev, nodad))
}

// vmac writes a VIP as keepalived does with use_vmac.
func (u *up) vmac(l *Listener, nodad string) {
	name := fmt.Sprintf("vrrp.%d", len(u.Host.Lines))
	u.macvlan(name, l)
	u.ip("addr add %s/%d dev %s%s", l.Addr, l.Addr.BitLen(), name, nodad)
}

// macvlan makes the link of a VIP.
func (u *up) macvlan(name string, l *Listener) {
	last := l.Addr.AsSlice()[len(l.Addr.AsSlice())-1]
	u.drawer.ip("link add link %s name %s address 00:00:5e:00:%02x:%02x type macvlan "+
		"mode private", u.link, name, u.Segment+1, last)
	u.drawer.ip("link set %s up", name)
	u.late("net.ipv4.conf.%s.rp_filter=0", name)
	u.late("net.ipv4.conf.%s.accept_local=1", name)
	u.late("net.ipv4.conf.%s.arp_ignore=1", name)
}

// late sets a sysctl of a link that the host's lines make.
func (d *drawer) late(format string, args ...any) {
	d.Host.Sysctls = append(d.Host.Sysctls, fmt.Sprintf(format, args...))
}

// by returns a next hop in a table that may lack the gateway's subnet.
func (u *up) by(gateway netip.Addr) string {
	if u.is4() {
		return fmt.Sprintf("via %s dev %s onlink", gateway, u.link)
	}
	return fmt.Sprintf("via %s dev %s", gateway, u.link)
}

// write writes the gateway, as the style does.
func (u *up) write() {
	dev := "dev " + u.link
	switch u.Style {
	case styleMain:
		u.ip("route add default via %s %s metric %d", u.gw, dev, u.metric+1)
	case styleSource:
		u.ip("route add default from %s via %s %s metric %d", u.Prefix, u.gw, dev,
			u.metric+1)
	case styleOnlink:
		u.ip("route add %s %s scope link metric %d", u.gw, dev, u.metric+1)
		u.ip("route add %s via %s %s metric %d", u.Prefix, u.gw, dev, u.metric+1)
		u.ip("route add default via %s %s metric %d", u.gw, dev, u.metric+1)
	case styleLease:
		u.Host.Leases[u.link] = fmt.Sprintf("ADDRESS=%s\nROUTER=%s\n",
			u.at(numHost), u.gw)
	case styleRA:
		u.advertised()
	case styleNone:
	default:
		u.table()
	}
}

// table writes a table and the rules that lead to it.
func (u *up) table() {
	t := u.Table
	if u.Moved || u.Style == styleCloud || u.Style == styleNetplan {
		u.ip("route add %s dev %s table %d proto static", u.Prefix, u.link, t)
	}
	u.ip("route add default via %s dev %s table %d proto static", u.gw, u.link, t)
	switch u.Style {
	case styleNetworkd:
		for _, a := range u.own() {
			u.ip("rule add from %s lookup %d pref %d proto static", a, t, t)
		}
	case styleNM:
		u.ip("rule add from %s lookup %d pref %d proto static", u.Prefix, t, 1000+t)
	case styleNetplan:
		u.ip("rule add from %s lookup %d pref %d proto static", u.Prefix, t, t)
	case styleHand:
		u.ip("rule add from %s lookup %d", u.Prefix, t)
	case styleCloud, stylePartly:
		u.ip("rule add from %s lookup %d", u.at(numHost), t)
	case styleIIF:
		u.ip("rule add iif %s lookup %d", u.link, t)
	}
}

// own returns the addresses that networkd configures: not keepalived's.
func (u *up) own() []netip.Addr {
	list := []netip.Addr{u.at(numHost)}
	for _, l := range u.Listeners {
		if l.Subnet == u.Subnet && l.Place == placeVIP {
			list = append(list, l.Addr)
		}
	}
	return list
}

// advertised makes the subnet's router announce itself, and perhaps a second
// one, which is less preferred, or is dead now.
func (u *up) advertised() {
	u.late("net.ipv6.conf.%s.accept_ra=2", u.link)
	// the kernel soon finds a dead router
	u.late("net.ipv6.neigh.%s.retrans_time_ms=30", u.link)
	u.late("net.ipv6.neigh.%s.delay_first_probe_time=0", u.link)
	r := u.Routers[u.Router]
	link := legLink(u.Segment)
	first := Advert{Link: link, From: linkLocal(r.Number)}
	key := u.Prefix.String()
	if u.has("second router by ra", key, 70) {
		second := u.router(u.Segment, numSecond)
		u.Routers[second].Only = u.Subnet
		s := u.station(u.Routers[second].Name)
		a := Advert{Link: link, From: linkLocal(second), Preference: preferenceLow}
		if u.has("dead router by ra", key, 80) {
			a.Preference, a.Silent, s.Dead = 0, true, link
			u.Routers[second].Dead = true
		}
		s.Adverts = append(s.Adverts, a)
	}
	s := u.station(r.Name)
	s.Adverts = append(s.Adverts, first)
}

// rung returns the rung of the gateway ladder on which the host has evidence
// for the listener's router.
func (u *up) rung(l *Listener) int {
	const main, ruled, lease = 3, 4, 5
	if l.Place == placeRouted || l.Place == placeLocal && !u.is4() {
		return 0
	}
	switch u.Style {
	case styleMain, styleRA, styleOnlink:
		return main
	case styleSource:
		if u.Prefix.Contains(l.Addr) {
			return main
		}
	case styleNetworkd, styleCloud, stylePartly:
		if l.Addr == u.at(numHost) || u.Style == styleNetworkd && l.Place == placeVIP {
			return byHand
		}
		return ruled
	case styleNM, styleNetplan, styleHand:
		if u.Prefix.Contains(l.Addr) {
			return byHand
		}
		return ruled
	case styleIIF:
		return ruled
	case styleLease:
		return lease
	}
	return 0
}

// inherit gives a subnet for which the host has no gateway the evidence that
// the other subnet of its link has: what the host knows of a link serves all of
// it.
func (d *drawer) inherit(s *Subnet) {
	from, to := d.Segments[s.Segment].Subnets[0], s
	if from.Style == styleNone {
		from, to = to, from
	}
	if from == to || !s.is4() || to.Style != styleNone {
		return
	}
	rungs := map[Style]int{styleMain: 3, styleOnlink: 3, styleLease: 5, styleNone: 0}
	rung, ok := rungs[from.Style]
	if !ok {
		rung = 4
	}
	for _, l := range d.Listeners {
		if l.Subnet == to && l.Place != placeRouted {
			l.Rung = rung
		}
	}
	to.Known = from.Known
}
