package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// resolve finds the link and path of a listener, by the rules of DESIGN 3. A
// wildcard gives a row for each global address.
func (b *builder) resolve(l Listener) []row {
	if !l.Addr.IsUnspecified() {
		return []row{b.resolveAddr(l)}
	}
	var rows []row
	for _, addr := range b.globalAddrs(FamilyOf(l.Addr)) {
		one := l
		one.Addr = addr
		r := b.resolveAddr(one)
		r.wild = true
		rows = append(rows, r)
	}
	return rows
}

// globalAddrs returns the host's global addresses of a family, sorted,
// temporary ones aside: those come and go, and are for the host's own
// connections.
func (b *builder) globalAddrs(f Family) []netip.Addr {
	var out []netip.Addr
	for _, a := range b.host.Addrs {
		addr := a.Prefix.Addr()
		if FamilyOf(addr) == f && a.Scope < ScopeLink && !a.Temporary &&
			!addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func (b *builder) resolveAddr(l Listener) row {
	r := row{Outcome: Outcome{Listener: l}}
	if l.Addr.IsLoopback() || l.Addr.IsLinkLocalUnicast() {
		r.Status = LocalOnly
		return r
	}
	b.findOwner(&r)
	if r.path == nil {
		return r
	}
	r.mode = b.policy.mode(l.Addr, r.Link)
	switch {
	case r.mode == NoReturn:
		r.Status, r.Reason, r.path = Off, "return-off", nil
	case len(b.assigned[l.Addr]) == 0:
		r.Status = Armed
	default:
		r.Status = Ready
	}
	return r
}

// findOwner sets link and path, or status and reason.
func (b *builder) findOwner(r *row) {
	addr := r.Addr
	if pin := slices.IndexFunc(b.policy.Addresses,
		func(p AddressPin) bool { return p.Addr == addr }); pin >= 0 {
		b.ownByPin(r, b.policy.Addresses[pin])
		return
	}
	owners := b.assigned[addr]
	if len(owners) == 0 {
		b.ownByPrefix(r)
		return
	}
	for _, a := range owners {
		if b.inVRF(b.links[a.Link]) {
			r.Link, r.Status, r.Reason = a.Link, Off, "vrf"
			b.find(Finding{Code: "vrf", Severity: Info, Subject: addr.String(),
				Origin: origin(r),
				Message: fmt.Sprintf("%s is on %s in the VRF %s, which keeps its "+
					"replies to itself", addr, a.Link, b.links[a.Link].Master)})
			return
		}
	}
	b.ownByAssignment(r, owners)
}

func (b *builder) ownByPin(r *row, pin AddressPin) {
	r.Link = pin.Link
	switch link, ok := b.links[pin.Link]; {
	case !ok || !link.Up:
		b.unresolved(r, "link-down",
			"bring the link up, or correct --address "+r.Addr.String()+"="+pin.Link)
	case pin.Gateway.IsValid():
		r.path = b.pathOf(gateway{link: pin.Link, family: FamilyOf(r.Addr),
			prefix: netip.PrefixFrom(r.Addr, r.Addr.BitLen()),
			hops:   []Hop{onlink(pin.Link, pin.Gateway)}, source: FromPin,
			detail: "for " + r.Addr.String()})
	default:
		b.takePath(r)
	}
}

// ownByAssignment takes the uplink that has the address: of several the one
// with the longest prefix, then the lowest main metric, then the first name.
func (b *builder) ownByAssignment(r *row, owners []Addr) {
	f := FamilyOf(r.Addr)
	var ups []Addr
	for _, a := range owners {
		if len(b.uplinks[linkFamily{a.Link, f}]) > 0 {
			ups = append(ups, a)
		}
	}
	if len(ups) == 0 {
		b.ownWithoutGateway(r, owners)
		return
	}
	slices.SortFunc(ups, func(x, y Addr) int {
		return cmp.Or(cmp.Compare(y.Prefix.Bits(), x.Prefix.Bits()),
			cmp.Compare(b.mainMetric(x.Link, f), b.mainMetric(y.Link, f)),
			cmp.Compare(x.Link, y.Link))
	})
	r.Link = ups[0].Link
	if names := linkNames(ups); len(names) > 1 {
		b.ambiguous(r, names, "it is taken to belong to "+r.Link)
	}
	b.takePath(r)
}

func linkNames(addrs []Addr) []string {
	var names []string
	for _, a := range addrs {
		names = append(names, a.Link)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (b *builder) mainMetric(link string, f Family) uint32 {
	best := ^uint32(0)
	for _, r := range b.host.Routes {
		if r.Table == TableMain && r.IsDefault() && r.Family() == f &&
			len(hopsOn(r.Hops, b.links[link])) > 0 {
			best = min(best, r.Metric)
		}
	}
	return best
}

// ownWithoutGateway handles an address of links none of which is an uplink.
func (b *builder) ownWithoutGateway(r *row, owners []Addr) {
	link := b.links[owners[0].Link]
	r.Link = link.Name
	if link.Loopback {
		if ups := b.uplinksAround(r.Addr); len(ups) == 1 {
			r.Link = ups[0]
			b.takePath(r)
			return
		} else if len(ups) > 1 {
			b.ambiguous(r, ups, "nothing is done for it")
			r.Status, r.Reason = Unresolved, "ambiguous"
			return
		}
		b.find(Finding{Code: "address-on-lo", Severity: Warning, Subject: r.Addr.String(),
			Origin: origin(r),
			Message: fmt.Sprintf("%s is on lo and in no uplink's prefix: nothing "+
				"says which way its clients come", r.Addr),
			Hint: fmt.Sprintf("name the uplink: --address %s=IF", r.Addr)})
	}
	switch {
	case link.hostLocal():
		r.Status = LocalOnly
	case !link.Up:
		b.unresolved(r, "link-down", "bring it up: ip link set "+link.Name+" up")
	default:
		b.noGateway(r)
	}
}

// ownByPrefix arms an address that is not here but lies in a connected prefix
// of exactly one uplink.
func (b *builder) ownByPrefix(r *row) {
	switch ups := b.uplinksAround(r.Addr); {
	case len(ups) == 1:
		r.Link = ups[0]
		b.takePath(r)
		return
	case len(ups) > 1:
		b.ambiguous(r, ups, "nothing is done for it")
		r.Status, r.Reason = Unresolved, "ambiguous"
		return
	}
	for _, a := range b.host.Addrs {
		if a.Connected().Contains(r.Addr) && !b.links[a.Link].Loopback {
			r.Link = a.Link
			if b.links[a.Link].hostLocal() {
				r.Status = LocalOnly
				return
			}
			b.noGateway(r)
			return
		}
	}
	b.unresolved(r, "no-owner", fmt.Sprintf("name the interface: --address %s=IF", r.Addr))
}

// uplinksAround returns the uplinks with a connected prefix that holds the
// address.
func (b *builder) uplinksAround(addr netip.Addr) []string {
	var ups []string
	for key := range b.uplinks {
		if key.family != FamilyOf(addr) {
			continue
		}
		for _, p := range b.connected(key) {
			if p.Contains(addr) {
				ups = append(ups, key.link)
				break
			}
		}
	}
	slices.Sort(ups)
	return ups
}

// connected returns the connected prefixes of a link: those of its addresses,
// and those that the kernel, router advertisements or DHCP made on-link. Host
// prefixes (/32, /128) and link-local ones are none.
func (b *builder) connected(key linkFamily) []netip.Prefix {
	if p, ok := b.connectedCache[key]; ok {
		return p
	}
	var out []netip.Prefix
	add := func(p netip.Prefix) {
		if FamilyOf(p.Addr()) == key.family && !p.IsSingleIP() &&
			!p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() && p.Bits() > 0 {
			out = append(out, p)
		}
	}
	for _, a := range b.host.Addrs {
		if a.Link == key.link {
			add(a.Connected())
		}
	}
	for _, r := range b.host.Routes {
		if r.Table == TableMain && r.Type == Unicast && onLinkProtocol[r.Protocol] &&
			len(r.Hops) == 1 && r.Hops[0].Link == key.link && !r.Hops[0].Via.IsValid() {
			add(r.Dst)
		}
	}
	slices.SortFunc(out, comparePrefix)
	out = slices.Compact(out)
	b.connectedCache[key] = out
	return out
}

// onLinkProtocol are the protocols of routes that make a prefix connected:
// kernel, ra, dhcp.
var onLinkProtocol = map[uint8]bool{2: true, 9: true, 16: true}

// takePath gives the row the path of its link that serves its address: the
// narrowest prefix that holds it, else the only path that there is.
func (b *builder) takePath(r *row) {
	gateways := b.uplinks[linkFamily{r.Link, FamilyOf(r.Addr)}]
	best := -1
	for i, g := range gateways {
		if g.prefix.Contains(r.Addr) &&
			(best < 0 || g.prefix.Bits() > gateways[best].prefix.Bits()) {
			best = i
		}
	}
	if best < 0 && len(gateways) == 1 && b.outsidePrefixes(r) {
		best = 0
	}
	if best < 0 {
		b.noGateway(r)
		return
	}
	r.path = b.pathOf(gateways[best])
}

// outsidePrefixes says whether the address is in no connected prefix of its
// link: a /32 beside the link's subnets.
func (b *builder) outsidePrefixes(r *row) bool {
	return !slices.ContainsFunc(b.connected(linkFamily{r.Link, FamilyOf(r.Addr)}),
		func(p netip.Prefix) bool { return p.Contains(r.Addr) })
}

func (b *builder) pathOf(g gateway) *path {
	key := pathKey{g.link, g.family, ""}
	for _, h := range g.hops {
		key.hops += h.String() + " "
	}
	if b.byKey[key] == nil {
		b.byKey[key] = &path{gateway: g}
		b.paths = append(b.paths, b.byKey[key])
	}
	return b.byKey[key]
}

// noGateway handles an address of a link without gateway. If the user says that
// there is none, its clients are on-link.
func (b *builder) noGateway(r *row) {
	if slices.ContainsFunc(b.policy.pins(r.Link), func(p GatewayPin) bool { return p.None }) {
		r.Status, r.Reason = LocalOnly, "gateway-none"
		return
	}
	b.unresolved(r, "no-gateway", fmt.Sprintf("name the router: --gateway %s=ADDR, or "+
		"--gateway %s=none if there is none", r.Link, r.Link))
}

func (b *builder) unresolved(r *row, reason Code, hint string) {
	if b.policy.mode(r.Addr, r.Link) == NoReturn {
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
	b.find(Finding{Code: reason, Severity: Warning, Subject: r.Addr.String(), Message: message,
		Hint: hint, Origin: origin(r)})
}

func (b *builder) ambiguous(r *row, links []string, what string) {
	b.find(Finding{Code: "ambiguous", Severity: Warning, Subject: r.Addr.String(),
		Origin: origin(r),
		Message: fmt.Sprintf("%s may belong to %s: %s", r.Addr,
			strings.Join(links, " or "), what),
		Hint: fmt.Sprintf("decide it: --address %s=%s", r.Addr, links[0])})
}

func origin(r *row) string {
	if len(r.Origins) == 0 {
		return ""
	}
	return r.Origins[0]
}
