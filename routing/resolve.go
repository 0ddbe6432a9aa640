package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// resolver finds the link and the path of each listener.
type resolver struct {
	*draft
	byKey map[pathKey]*path

	// where an address without a subnet of its own belongs: the links of
	// each subnet
	subnets   map[netip.Prefix][]string
	narrowest prefixSet
}

type pathKey struct {
	link   string
	family Family
	hops   string // gateway.key
	home   netip.Prefix

	lastHop, anywhere bool
}

func newResolver(t *topology) *resolver {
	return &resolver{draft: &draft{topology: t,
		audience: map[Family]audience{}}, byKey: map[pathKey]*path{}}
}

// resolveAll finds the path of every listener.
func resolveAll(t *topology, listeners []Listener) *draft {
	s := newResolver(t)
	s.rows = make([]row, 0, len(listeners)+len(t.host.Addrs)) // a wildcard has several
	for _, l := range listeners {
		s.resolve(l)
	}
	if n := entries(s.rows); n > maxWanted { // then the mode last-hop is not available
		none := *t
		none.host.LastHop = LastHopSupport{Known: true, Missing: fmt.Sprintf("its "+
			"listeners need %d entries, and its map has room for %d", n, maxWanted)}
		return resolveAll(&none, listeners)
	}
	s.tellUnknown()
	return s.draft
}

// tellUnknown finds settings of links that are not here, since a name may be
// wrong or an interface was renamed, and settings of addresses that neither
// this host nor a listener has.
func (s *resolver) tellUnknown() {
	link := func(name, setting string) {
		if _, ok := s.links[name]; !ok {
			s.find(Warning.Finding("unknown-link", name, "%s names the interface "+
				"%s, which does not exist here", setting, name).
				Advise("check the name (not an altname): ip -br link"))
		}
	}
	here, named, wild := Present(s.host), map[netip.Addr]bool{}, map[bool]bool{}
	for _, r := range s.rows {
		named[r.Addr] = true
		wild[r.Addr.Is4()] = wild[r.Addr.Is4()] || r.wild
	}
	address := func(addr netip.Addr, setting string) {
		switch {
		case here(addr) || named[addr]:
		case wild[addr.Is4()]:
			s.find(Info.Finding("unknown-address", addr.String(), "%s is for %s, "+
				"which this host does not have now; the wildcard listener "+
				"covers it once the host has "+
				"it", setting, addr).Advise("correct the address, unless it " +
				"comes with a failover"))
		default:
			s.find(Warning.Finding("unknown-address", addr.String(), "%s is for %s, "+
				"which no listener names and which this host does not "+
				"have", setting,
				addr).Advise("correct the address, or add the listener"))
		}
	}
	for _, pin := range s.policy.Gateways {
		link(pin.Link, "gateway "+pin.String())
	}
	for _, pin := range s.policy.Addresses {
		link(pin.Link, "address "+pin.Addr.String())
		address(pin.Addr, "address "+pin.Addr.String()+"="+pin.String())
	}
	for _, pin := range s.policy.Returns {
		if pin.Addr.IsValid() {
			address(pin.Addr, "return "+string(pin.Mode))
		} else {
			link(pin.Link, "return "+string(pin.Mode))
		}
	}
	for _, name := range s.policy.FailClosed {
		if name != "*" {
			link(name, "fail closed")
		}
	}
}

// resolve adds the row of a listener; of a wildcard one for each global
// address. Addresses of a wildcard whose way is unknown are counted in one
// finding.
func (s *resolver) resolve(l Listener) {
	if !l.Addr.IsUnspecified() {
		s.rows = append(s.rows, s.resolveAddr(l))
		return
	}
	from := len(s.rows)
	var alone []string
	for _, addr := range s.globalAddrs(FamilyOf(l.Addr)) {
		one, told := l, len(s.findings)
		one.Addr = addr
		r := s.resolveAddr(one)
		r.wild = true
		if s.byWildcardAlone(r) {
			s.findings = s.findings[:told]
			alone = append(alone, addr.String()+" on "+r.Link)
			r.Status, r.Reason = Off, "wildcard-only"
		}
		s.rows = append(s.rows, r)
	}
	if len(alone) > 0 {
		s.find(Info.Finding("wildcard-only", l.Listen, "a wildcard listener covers "+
			"addresses that lasthop knows no uplink for; it does nothing for %s",
			Some(alone, 4)).
			Advise("if clients use one, name it in a listen, or name its interface%s",
				s.addressFlag("ADDR", "IF", FamilyOf(l.Addr))).
			At(origin(&s.rows[from])))
	}
}

// byWildcardAlone reports whether only a wildcard makes a row: its address is a
// host prefix, or on a tunnel or a link without a network behind it. An address
// with a subnet on a NIC has clients there.
func (s *resolver) byWildcardAlone(r row) bool {
	if _, pinned := s.policy.address(r.Addr); pinned {
		return false
	}
	return r.Reason == "beyond-tunnel" ||
		r.Status == Unresolved && (!s.outside(s.links[r.Link]) ||
			!slices.ContainsFunc(s.assigned[r.Addr],
				func(a Addr) bool { return !a.Connected().IsSingleIP() }))
}

func (s *resolver) resolveAddr(l Listener) row {
	r := row{Outcome: Outcome{Listener: l}}
	if l.Addr.IsLoopback() || l.Addr.IsLinkLocalUnicast() {
		r.Status = LocalOnly
		return r
	}
	told := len(s.findings)
	s.findOwner(&r)
	if g, ok := (returning{s.topology}).anywhere(r); ok {
		s.findings, r.Status, r.Reason = s.findings[:told], "", ""
		r.path = s.pathOf(g, r.Addr)
	} else if r.Status == Unresolved && s.hold(&r) {
		s.findings = append(s.findings[:told], s.findings[len(s.findings)-1])
	}
	r.Mode = s.policy.mode(l.Addr, r.Link)
	if r.mode = r.Mode; r.mode == LastHop {
		returning{s.topology}.tell(s.draft, r)
		r.mode = Strict // in addition to what its path does
	}
	if r.path == nil {
		return r
	}
	switch {
	case r.mode == NoReturn:
		r.Status, r.Reason, r.path = Off, "return-off", nil
	case len(s.assigned[l.Addr]) == 0 && s.localRoute(l.Addr) == nil:
		r.Status = Armed
	default:
		r.Status = Ready
	}
	return r
}

// takePath gives the row the path of its link that serves its address: the path
// of the first gateway whose prefix holds the address, else the only path.
func (s *resolver) takePath(r *row) {
	key := linkFamily{r.Link, FamilyOf(r.Addr)}
	gateways := s.uplinks[key]
	best := slices.IndexFunc(gateways,
		func(g gateway) bool { return g.prefix.Contains(r.Addr) })
	// a /32 outside the link's subnets
	if best < 0 && len(gateways) == 1 && !s.connects(key, r.Addr) {
		best = 0
	}
	if best < 0 {
		s.noGateway(r)
		return
	}
	r.path = s.pathOf(gateways[best], r.Addr)
}

// pathOf returns the path by a gateway for an address. Addresses in a router's
// subnet and those outside of it have paths of their own: hosts of that subnet
// reach the former on-link and the latter by the router.
func (s *resolver) pathOf(g gateway, addr netip.Addr) *path {
	key := pathKey{link: g.link, family: g.family, hops: g.key(), anywhere: g.anywhere,
		lastHop: g.anywhere || returning{s.topology}.takes(addr, g.link)}
	for _, p := range s.routed[linkFamily{g.link, g.family}] {
		if p.Contains(addr) && p.Bits() > key.home.Bits() {
			key.home = p
		}
	}
	if s.byKey[key] == nil {
		s.byKey[key] = &path{gateway: g, home: key.home, lastHop: key.lastHop}
		s.paths = append(s.paths, s.byKey[key])
	}
	return s.byKey[key]
}

func origin(r *row) string {
	if len(r.Origins) == 0 {
		return ""
	}
	return r.Origins[0]
}
