package flow

import (
	"net/netip"
	"slices"

	"lasthop/routing"
)

// network is what a table needs of the host: the wire of each link, what is
// on-link there, and the listeners. A VRF is no wire: packets pass it inside of
// the host, and may be seen there as if they left.
type network struct {
	links    map[int]string // by index
	wires    map[int]string
	inner    map[string]int            // which of the links of a wire is nearest to sockets
	onLink   map[string][]netip.Prefix // connected prefixes, by wire
	gateways map[netip.Addr]bool       // next hops of the host's routes
	tcp, udp map[netip.Addr]portSet
}

func newNetwork(h routing.Host, listeners []routing.Listener) *network {
	n := &network{links: map[int]string{}, wires: map[int]string{},
		inner:  map[string]int{},
		onLink: map[string][]netip.Prefix{}, gateways: map[netip.Addr]bool{},
		tcp: map[netip.Addr]portSet{}, udp: map[netip.Addr]portSet{}}
	byName := map[string]routing.Link{}
	for _, l := range h.Links {
		byName[l.Name] = l
	}
	for _, l := range h.Links {
		n.links[l.Index] = l.Name
		if l.Kind != "vrf" {
			n.wires[l.Index] = routing.WireOf(l, byName)
		}
	}
	for _, l := range h.Links {
		port := l.Master != "" && byName[l.Master].Kind != "vrf"
		switch wire := n.wires[l.Index]; {
		case !port && (l.Kind == "macvlan" || l.Kind == "ipvlan"):
			n.inner[l.Name] = 2
		case wire == l.Name:
			n.inner[l.Name] = 1
		}
	}
	for link, prefixes := range routing.ConnectedPrefixes(h) {
		wire := routing.WireOf(byName[link], byName)
		n.onLink[wire] = append(n.onLink[wire], prefixes...)
	}
	for _, r := range h.Routes {
		for _, hop := range r.Hops {
			if hop.Via.IsValid() {
				n.gateways[hop.Via] = true
			}
		}
	}
	n.listen(listeners)
	return n
}

// listen sorts the listeners. A wildcard of a family is the unspecified
// address.
func (n *network) listen(listeners []routing.Listener) {
	by := map[routing.Transport]map[netip.Addr][]routing.Listener{
		routing.TCP: {}, routing.UDP: {}}
	for _, l := range listeners {
		by[l.Transport][l.Addr] = append(by[l.Transport][l.Addr], l)
	}
	for addr, list := range by[routing.TCP] {
		n.tcp[addr] = portsOf(list)
	}
	for addr, list := range by[routing.UDP] {
		n.udp[addr] = portsOf(list)
	}
}

// listens reports whether an address and port is a listener's.
func (n *network) listens(transport routing.Transport, addr netip.Addr, port uint16) bool {
	switch transport {
	case routing.TCP:
		return n.tcp[addr].holds(port)
	case routing.UDP:
		return n.udp[addr].holds(port)
	}
	return n.tcp[addr] != nil || n.udp[addr] != nil
}

func (s portSet) holds(port uint16) bool {
	i, found := slices.BinarySearchFunc(s, port, func(r routing.PortRange, p uint16) int {
		return int(r.First) - int(p)
	})
	return found || i > 0 && port <= s[i-1].Last
}

// nearest returns which of two links is nearer to the sockets if they are of
// one wire, else the second. Packets cross several links of a wire, and the
// sampling may show only one.
func (n *network) nearest(before, link int32) int32 {
	if before == link || before == 0 {
		return link
	}
	a, b := int(before), int(link)
	if n.wires[a] == n.wires[b] && n.inner[n.links[a]] > n.inner[n.links[b]] {
		return before
	}
	return link
}

// class is the class of a client that came by a wire.
func (n *network) class(wire string, client netip.Addr) routing.SeenClass {
	if client.IsLinkLocalUnicast() || slices.ContainsFunc(n.onLink[wire],
		func(p netip.Prefix) bool { return p.Contains(client) }) {
		return routing.OnLinkClient
	}
	return routing.OffLinkClient
}

func transportOf(proto uint8) routing.Transport {
	switch proto {
	case protoTCP:
		return routing.TCP
	case protoUDP:
		return routing.UDP
	}
	return routing.ICMP
}
