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
	link    string
	family  Family
	prefix  netip.Prefix // what it serves
	hops    []Hop
	standby []Hop  // routers that take over from hops, in this order
	named   uint32 // the foreign table that names it; 0 for none
	// the only address for which rules name that table, if it may be a VIP
	// with a router of its own
	of      netip.Addr
	source  GatewaySource
	detail  string
	metrics metrics
	// for addresses whose requests may come by any uplink
	anywhere bool
}

// key tells gateways of one link and family apart.
func (g gateway) key() string {
	if g.source == FromRule { // keeps what its table says
		return fmt.Sprint(g.hops, g.standby, g.named)
	}
	return fmt.Sprint(g.hops, g.standby)
}

// hostLocal are the kinds of links without a router: clients behind them are
// on-link or on the host.
var hostLocal = map[string]bool{"bridge": true, "tun": true, "wireguard": true, "dummy": true,
	"vxlan": true, "geneve": true, "ipip": true, "sit": true, "ip6tnl": true, "gre": true,
	"gretap": true, "ip6gre": true, "vti": true, "vti6": true, "xfrm": true, "ifb": true,
	"nlmon": true}

func (l Link) hostLocal() bool { return l.Loopback || hostLocal[l.Kind] }

// ladder finds the gateways of links on a topology that has no uplinks yet:
// section 3.8 of docs/architecture.md.
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

// gateways returns a link's gateways of one family in the order of the ladder:
// the first whose prefix holds an address serves it.
func (u ladder) gateways(l Link, f Family) []gateway {
	pins, none := u.fromPins(l, f)
	if none {
		return nil
	}
	out := slices.Concat(pins, u.fromRules(l, f), u.fromSources(l, f))
	var rest []gateway // for addresses in no gateway's own subnet
	add := func(gateways []gateway) {
		for _, g := range gateways {
			switch {
			case serveAll(out, f):
			case g.prefix == f.All() && !everywhere(g.hops[0].Via):
				rest = append(rest, g)
			default:
				out = append(out, g)
			}
		}
	}
	add(u.fromMain(l, f))
	add(u.fromTable(l, f))
	add(u.fromLease(l, f))
	if len(rest) == 0 {
		add(u.fromVIP(l, f))
	}
	if len(rest) > 0 && !serveAll(out, f) {
		out = append(out, rest[0])
	}
	// With a pin, no gateway is held: lasthop's table may hold one from an
	// earlier pin.
	if len(pins) == 0 && !serveAll(out, f) {
		out = append(out, u.fromHeld(l, f, out)...)
	}
	for i := range out {
		out[i].link, out[i].family = l.Name, f
	}
	return unify(out)
}

// serveAll reports whether some gateway serves every address.
func serveAll(gateways []gateway, f Family) bool {
	return slices.ContainsFunc(gateways, func(g gateway) bool { return g.prefix == f.All() })
}

// unify makes gateways with the same next hops the same path: the first source
// counts, and the first metrics. A gateway of a hand-written rule is a path of
// its own, since the path keeps what the rule does.
func unify(gateways []gateway) []gateway {
	for i := range gateways {
		for j := range gateways[:i] {
			a, b := &gateways[j], &gateways[i]
			if a.key() == b.key() {
				a.metrics = cmp.Or(a.metrics, b.metrics)
				a.named = cmp.Or(a.named, b.named)
				b.source, b.detail, b.named = a.source, a.detail, a.named
				b.metrics = a.metrics
				break
			}
		}
	}
	return gateways
}

// by returns the way out by one router on a link.
func by(link string, router netip.Addr, source GatewaySource) gateway {
	return gateway{link: link, source: source,
		hops: []Hop{{Link: link, Via: router, Weight: 1, OnLink: router.IsValid()}}}
}

// fromPins returns the gateways that the user pinned, the narrowest prefix
// first. none reports that the user said that the link has no gateway.
func (u ladder) fromPins(l Link, f Family) (out []gateway, none bool) {
	for _, pin := range u.policy.pins(l.Name) {
		switch {
		case pin.None:
			return nil, true
		case pin.Static:
			if routers := u.staticRouters(l.Name, f); len(routers) == 1 {
				g := by(l.Name, routers[0], FromStatic)
				g.prefix = f.All()
				out = append(out, g)
			}
		case FamilyOf(pin.Addr) == f:
			g := by(l.Name, pin.Addr, FromPin)
			g.prefix = pinPrefix(u.host, pin)
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b gateway) int { return narrowest(a.prefix, b.prefix) })
	return out, false
}

// fromRules returns the gateways that the administrator's rules name, in the
// order of the rules: as in the kernel the first rule counts.
func (u ladder) fromRules(l Link, f Family) []gateway {
	var out []gateway
	for _, r := range u.byHand {
		if r.Family != f || u.wayOut(r.Table, f) != l.Name ||
			!u.outside(l) && !u.isFrom(r, l.Name) {
			continue
		}
		if exits := u.exits(defaults{table: r.Table, tunnel: true}, l, f); len(exits) > 0 {
			out = append(out, serve(r.From, exits[:1], FromRule,
				fmt.Sprintf("table %d", r.Table)))
			out[len(out)-1].named = r.Table
		}
	}
	return out
}

// wayOut returns the link of a table's best default; "" if it has none.
func (u ladder) wayOut(table uint32, f Family) string {
	route, hops := u.fib.search(table, Query{Dst: f.All().Addr()})
	if route == nil || !route.IsDefault() || len(hops) == 0 {
		return ""
	}
	return hops[0].Link
}

// isFrom reports whether a rule is for an address of the link.
func (u ladder) isFrom(r Rule, link string) bool {
	return r.From.Bits() > 0 && slices.ContainsFunc(u.addrs[link],
		func(a Addr) bool { return r.From.Contains(a.Prefix.Addr()) })
}

// exit is a default route by a link, with the next hops that are usable there.
type exit struct {
	*Route
	hops []Hop
}

// defaults are the default routes of a table for some sources; the zero Prefix
// is all sources. tunnel allows a tunnel without a gateway.
type defaults struct {
	table  uint32
	source netip.Prefix
	tunnel bool
}

// exits returns those of the defaults that leave by a link, as the kernel
// prefers them: by metric, IPv6 ones then by router preference.
func (u ladder) exits(d defaults, l Link, f Family) []exit {
	var out []exit
	for _, r := range u.defaults[linkFamily{l.Name, f}] {
		if r.Table != d.table || r.odd() || r.Source() != d.source {
			continue
		}
		if hops := hopsOn(r.Hops, l, d.tunnel); len(hops) > 0 {
			out = append(out, exit{r, hops})
		}
	}
	slices.SortStableFunc(out, func(a, b exit) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(b.Pref, a.Pref),
			cmp.Compare(u.standing(a), u.standing(b)),
			a.hops[0].Via.Compare(b.hops[0].Via))
	})
	return out
}

// standing orders routers that announced themselves and that main prefers
// alike. lasthop's table keeps a router that is alive: otherwise main would
// take the one that is known to be alive, and leave one that is dead. Other
// gateways do not follow their neighbour state, which changes all the time.
func (u ladder) standing(x exit) int {
	via, link := x.hops[0].Via, x.hops[0].Link
	if !everywhere(via) {
		return 0
	}
	state := ""
	for _, n := range u.host.Neighs {
		if n.Addr == via && n.Link == link {
			state = n.State
		}
	}
	current := slices.ContainsFunc(u.own.Routes, func(r Route) bool {
		return r.isDefaultBy(link, x.Family()) && r.Hops[0].Via == via &&
			r.Metric == metricOf(x.Family())
	})
	switch {
	case state == "FAILED":
		return 3
	case current:
		return 0
	case state == "" || state == "INCOMPLETE":
		return 2
	}
	return 1
}

// hopsOn returns the hops of a default route that are on the link, as lasthop
// writes them. A default without gateway makes a point-to-point line an uplink,
// but no link whose kind is host-local, unless tunnel allows it.
func hopsOn(hops []Hop, l Link, tunnel bool) []Hop {
	return written(filter(hops, func(h Hop) bool {
		return h.Link == l.Name && !h.Dead &&
			(h.Via.IsValid() || tunnel || !l.hostLocal())
	}))
}

// serve makes the gateway of the addresses in a prefix from the default routes
// that serve them, the best first. IPv6 routers that are equally preferred, and
// IPv4 routers of one metric, stand by: main would move on to them when the
// first router is dead.
func serve(p netip.Prefix, exits []exit, source GatewaySource, detail string) gateway {
	best := exits[0]
	top := best // of its metric
	g := gateway{prefix: p, hops: best.hops, source: source, detail: detail,
		metrics: best.metrics()}
	for _, x := range exits[1:] {
		if x.Metric != top.Metric {
			top = x
		}
		if x.Pref < top.Pref || x.Family() == IPv4 && x.Metric != best.Metric {
			continue
		}
		for _, h := range x.hops {
			if !slices.Contains(slices.Concat(g.hops, g.standby), h) {
				g.standby = append(g.standby, h)
			}
		}
	}
	return g
}

// fromSources returns the gateways of main's defaults by a link for some
// sources alone, the narrowest first.
func (u ladder) fromSources(l Link, f Family) []gateway {
	var out []gateway
	for _, p := range u.sources(l.Name, f) {
		d := defaults{table: TableMain, source: p}
		if exits := u.exits(d, l, f); len(exits) > 0 {
			out = append(out, serve(p, exits, FromMain, "from "+p.String()))
		}
	}
	return out
}

// sources returns the prefixes that main's source-specific defaults by a link
// are for, the narrowest first.
func (u ladder) sources(link string, f Family) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range u.defaults[linkFamily{link, f}] {
		if p := r.Source(); p.IsValid() && r.Table == TableMain {
			out = append(out, p)
		}
	}
	return sortOnce(out, narrowest)
}

func narrowest(a, b netip.Prefix) int {
	return cmp.Or(cmp.Compare(b.Bits(), a.Bits()), comparePrefix(a, b))
}

// fromMain returns the gateways of main's defaults by a link. Each serves the
// connected subnet that its gateway is in. A gateway that is link-local, or a
// default without one, serves every address. Addresses in none of these subnets
// take the best gateway.
func (u ladder) fromMain(l Link, f Family) []gateway {
	exits := u.exits(defaults{table: TableMain}, l, f)
	if len(exits) == 0 {
		return nil
	}
	home := map[*Route]netip.Prefix{}
	var subnets []netip.Prefix
	for _, x := range exits {
		if home[x.Route] = u.subnetOf(l.Name, x.hops[0].Via); home[x.Route].IsValid() {
			subnets = appendOnce(subnets, home[x.Route])
		}
	}
	slices.SortFunc(subnets, narrowest)
	serving := func(p netip.Prefix) []exit {
		return filter(exits, func(x exit) bool {
			return everywhere(x.hops[0].Via) || p.IsValid() && home[x.Route] == p ||
				!p.IsValid() && x.Route == exits[0].Route
		})
	}
	var out []gateway
	for _, p := range subnets {
		out = append(out, serve(p, serving(p), FromMain, ""))
	}
	return append(out, serve(f.All(), serving(home[exits[0].Route]), FromMain, ""))
}

// everywhere reports whether a gateway serves every address of its link.
func everywhere(via netip.Addr) bool { return !via.IsValid() || via.IsLinkLocalUnicast() }

// subnetOf returns the longest subnet of a link that holds an address; the zero
// Prefix if none does.
func (t *topology) subnetOf(link string, addr netip.Addr) netip.Prefix {
	var best netip.Prefix
	if !addr.IsValid() {
		return best
	}
	key := linkFamily{link, FamilyOf(addr)}
	for _, p := range slices.Concat(t.connected[key], t.pointed(key)) {
		if p.Contains(addr) && (!best.IsValid() || p.Bits() > best.Bits()) {
			best = p
		}
	}
	return best
}

// fromTable returns the defaults of the tables that foreign rules name for the
// link: for packets that come in by it, then for its addresses.
func (u ladder) fromTable(l Link, f Family) []gateway {
	return u.ofTables(filter(u.naming(l, f), naming.strong), l, f)
}

// fromVIP returns the default of the table that foreign rules name for one
// address of the link which is not the first of its subnet: it may be a VIP
// with a router of its own. Tables that do not agree give no gateway.
func (u ladder) fromVIP(l Link, f Family) []gateway {
	tables := without(u.naming(l, f), naming.strong)
	out := u.ofTables(tables, l, f)
	if slices.ContainsFunc(out, func(g gateway) bool {
		return !slices.Equal(g.hops, out[0].hops)
	}) {
		return nil
	}
	for i := range out {
		if len(tables) == 1 {
			out[i].of = tables[0].by[0]
		}
	}
	return out
}

// ofTables returns the best way out by a link of each table.
func (u ladder) ofTables(tables []naming, l Link, f Family) []gateway {
	var out []gateway
	for _, n := range tables {
		if exits := u.exits(defaults{table: n.table}, l, f); len(exits) > 0 {
			g := serve(f.All(), exits[:1], FromTable, fmt.Sprintf("table %d", n.table))
			g.named = n.table
			out = append(out, u.spread(l.Name, g)...)
		}
	}
	return out
}

// naming describes how foreign rules lead to a table for a link.
type naming struct {
	table   uint32
	incomes bool         // for packets that come in by it
	by      []netip.Addr // for these addresses of it, sorted
	first   bool         // the lowest of a subnet of it is among them
}

// lowest reports whether an address is the lowest one of a link in its subnet.
// The network manager most likely gave the link that address first.
func (u ladder) lowest(link string, a netip.Addr, own []netip.Addr) bool {
	if p := u.subnetOf(link, a); p.IsValid() {
		own = within(p, own)
	}
	return own[0] == a
}

func (n naming) strong() bool { return n.incomes || n.first || len(n.by) > 1 }

// lowest returns the lowest of the addresses; a value below all addresses for
// packets that come in.
func (n naming) lowest() (a netip.Addr) {
	if !n.incomes {
		a = n.by[0]
	}
	return a
}

// naming returns the tables that unmarked foreign rules name for a link: those
// for packets that come in first, then by the lowest address.
func (u ladder) naming(l Link, f Family) []naming {
	if len(u.defaults[linkFamily{l.Name, f}]) == 0 {
		return nil
	}
	own := filter(sortOnce(addrsOf(u.addrs[l.Name]), netip.Addr.Compare),
		func(a netip.Addr) bool { return FamilyOf(a) == f })
	index, out := map[uint32]int{}, []naming(nil)
	for _, r := range u.host.Rules {
		from := r.From.Bits() > 0 && (r.IIF == "" || r.IIF == "lo") && holds(r.From, own)
		if r.Family != f || r.Table == TableMain || !r.leads() || !from && r.IIF != l.Name {
			continue
		}
		i, known := index[r.Table]
		if !known {
			i, index[r.Table] = len(out), len(out)
			out = append(out, naming{table: r.Table})
		}
		n := &out[i]
		if n.incomes = n.incomes || r.IIF == l.Name; from {
			lowest := within(r.From, own)[0]
			n.by = sortOnce(append(n.by, within(r.From, own)...), netip.Addr.Compare)
			n.first = n.first || u.lowest(l.Name, lowest, own)
		}
	}
	slices.SortStableFunc(out, func(a, b naming) int { return a.lowest().Compare(b.lowest()) })
	return out
}

func addrsOf(addrs []Addr) []netip.Addr {
	return mapped(addrs, func(a Addr) netip.Addr { return a.Prefix.Addr() })
}

// spread returns a gateway for the connected subnet that it is in, and for
// every address.
func (u ladder) spread(link string, g gateway) []gateway {
	own := g
	if own.prefix = u.subnetOf(link, g.hops[0].Via); own.prefix.IsValid() {
		return []gateway{own, g}
	}
	return []gateway{g}
}

// leads reports whether a rule leads into a table and names a link or a source
// at most.
func (r Rule) leads() bool {
	return r.Action == ToTable && !r.Not && r.Mask == 0 && r.OIF == "" && r.Opaque == "" &&
		r.To.Bits() <= 0
}

func (u ladder) fromLease(l Link, f Family) []gateway {
	for _, lease := range u.host.Leases {
		if lease.Link == l.Name && FamilyOf(lease.Gateway) == f {
			g := by(l.Name, lease.Gateway, FromLease)
			g.prefix, g.detail = f.All(), "of "+lease.Client
			return u.spread(l.Name, g)
		}
	}
	return nil
}

func (u ladder) pinned(link string, via netip.Addr) bool {
	return slices.ContainsFunc(u.policy.pins(link),
		func(p GatewayPin) bool { return p.Addr == via }) ||
		slices.ContainsFunc(u.policy.Addresses, func(p AddressPin) bool {
			return p.Link == link && p.Gateway == via
		})
}
