package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// resolver finds the link and the path of each listener.
type resolver struct {
	*draft
	byKey map[pathKey]*path
}

type pathKey struct {
	link   string
	family Family
	hops   string // gateway.key
}

func newResolver(t *topology) *resolver {
	return &resolver{&draft{topology: t}, map[pathKey]*path{}}
}

// resolveAll finds the path of every listener. A held gateway that no listener
// answers through is dropped: its table is about to be deleted, and without it
// the next sync would not see an uplink there.
func resolveAll(t *topology, listeners []Listener) *draft {
	s := newResolver(t)
	for _, l := range listeners {
		s.rows = append(s.rows, s.resolve(l)...)
	}
	if unused := s.unusedHeld(); len(unused) > 0 {
		return resolveAll(t.withoutHeld(unused), listeners)
	}
	s.tellUnknownLinks()
	return s.draft
}

// unusedHeld returns the links whose gateway is held and that no listener
// answers through.
func (s *resolver) unusedHeld() map[linkFamily]bool {
	unused := map[linkFamily]bool{}
	for key, gateways := range s.uplinks {
		if slices.ContainsFunc(gateways,
			func(g gateway) bool { return g.source == FromHeld }) {
			unused[key] = true
		}
	}
	for _, r := range s.rows {
		if r.path != nil && r.path.source == FromHeld {
			delete(unused, linkFamily{r.path.link, r.path.family})
		}
	}
	return unused
}

func (s *resolver) tellUnknownLinks() {
	for _, pin := range s.policy.Gateways {
		if _, ok := s.links[pin.Link]; !ok {
			s.find(Warning.Finding("unknown-link", pin.Link,
				"gateway %s is for the link %s, which is not here", pin, pin.Link).
				Advise("check the name with: ip link"))
		}
	}
}

// resolve returns the row of a listener; of a wildcard one for each global
// address.
func (s *resolver) resolve(l Listener) []row {
	if !l.Addr.IsUnspecified() {
		return []row{s.resolveAddr(l)}
	}
	var rows []row
	for _, addr := range s.globalAddrs(FamilyOf(l.Addr)) {
		one := l
		one.Addr = addr
		r := s.resolveAddr(one)
		r.wild = true
		rows = append(rows, r)
	}
	return rows
}

func (s *resolver) resolveAddr(l Listener) row {
	r := row{Outcome: Outcome{Listener: l}}
	if l.Addr.IsLoopback() || l.Addr.IsLinkLocalUnicast() {
		r.Status = LocalOnly
		return r
	}
	s.findOwner(&r)
	if r.path == nil {
		return r
	}
	r.mode = s.policy.mode(l.Addr, r.Link)
	switch {
	case r.mode == NoReturn:
		r.Status, r.Reason, r.path = Off, "return-off", nil
	case len(s.assigned[l.Addr]) == 0:
		r.Status = Armed
	default:
		r.Status = Ready
	}
	return r
}

// findOwner sets link and path, or status and reason.
func (s *resolver) findOwner(r *row) {
	addr := r.Addr
	if pin := slices.IndexFunc(s.policy.Addresses,
		func(p AddressPin) bool { return p.Addr == addr }); pin >= 0 {
		s.ownByPin(r, s.policy.Addresses[pin])
		return
	}
	owners := s.assigned[addr]
	if len(owners) == 0 {
		s.ownByPrefix(r)
		return
	}
	if link, vrf := s.vrfOf(addr); vrf != "" {
		r.Link, r.Status, r.Reason = link, Off, "vrf"
		s.find(Info.Finding("vrf", addr.String(), "%s is on %s in the VRF %s, which "+
			"keeps its replies to itself", addr, link, vrf).At(origin(r)))
		return
	}
	s.ownByAssignment(r, owners)
}

func (s *resolver) ownByPin(r *row, pin AddressPin) {
	r.Link = pin.Link
	switch link, ok := s.links[pin.Link]; {
	case !ok || !link.Up:
		s.unresolved(r, "link-down",
			"bring the link up, or correct --address "+r.Addr.String()+"="+pin.Link)
	case pin.Gateway.IsValid():
		g := by(pin.Link, pin.Gateway, FromPin)
		g.family, g.prefix = FamilyOf(r.Addr), netip.PrefixFrom(r.Addr, r.Addr.BitLen())
		g.detail = "for " + r.Addr.String()
		r.path = s.pathOf(g)
	default:
		s.takePath(r)
	}
}

// ownByAssignment takes the uplink that has the address: of several the one
// with the longest prefix, then the lowest main metric, then the first name.
func (s *resolver) ownByAssignment(r *row, owners []Addr) {
	f := FamilyOf(r.Addr)
	ups := filter(owners, func(a Addr) bool {
		return len(s.uplinks[linkFamily{a.Link, f}]) > 0
	})
	if len(ups) == 0 {
		s.ownWithoutGateway(r, owners)
		return
	}
	slices.SortFunc(ups, func(x, y Addr) int {
		return cmp.Or(cmp.Compare(y.Prefix.Bits(), x.Prefix.Bits()),
			cmp.Compare(s.mainMetric(x.Link, f), s.mainMetric(y.Link, f)),
			cmp.Compare(x.Link, y.Link))
	})
	r.Link = ups[0].Link
	if names := linkNames(ups); len(names) > 1 {
		s.ambiguous(r, names, "it is taken to belong to "+r.Link)
	}
	s.takePath(r)
}

func linkNames(addrs []Addr) []string {
	var names []string
	for _, a := range addrs {
		names = append(names, a.Link)
	}
	return sortOnce(names, strings.Compare)
}

// ownWithoutGateway handles an address of links none of which is an uplink.
func (s *resolver) ownWithoutGateway(r *row, owners []Addr) {
	link := s.links[owners[0].Link]
	r.Link = link.Name
	if link.Loopback {
		if s.ownByUplink(r) {
			return
		}
		s.find(Warning.Finding("address-on-lo", r.Addr.String(), "%s is on lo and in no "+
			"uplink's prefix: nothing says which way its clients come", r.Addr).
			Advise("name the uplink: --address %s=IF", r.Addr).At(origin(r)))
	}
	switch {
	case link.hostLocal():
		r.Status = LocalOnly
	case !link.Up:
		s.unresolved(r, "link-down", "bring it up: ip link set "+link.Name+" up")
	default:
		s.noGateway(r)
	}
}

// ownByUplink takes the uplink with a connected prefix that holds the address.
// It reports whether there is any; several are ambiguous.
func (s *resolver) ownByUplink(r *row) bool {
	ups := s.uplinksAround(r.Addr)
	switch len(ups) {
	case 0:
		return false
	case 1:
		r.Link = ups[0]
		s.takePath(r)
	default:
		s.ambiguous(r, ups, "nothing is done for it")
		r.Status, r.Reason = Unresolved, "ambiguous"
	}
	return true
}

// ownByPrefix arms an address that is not here but lies in a connected prefix
// of exactly one uplink.
func (s *resolver) ownByPrefix(r *row) {
	if s.ownByUplink(r) {
		return
	}
	for _, a := range s.host.Addrs {
		if a.Connected().Contains(r.Addr) && !s.links[a.Link].Loopback {
			r.Link = a.Link
			if s.links[a.Link].hostLocal() {
				r.Status = LocalOnly
				return
			}
			s.noGateway(r)
			return
		}
	}
	s.unresolved(r, "no-owner", fmt.Sprintf("name the interface: --address %s=IF", r.Addr))
}

// takePath gives the row the path of its link that serves its address: by the
// first gateway whose prefix holds it, else by the only one that there is.
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
	r.path = s.pathOf(gateways[best])
}

func (s *resolver) pathOf(g gateway) *path {
	key := pathKey{g.link, g.family, g.key()}
	if s.byKey[key] == nil {
		s.byKey[key] = &path{gateway: g}
		s.paths = append(s.paths, s.byKey[key])
	}
	return s.byKey[key]
}

// noGateway handles an address of a link without gateway. If the user says that
// there is none, its clients are on-link.
func (s *resolver) noGateway(r *row) {
	if slices.ContainsFunc(s.policy.pins(r.Link), func(p GatewayPin) bool { return p.None }) {
		r.Status, r.Reason = LocalOnly, "gateway-none"
		return
	}
	hint := fmt.Sprintf("name the router: --gateway %s=ADDR, or --gateway %s=none if there "+
		"is none", r.Link, r.Link)
	if clue := (ladder{s.topology}).clue(r.Link, FamilyOf(r.Addr)); clue != "" {
		hint += " (" + clue + ")"
	}
	s.unresolved(r, "no-gateway", hint)
}

func (s *resolver) unresolved(r *row, reason Code, hint string) {
	if s.policy.mode(r.Addr, r.Link) == NoReturn {
		r.Status, r.Reason = Off, "return-off"
		return
	}
	r.Status, r.Reason = Unresolved, reason
	message := map[Code]string{
		"no-gateway": fmt.Sprintf("%s is on %s, which has no %s gateway", r.Addr, r.Link,
			FamilyOf(r.Addr)),
		"no-owner":  fmt.Sprintf("%s is on no interface and in no uplink's prefix", r.Addr),
		"link-down": fmt.Sprintf("%s belongs to %s, which is down", r.Addr, r.Link),
	}[reason]
	s.find(Finding{reason, Warning, r.Addr.String(), message, hint, origin(r)})
}

func (s *resolver) ambiguous(r *row, links []string, what string) {
	s.find(Warning.Finding("ambiguous", r.Addr.String(), "%s may belong to %s: %s", r.Addr,
		strings.Join(links, " or "), what).
		Advise("decide it: --address %s=%s", r.Addr, links[0]).At(origin(r)))
}

func origin(r *row) string {
	if len(r.Origins) == 0 {
		return ""
	}
	return r.Origins[0]
}
