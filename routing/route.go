package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// RouteType is the kernel's rtm_type (RTN_*).
type RouteType uint8

const (
	Unicast     RouteType = 1
	Local       RouteType = 2
	Broadcast   RouteType = 3
	Anycast     RouteType = 4
	Multicast   RouteType = 5
	Blackhole   RouteType = 6
	Unreachable RouteType = 7
	Prohibit    RouteType = 8
	Throw       RouteType = 9
)

// Rejects reports whether a lookup that finds such a route ends with an error.
func (t RouteType) Rejects() bool { return t == Blackhole || t == Unreachable || t == Prohibit }

// Scopes and tables by the kernel's numbers.
const (
	ScopeGlobal uint8 = 0
	ScopeLink   uint8 = 253
	ScopeHost   uint8 = 254

	protocolKernel uint8 = 2

	TableDefault uint32 = 253
	TableMain    uint32 = 254
	TableLocal   uint32 = 255
)

// RouteKey is what the kernel's REPLACE matches a route by. Dst is masked and
// always valid (a default route has 0.0.0.0/0 or ::/0), and implies the family.
// An IPv6 metric is never 0: the kernel turns 0 into 1024.
type RouteKey struct {
	Table  uint32
	Dst    netip.Prefix
	Metric uint32
}

// routeID tells the routes of a table apart: IPv4 defaults with one key by the
// next hop.
type routeID struct {
	RouteKey
	hop Hop
}

func (r Route) id() routeID {
	id := routeID{RouteKey: r.RouteKey}
	if r.IsDefault() && r.Family() == IPv4 && len(r.Hops) == 1 {
		id.hop = Hop{Link: r.Hops[0].Link, Via: r.Hops[0].Via}
	}
	return id
}

// Hop is one next hop. A Hop without Via is on-link. Dead and LinkDown are
// volatile and never written.
type Hop struct {
	Link     string
	Via      netip.Addr
	Weight   int // 1 for a single next hop, as `ip` prints it for several
	OnLink   bool
	Dead     bool
	LinkDown bool
}

func (h Hop) String() string {
	if !h.Via.IsValid() {
		return h.Link
	}
	return h.Link + " via " + h.Via.String()
}

// Route is one route. Reject routes have no hops (reading an IPv6 one drops the
// kernel's `dev lo`).
type Route struct {
	RouteKey
	Type     RouteType
	Scope    uint8 // IPv4 only; IPv6 routes have 0
	Protocol uint8
	Src      netip.Addr // prefsrc
	Hops     []Hop
	MTU      uint32
	AdvMSS   uint32
	Pref     int8 // IPv6 router preference: -1 low, 0 medium, 1 high
	// what is not modelled, in `ip` syntax: "tos 0x10", "from
	// 2001:db8::/64", "encap …"; such a route is never copied
	Opaque string
	// lasthop's answer program that the route carries, "lasthop/TAG"; ""
	// for none
	Encap string
}

// Family returns the family of the destination.
func (r Route) Family() Family { return FamilyOf(r.Dst.Addr()) }

// IsDefault reports whether the route is a default route of its table.
func (r Route) IsDefault() bool { return r.Dst.Bits() == 0 }

// isDefaultBy reports whether the route is a default route of the family whose
// first next hop is on the link, and not a candidate of another path.
func (r Route) isDefaultBy(link string, f Family) bool {
	return r.Family() == f && r.IsDefault() && len(r.Hops) > 0 && r.Hops[0].Link == link &&
		!r.candidate()
}

// candidateMetric is the lowest metric of the candidates: the defaults of other
// uplinks that stand behind a path's own in its table.
const candidateMetric = 2048

// candidate reports whether a default of one of lasthop's tables is not the
// path's own.
func (r Route) candidate() bool { return r.IsDefault() && r.Metric >= candidateMetric }

// uses reports whether a next hop is on the link.
func (r Route) uses(link string) bool {
	return slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Link == link })
}

// opaqueHas reports whether one of the keys is among the attributes of the
// route that are not modelled.
func (r Route) opaqueHas(keys ...string) bool {
	return r.Opaque != "" && slices.ContainsFunc(strings.Fields(r.Opaque),
		func(w string) bool { return slices.Contains(keys, w) })
}

// steers reports whether an attribute that is not modelled decides where
// packets go, or whether they are dropped: such a route is never copied. All
// other attributes (hoplimit, initcwnd and other metrics) only tune a
// transport.
func (r Route) steers() bool {
	return r.Source().IsValid() || r.odd()
}

// odd is steers, except for source-specific routes, which Lookup knows.
func (r Route) odd() bool { return r.opaqueHas("tos", "encap", "nhid", "attr") }

// Source returns the prefix whose packets a source-specific IPv6 route is for
// (`default from 2001:db8::/64`); the zero Prefix for any other route.
func (r Route) Source() netip.Prefix {
	if !strings.Contains(r.Opaque, "from") {
		return netip.Prefix{}
	}
	words := strings.Fields(r.Opaque)
	i := slices.Index(words, "from")
	if i < 0 || i+1 == len(words) {
		return netip.Prefix{}
	}
	p, _ := parsePrefix(r.Family(), words[i+1])
	return p.Masked()
}

// brief returns the route in short `ip` syntax, without what rarely matters:
// "10.0.2.0/24 dev eth2", "blackhole 192.0.2.0/24", "default via 10.0.0.1 dev
// eth0 metric 100".
func (r Route) brief() string {
	w := r.goal()
	for _, h := range r.Hops {
		w.add(len(r.Hops) > 1, "nexthop")
		w.hop(r, h)
	}
	w.add(r.Metric != metricOf(r.Family()), "metric", fmt.Sprint(r.Metric))
	w.add(r.MTU != 0, "mtu", fmt.Sprint(r.MTU))
	return strings.Join(w, " ")
}

// sameRoute compares what lasthop writes of a route: volatile flags of next
// hops do not count.
func sameRoute(a, b Route) bool {
	return a.RouteKey == b.RouteKey && a.Type == b.Type && a.Scope == b.Scope &&
		a.Protocol == b.Protocol && a.Src == b.Src &&
		a.MTU == b.MTU && a.AdvMSS == b.AdvMSS && a.Pref == b.Pref &&
		a.Opaque == b.Opaque && a.Encap == b.Encap &&
		slices.EqualFunc(a.Hops, b.Hops, sameHop)
}

func sameHop(a, b Hop) bool {
	a.Dead, a.LinkDown, b.Dead, b.LinkDown = false, false, false, false
	return a == b
}

func compareRoute(a, b Route) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Family(), b.Family()),
		comparePrefix(a.Dst, b.Dst), cmp.Compare(a.Metric, b.Metric),
		comparePrefix(a.Source(), b.Source()))
}

// written returns next hops as lasthop writes them: sorted, without volatile
// flags. A gateway is always onlink.
func written(hops []Hop) []Hop {
	var out []Hop
	for _, h := range hops {
		out = append(out,
			Hop{Link: h.Link, Via: h.Via, Weight: h.Weight, OnLink: h.Via.IsValid()})
	}
	if len(out) == 1 {
		out[0].Weight = 1
	}
	slices.SortFunc(out, compareHop)
	return out
}

func compareHop(a, b Hop) int {
	return cmp.Or(cmp.Compare(a.Link, b.Link), a.Via.Compare(b.Via),
		cmp.Compare(a.Weight, b.Weight))
}
