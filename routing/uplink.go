package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// gateway is one way out of an uplink: the start of a path. It serves the
// listeners in prefix.
type gateway struct {
	link   string
	family Family
	prefix netip.Prefix // what it serves: the prefix that holds a pin, or the whole family
	hops   []Hop
	source GatewaySource
	detail string
	mtu    uint32
	advmss uint32
}

// hostLocal are the kinds of links that lead to no router of ours: clients
// behind them are on-link or on the host.
var hostLocal = map[string]bool{"bridge": true, "tun": true, "wireguard": true, "dummy": true,
	"vxlan": true, "geneve": true, "ipip": true, "sit": true, "ip6tnl": true, "gre": true,
	"gretap": true, "ip6gre": true, "vti": true, "vti6": true, "xfrm": true, "ifb": true,
	"nlmon": true}

func (l Link) hostLocal() bool { return l.Loopback || hostLocal[l.Kind] }

// ladder finds the gateways of links on a topology that has no uplinks yet:
// of the places that may name a gateway, the first that does so counts.
type ladder struct{ *topology }

// findUplinks returns the gateways of every link that has one.
func (u ladder) findUplinks() map[linkFamily][]gateway {
	ups := map[linkFamily][]gateway{}
	for _, l := range u.sorted {
		if l.Loopback || l.Kind == "vrf" || u.vrf(l) != "" || !l.Up {
			continue
		}
		for _, f := range Families {
			if g := u.gateways(l, f); len(g) > 0 {
				ups[linkFamily{l.Name, f}] = g
			}
		}
	}
	return ups
}

// gateways returns a link's gateways of one family: the pinned ones for their
// prefixes, and one for everything else.
func (u ladder) gateways(l Link, f Family) []gateway {
	var out []gateway
	static := false
	for _, pin := range u.policy.pins(l.Name) {
		if pin.None {
			return nil
		}
		static = static || pin.Static
		if pin.Addr.IsValid() && FamilyOf(pin.Addr) == f {
			g := by(l.Name, pin.Addr, FromPin)
			g.prefix = pinPrefix(u.host, pin)
			out = append(out, g)
		}
	}
	if !slices.ContainsFunc(out, func(g gateway) bool { return g.prefix == f.All() }) {
		if g, ok := u.climb(l, f, static, len(out) == 0); ok {
			out = addWhole(out, g, f)
		}
	}
	slices.SortFunc(out, func(a, b gateway) int { return comparePrefix(a.prefix, b.prefix) })
	out = slices.CompactFunc(out, func(a, b gateway) bool { return a.prefix == b.prefix })
	for i := range out {
		out[i].link, out[i].family = l.Name, f
	}
	return out
}

// addWhole adds the gateway of everything else. If a pin names the same one, it
// is one path.
func addWhole(pinned []gateway, g gateway, f Family) []gateway {
	for i := range pinned {
		if slices.Equal(pinned[i].hops, g.hops) {
			pinned[i].prefix, pinned[i].mtu, pinned[i].advmss = f.All(), g.mtu, g.advmss
			return pinned
		}
	}
	g.prefix = f.All()
	return append(pinned, g)
}

// by is the way out by one router on a link.
func by(link string, router netip.Addr, source GatewaySource) gateway {
	return gateway{link: link, source: source,
		hops: []Hop{{Link: link, Via: router, Weight: 1, OnLink: router.IsValid()}}}
}

// climb finds the gateway that serves whatever no pin serves. Where there are
// pins nothing is held: what our table has may come from an earlier pin.
func (u ladder) climb(l Link, f Family, static, hold bool) (gateway, bool) {
	steps := []func(Link, Family) (gateway, bool){u.fromMain, u.fromTable, u.fromLease,
		u.fromRouter}
	if static {
		steps = append(steps, u.fromStatic)
	}
	if hold {
		steps = append(steps, u.fromHeld)
	}
	for _, step := range steps {
		if g, ok := step(l, f); ok {
			return g, true
		}
	}
	return gateway{}, false
}

func (u ladder) fromMain(l Link, f Family) (gateway, bool) {
	return u.bestDefault(l, f, func(t uint32) bool { return t == TableMain }, FromMain)
}

func (u ladder) fromTable(l Link, f Family) (gateway, bool) {
	g, ok := u.bestDefault(l, f, func(t uint32) bool {
		return t != TableMain && t != TableLocal && !u.policy.Numbers.OwnsTable(t) &&
			!u.isolated[t]
	}, FromTable)
	return g, ok && g.hops[0].Via.IsValid()
}

// bestDefault takes the default route with the lowest metric, of IPv6 ones that
// with the highest router preference.
func (u ladder) bestDefault(l Link, f Family, in func(uint32) bool,
	source GatewaySource) (gateway, bool) {
	var best *Route
	var bestHops []Hop
	for i := range u.host.Routes {
		r := &u.host.Routes[i]
		if !r.IsDefault() || r.Type != Unicast || r.Family() != f || r.steers() ||
			!in(r.Table) {
			continue
		}
		hops := hopsOn(r.Hops, l)
		if len(hops) > 0 && (best == nil || cmp.Or(cmp.Compare(r.Metric, best.Metric),
			cmp.Compare(best.Pref, r.Pref), cmp.Compare(r.Table, best.Table)) < 0) {
			best, bestHops = r, hops
		}
	}
	if best == nil {
		return gateway{}, false
	}
	g := gateway{hops: bestHops, source: source, mtu: best.MTU, advmss: best.AdvMSS}
	if source == FromTable {
		g.detail = fmt.Sprintf("table %d", best.Table)
	}
	return g, true
}

// hopsOn returns the hops of a default route that are on the link, as we write
// them. A default without gateway makes a point-to-point line an uplink, but no
// link that is host-local by its kind.
func hopsOn(hops []Hop, l Link) []Hop {
	return written(filter(hops, func(h Hop) bool {
		return h.Link == l.Name && !h.Dead && (h.Via.IsValid() || !l.hostLocal())
	}))
}

func (u ladder) fromLease(l Link, f Family) (gateway, bool) {
	for _, lease := range u.host.Leases {
		if lease.Link == l.Name && FamilyOf(lease.Gateway) == f {
			g := by(l.Name, lease.Gateway, FromLease)
			g.detail = "of " + lease.Client
			return g, true
		}
	}
	return gateway{}, false
}

// fromRouter takes the neighbour that announced itself as an IPv6 router; of
// several the lowest address, so that the choice does not follow the weather.
func (u ladder) fromRouter(l Link, f Family) (gateway, bool) {
	var best netip.Addr
	for _, n := range u.host.Neighs {
		if f == IPv6 && n.Link == l.Name && n.Router && n.State != "FAILED" &&
			FamilyOf(n.Addr) == f && (!best.IsValid() || n.Addr.Less(best)) {
			best = n.Addr
		}
	}
	return by(l.Name, best, FromRouter), best.IsValid()
}

// fromStatic takes the next hop of the static routes through the link, if they
// all use the same one.
func (u ladder) fromStatic(l Link, f Family) (gateway, bool) {
	var via netip.Addr
	for _, r := range u.host.Routes {
		if r.Table != TableMain || r.Family() != f || r.Type != Unicast || r.IsDefault() {
			continue
		}
		for _, h := range r.Hops {
			if h.Link != l.Name || !h.Via.IsValid() {
				continue
			}
			if via.IsValid() && via != h.Via {
				return gateway{}, false
			}
			via = h.Via
		}
	}
	return by(l.Name, via, FromStatic), via.IsValid()
}

// fromHeld takes the default that our own table for the link still has. Pinned
// gateways do not count: they come with their pin.
func (u ladder) fromHeld(l Link, f Family) (gateway, bool) {
	for _, r := range u.own.Routes {
		if !r.IsDefault() || r.Family() != f || r.Type != Unicast {
			continue
		}
		hops := hopsOn(r.Hops, l)
		if len(hops) == 0 || u.pinned(l.Name, hops[0].Via) {
			continue
		}
		return gateway{hops: hops, source: FromHeld, detail: fmt.Sprintf("%d", r.Table),
			mtu: r.MTU, advmss: r.AdvMSS}, true
	}
	return gateway{}, false
}

func (u ladder) pinned(link string, via netip.Addr) bool {
	return slices.ContainsFunc(u.policy.pins(link),
		func(p GatewayPin) bool { return p.Addr == via }) ||
		slices.ContainsFunc(u.policy.Addresses, func(p AddressPin) bool {
			return p.Link == link && p.Gateway == via
		})
}
