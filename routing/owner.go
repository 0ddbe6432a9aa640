package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// This file finds the link that an address belongs to: section 3 of
// docs/architecture.md. Nothing here depends on the order of links, addresses
// or routes.

// tunnels are the kinds of links that lead to peers elsewhere. lasthop cannot
// see the networks behind these peers.
var tunnels = map[string]bool{"tun": true, "wireguard": true, "vxlan": true, "geneve": true,
	"ipip": true, "sit": true, "ip6tnl": true, "gre": true, "gretap": true, "ip6gre": true,
	"ip6gretap": true, "vti": true, "vti6": true, "xfrm": true}

// tunnel reports whether the link leads to peers elsewhere. A tap is a cable to
// a virtual machine here.
func (l Link) tunnel() bool { return tunnels[l.Kind] && (l.Kind != "tun" || l.PointToPoint) }

// inside reports whether only containers and virtual machines of this host are
// behind a link: a bridge whose ports are all veth or tap, or a tap.
func (t *topology) inside(l Link) bool {
	if l.Kind == "tun" {
		return !l.PointToPoint
	}
	return l.Kind == "bridge" && !slices.ContainsFunc(t.ports[l.Name],
		func(port Link) bool { return port.Kind != "veth" && port.Kind != "tun" })
}

// hasPorts reports whether a container or virtual machine is behind a link for
// which inside holds.
func (t *topology) hasPorts(l Link) bool {
	return l.Kind != "bridge" || len(t.ports[l.Name]) > 0
}

// outside reports whether a network may be behind a link: a NIC, a bond, a
// VLAN, a bridge with such a port.
func (t *topology) outside(l Link) bool {
	if l.Kind == "bridge" {
		return !t.inside(l)
	}
	return !l.hostLocal()
}

// findOwner sets link and path, or status and reason.
func (s *resolver) findOwner(r *row) {
	addr := r.Addr
	if pin, ok := s.policy.address(addr); ok {
		s.ownByPin(r, pin)
		return
	}
	if link, vrf := s.vrfOf(addr); vrf != "" {
		r.Link, r.Status, r.Reason = link, Off, "vrf"
		s.find(Info.Finding("vrf", addr.String(), "%s is on %s in the VRF %s: the VRF "+
			"routes its replies, and lasthop does nothing for "+
			"it", addr, link, vrf).At(origin(r)))
		return
	}
	owners := s.owners(addr)
	if s.ownByAssignment(r, owners) || s.ownByEvidence(r) {
		return
	}
	for _, a := range owners { // an address with a subnet of its own stays there
		if !a.Connected().IsSingleIP() && !s.links[a.Link].Loopback {
			r.Link = a.Link
			s.ownWithoutGateway(r, true)
			return
		}
	}
	s.ownBySubnet(r, owners)
}

func (s *resolver) ownByPin(r *row, pin AddressPin) {
	r.Link = pin.Link
	switch link, ok := s.links[pin.Link]; {
	case !ok || !link.Up:
		s.unresolved(r, "link-down",
			"bring the link up, or correct "+
				Flag("address", r.Addr.String()+"="+pin.Link))
	case pin.Gateway.IsValid():
		g := by(pin.Link, pin.Gateway, FromPin)
		g.family, g.prefix = FamilyOf(r.Addr), netip.PrefixFrom(r.Addr, r.Addr.BitLen())
		g.detail = "for " + r.Addr.String()
		r.path = s.pathOf(g, r.Addr)
	default:
		s.takePath(r)
	}
}

// owners returns the assignments of an address to links, the longest prefix
// first. A macvlan or ipvlan counts as its parent if their prefixes agree, or
// if neither has a subnet: keepalived puts its VIPs there.
func (s *resolver) owners(addr netip.Addr) []Addr {
	owners := slices.Clone(s.assigned[addr])
	for i, a := range owners {
		owners[i].Link = s.station(a)
	}
	slices.SortFunc(owners, func(a, b Addr) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()),
			cmp.Compare(a.Link, b.Link))
	})
	return owners
}

// station returns the link that stands for an address's link: its parent, or
// the link itself.
func (s *resolver) station(a Addr) string {
	l, f := s.links[a.Link], FamilyOf(a.Prefix.Addr())
	if l.Kind != "macvlan" && l.Kind != "ipvlan" || l.Parent == "" ||
		s.isUplink(l.Name, f) {
		return a.Link
	}
	p, subnets := a.Connected(), s.connected[linkFamily{l.Parent, f}]
	if len(subnets) == 0 && s.isUplink(l.Parent, f) && p.IsSingleIP() ||
		slices.ContainsFunc(subnets, func(q netip.Prefix) bool {
			return p == q || p.IsSingleIP() && q.Contains(p.Addr())
		}) {
		return l.Parent
	}
	return a.Link
}

// ownByAssignment takes the uplink that has the address: of several the one
// with the longest prefix, then the lowest main metric, then the first name. It
// reports whether there is one.
func (s *resolver) ownByAssignment(r *row, owners []Addr) bool {
	f := FamilyOf(r.Addr)
	ups := filter(owners, func(a Addr) bool { return s.isUplink(a.Link, f) })
	if len(ups) == 0 {
		return false
	}
	slices.SortFunc(ups, func(x, y Addr) int {
		return cmp.Or(cmp.Compare(y.Prefix.Bits(), x.Prefix.Bits()),
			cmp.Compare(s.mainMetric(x.Link, f), s.mainMetric(y.Link, f)),
			cmp.Compare(x.Link, y.Link))
	})
	r.Link = ups[0].Link
	if names := linkNames(ups); len(names) > 1 {
		s.ambiguous(r, names, "lasthop assumes that it belongs to "+r.Link)
	}
	s.takePath(r)
	return true
}

func linkNames(addrs []Addr) []string {
	var names []string
	for _, a := range addrs {
		names = append(names, a.Link)
	}
	return sortOnce(names, strings.Compare)
}

// ownByEvidence takes the uplink that a foreign local route names as the device
// of the address, or that a foreign rule sends its replies to. It reports
// whether there is one.
func (s *resolver) ownByEvidence(r *row) bool {
	f := FamilyOf(r.Addr)
	if route := s.localRoute(r.Addr); route != nil && s.isUplink(route.Hops[0].Link, f) {
		r.Link = route.Hops[0].Link
		s.takePath(r)
		return true
	}
	around := s.subnetAround(r.Addr)
	for _, rule := range s.byHand {
		// a rule for a wider prefix was written for other addresses in
		// it
		if rule.Family != f || !rule.From.Contains(r.Addr) ||
			rule.From.Bits() < around.Bits() {
			continue
		}
		if link := (ladder{s.topology}).wayOut(rule.Table, f); s.isUplink(link, f) {
			r.Link = link
			s.takePath(r)
			return true
		}
	}
	return false
}

// localRoute returns the narrowest route by which the host takes an address as
// its own; nil if there is none.
func (t *topology) localRoute(addr netip.Addr) *Route {
	route, _ := t.fib.search(TableLocal, Query{Dst: addr})
	if route == nil || route.Type != Local || len(route.Hops) == 0 {
		return nil
	}
	return route
}

// ownBySubnet takes the link with the longest connected prefix around an
// address without a subnet of its own: a host prefix on another link, or an
// address that is not assigned here. So the owner is the same before and after
// a failover. Of several links with that prefix an uplink counts; several
// uplinks are ambiguous.
func (s *resolver) ownBySubnet(r *row, owners []Addr) {
	links := s.around(r.Addr)
	ups := filter(links, func(link string) bool { return s.isUplink(link, FamilyOf(r.Addr)) })
	if len(ups) > 0 {
		links = ups
	}
	switch {
	case len(ups) == 1:
		r.Link = ups[0]
		s.takePath(r)
	case len(links) == 1:
		r.Link = links[0]
		s.ownWithoutGateway(r, true)
	case len(links) > 1:
		s.ambiguous(r, links, "lasthop does nothing for it")
		r.Status, r.Reason = Unresolved, "ambiguous"
	case len(owners) > 0:
		r.Link = owners[0].Link
		s.ownWithoutGateway(r, false)
	default:
		s.noOwner(r)
	}
}

// around returns the links with the longest subnet that holds an address,
// sorted.
func (s *resolver) around(addr netip.Addr) []string { return s.subnets[s.subnetAround(addr)] }

// subnetAround returns the longest subnet that holds an address, the zero
// Prefix if none does.
func (s *resolver) subnetAround(addr netip.Addr) netip.Prefix {
	if s.subnets == nil {
		s.findSubnets()
	}
	return s.narrowest.longest(addr)
}

// findSubnets finds the links of every subnet.
func (s *resolver) findSubnets() {
	s.subnets = map[netip.Prefix][]string{}
	for _, l := range s.sorted {
		for _, f := range Families {
			key := linkFamily{l.Name, f}
			if l.Loopback {
				continue
			}
			for _, p := range slices.Concat(s.connected[key], s.pointed(key)) {
				link := s.station(Addr{Link: l.Name, Prefix: p})
				s.narrowest.add(p)
				s.subnets[p] = sortOnce(append(s.subnets[p], link), strings.Compare)
			}
		}
	}
}

// ownWithoutGateway handles an address of a link that is no uplink. The address
// is in a subnet of the link, or it is a host prefix in no subnet, which a
// router routes to this host.
func (s *resolver) ownWithoutGateway(r *row, inSubnet bool) {
	switch link := s.links[r.Link]; {
	case link.tunnel():
		s.beyondTunnel(r)
	case s.inside(link) && (inSubnet || s.hasPorts(link)):
		r.Status = LocalOnly
	case link.Loopback:
		s.unresolved(r, "address-on-lo", "name the uplink"+s.addressFlag(r.Addr.String(),
			"IF", FamilyOf(r.Addr)))
	case !link.Up:
		s.unresolved(r, "link-down", "bring it up: "+
			Command("ip link set dev "+link.Name+" up"))
	case s.outside(link):
		s.noGateway(r)
	default: // no network can be behind a dummy
		s.noOwner(r)
	}
}

func (s *resolver) noOwner(r *row) {
	if !slices.ContainsFunc(s.sorted, func(l Link) bool { return l.Up && !l.Loopback }) {
		s.unresolved(r, "no-owner", "no interface but loopback is up in this network "+
			"namespace: run lasthop on the host that has the uplinks, or name a "+
			"process in their namespace with --netns PID")
		return
	}
	s.unresolved(r, "no-owner", "name the interface"+s.addressFlag(r.Addr.String(), "IF",
		FamilyOf(r.Addr)))
}

// addressFlag is the end of a hint: the flag that decides an address. The flag
// includes the router if naming the link may not be enough: an uplink has
// several routers, or an assumed one.
func (s *resolver) addressFlag(addr, link string, f Family) string {
	for _, l := range s.sorted {
		all := s.uplinks[linkFamily{l.Name, f}]
		unsure := slices.ContainsFunc(all, func(g gateway) bool {
			return g.source.Assumed() || !slices.Equal(g.hops, all[0].hops)
		})
		if unsure && (link == "IF" || link == l.Name) {
			return " and its router: " + Flag("address", addr+"="+link+",GATEWAY")
		}
	}
	return ": " + Flag("address", addr+"="+link)
}

// beyondTunnel handles an address of a tunnel. Its peers are on-link. Only the
// user knows whether other clients come through the tunnel.
func (s *resolver) beyondTunnel(r *row) {
	r.Status = LocalOnly
	if s.policy.none(r.Link) {
		r.Reason = "gateway-none"
		return
	}
	r.Reason = "beyond-tunnel"
	s.find(Warning.Finding("beyond-tunnel", r.Addr.String(), "%s is on the tunnel %s, and "+
		"lasthop does not know whether clients behind its peers come through "+
		"it", r.Addr, r.Link).
		Advise("if they do, name the peer: %s; if not: %s",
			Flag("gateway", r.Link+"=ADDR"), Flag("gateway", r.Link+"=none")).
		At(origin(r)))
}

// noGateway handles an address of a link without gateway. If the user says that
// the link has none, its clients are on-link.
func (s *resolver) noGateway(r *row) {
	if s.policy.none(r.Link) {
		r.Status, r.Reason = LocalOnly, "gateway-none"
		return
	}
	advice := fmt.Sprintf("name the router of that interface: %s; if all clients are in its "+
		"subnet: %s",
		Flag("gateway", r.Link+"=ADDR"), Flag("gateway", r.Link+"=none"))
	if more := (ladder{s.topology}).hint(r.Link, FamilyOf(r.Addr)); more != "" {
		advice += " (" + more + ")"
	}
	s.unresolved(r, "no-gateway", advice)
}

func (s *resolver) unresolved(r *row, reason Code, hint string) {
	if s.policy.mode(r.Addr, r.Link) == NoReturn {
		r.Status, r.Reason = Off, "return-off"
		return
	}
	r.Status, r.Reason = Unresolved, reason
	message := map[Code]string{
		"no-gateway": fmt.Sprintf("%s is on %s, and lasthop knows no %s gateway "+
			"there", r.Addr,
			r.Link, FamilyOf(r.Addr)),
		"no-owner": fmt.Sprintf("%s is on no interface and in no uplink's subnet", r.Addr),
		"address-on-lo": fmt.Sprintf("%s is on lo and in no uplink's subnet, so lasthop "+
			"does not know by which uplink requests come", r.Addr),
		"link-down": fmt.Sprintf("%s belongs to %s, which is down", r.Addr, r.Link),
	}[reason]
	if reason == "no-owner" && r.Link != "" {
		message = fmt.Sprintf("%s is on %s, where no client can be, and in no uplink's "+
			"subnet, so lasthop does not know by which uplink requests "+
			"come", r.Addr, r.Link)
	}
	s.find(Finding{reason, Warning, r.Addr.String(), message, hint, origin(r)})
}

func (s *resolver) ambiguous(r *row, links []string, what string) {
	s.find(Warning.Finding("ambiguous", r.Addr.String(), "%s may belong to %s: %s", r.Addr,
		strings.Join(links, " or "), what).
		Advise("name the interface%s", s.addressFlag(r.Addr.String(), links[0],
			FamilyOf(r.Addr))).At(origin(r)))
}
