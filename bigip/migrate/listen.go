package migrate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// The ways in which a listener of NGINX stands for a virtual server.
const (
	matchExact     = "exact"
	matchWildcard  = "wildcard"
	matchPort      = "other-port"
	matchTransport = "other-transport"
	matchNone      = "none"
)

// listening is what NGINX listens on.
type listening struct {
	listeners []routing.Listener
	at        map[netip.Addr][]int // indexes of listeners
	used      []bool               // by index: it stands for a virtual server
	missing   []string             // lines for nginx.conf
	said      map[string]bool      // of missing
}

func newListening(list []routing.Listener) *listening {
	n := &listening{listeners: list, at: map[netip.Addr][]int{},
		used: make([]bool, len(list)), said: map[string]bool{}}
	for i, l := range list {
		n.at[l.Addr] = append(n.at[l.Addr], i)
	}
	return n
}

// leave marks the listeners of what a run leaves out: they are not new.
func (n *listening) leave(left []leftOut) {
	for _, out := range left {
		for _, d := range out.Destinations {
			addr, ok := d.Host()
			if !ok {
				continue
			}
			for _, i := range slices.Concat(n.at[addr],
				n.at[routing.FamilyOf(addr).All().Addr()]) {
				x := n.listeners[i].Ports
				n.used[i] = n.used[i] || slices.ContainsFunc(d.Ports,
					func(p routing.PortRange) bool {
						return p.First <= x.Last && x.First <= p.Last
					})
			}
		}
	}
}

// find finds NGINX's listener for a row, or adds why there is none. It sets
// l.addr if the destination is one address.
func (n *listening) find(l *line) {
	addr, host := l.d.Host()
	switch {
	case !l.d.Addrs.IsValid():
		l.needs("destination-unknown", l.v.Name, cmp.Or(l.d.Origin, l.v.Origin),
			"the files do not say where its clients connect to",
			"give the file that has it: the partition's bigip.conf, or the UCS")
		return
	case !host || addr.IsUnspecified():
		l.manual("network", l.v.Name, l.d.Origin,
			"it serves "+l.Address+", not one address; NGINX listens on addresses",
			"name the addresses in use, or route the network to this host by hand "+
				"(a local route, tproxy)")
		return
	}
	l.addr, l.Match = addr, matchNone
	transports := map[string][]routing.Transport{"tcp": {routing.TCP}, "udp": {routing.UDP},
		"any": {routing.TCP, routing.UDP}}[l.Protocol]
	switch {
	case transports == nil:
		l.manual("protocol", l.v.Name, l.d.Origin,
			"it serves "+l.Protocol+"; NGINX serves tcp and udp",
			"leave it on the BIG-IP, or route it to another host")
	case l.d.AnyPort():
		l.manual("any-port", l.v.Name, l.d.Origin,
			"it serves every port; NGINX listens on named ports only",
			"find out which ports its clients use, and listen on these")
	case l.port == nil:
		l.needs("port-unknown", l.v.Name, l.d.Origin,
			"its port is the name of an unknown service or list: "+l.d.Service,
			"look it up on the BIG-IP; /etc/services there has the services")
	default:
		n.match(l, *l.port, transports)
	}
}

// match searches listeners that take all ports, by each of the transports: a
// virtual server for both of them would otherwise lose the clients of one.
func (n *listening) match(l *line, ports routing.PortRange, transports []routing.Transport) {
	addrs := []netip.Addr{l.addr, routing.FamilyOf(l.addr).All().Addr()}
	for i, kind := range []string{matchExact, matchWildcard} {
		found, missing := n.byEach(ports, addrs[:i+1], transports)
		for _, i := range found {
			n.used[i] = true
		}
		if len(missing) == 0 {
			l.setListener(kind, n.listeners[found[0]])
			return
		}
	}
	found, missing := n.byEach(ports, addrs, transports)
	if len(found) == 0 {
		found, _ = n.byEach(ports, addrs, []routing.Transport{routing.TCP, routing.UDP})
	}
	if len(found) > 0 {
		x := n.listeners[found[0]]
		l.setListener(matchTransport, x)
		n.miss(l, ports, missing, "NGINX listens where the virtual server did, but only "+
			"by "+string(x.Transport))
		return
	}
	message := "NGINX does not listen where the virtual server did"
	for _, i := range n.at[l.addr] {
		if x := n.listeners[i]; slices.Contains(transports, x.Transport) {
			l.setListener(matchPort, x)
			message = "NGINX listens on the address of the virtual " +
				"server on other ports only"
			break
		}
	}
	n.miss(l, ports, transports, message)
}

// byEach returns the indexes of listeners that take all ports, and the
// transports by which there are none.
func (n *listening) byEach(ports routing.PortRange, addrs []netip.Addr,
	transports []routing.Transport) (found []int, missing []routing.Transport) {
	for _, transport := range transports {
		list := n.covering(ports, addrs, transport)
		if list == nil {
			missing = append(missing, transport)
		}
		found = append(found, list...)
	}
	return found, missing
}

// covering returns the indexes of listeners that together take all ports; nil
// if they do not.
func (n *listening) covering(ports routing.PortRange, addrs []netip.Addr,
	transport routing.Transport) []int {
	var candidates, found []int
	for _, addr := range addrs {
		candidates = append(candidates, n.at[addr]...)
	}
	for next := int(ports.First); next <= int(ports.Last); {
		i := slices.IndexFunc(candidates, func(i int) bool {
			x := n.listeners[i]
			return x.Transport == transport && int(x.Ports.First) <= next &&
				next <= int(x.Ports.Last)
		})
		if i < 0 {
			return nil
		}
		found = append(found, candidates[i])
		next = int(n.listeners[candidates[i]].Ports.Last) + 1
	}
	return found
}

func (l *line) setListener(match string, x routing.Listener) {
	l.Match, l.Listen = match, x.Listen
	if len(x.Origins) > 0 {
		l.ListenOrigin = x.Origins[0]
	}
}

// miss adds the listen directives that are missing.
func (n *listening) miss(l *line, ports routing.PortRange, transports []routing.Transport,
	message string) {
	var lines []string
	for _, transport := range transports {
		listen := "listen " + endpoint(l.addr, ports)
		if transport == routing.UDP {
			listen += " udp"
		}
		lines = append(lines, listen+";")
		if !n.said[listen] {
			n.said[listen] = true
			n.missing = append(n.missing, listen+";")
		}
	}
	l.needs("no-listener", "nginx.conf", l.d.Origin, message,
		"the steps have the lines for nginx.conf").remedy = strings.Join(lines, " ")
}

// endpoint writes address and ports as NGINX does.
func endpoint(addr netip.Addr, ports routing.PortRange) string {
	if addr.Is6() {
		return "[" + addr.String() + "]:" + portText(ports)
	}
	return addr.String() + ":" + portText(ports)
}

func portText(p routing.PortRange) string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}
