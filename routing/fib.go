package routing

import (
	"net/netip"
	"slices"
)

// This file classifies foreign tables by their purpose.

// delivers reports whether a rule leads to local routes alone. That is the
// recipe for transparent proxies, which is for incoming packets.
func (f *FIB) delivers(r Rule) bool {
	routes := f.routes(r)
	for _, same := range routes {
		if slices.ContainsFunc(same, func(x Route) bool { return x.Type != Local }) {
			return false
		}
	}
	return len(routes) > 0
}

// ends reports whether every lookup that a rule matches ends there.
func (f *FIB) ends(r Rule) bool {
	if r.Action != ToTable {
		return r.Action != Nop && r.Action != Goto
	}
	return r.SuppressPrefix == None && r.SuppressGroup == None &&
		slices.ContainsFunc(f.routes(r)[r.Family.All()],
			func(x Route) bool { return x.Type != Throw && !x.steers() })
}

// general are main and the tables that a rule leads to for any source and mark
// of a packet.
func (f *FIB) general(family Family) map[uint32]bool {
	tables := map[uint32]bool{TableMain: true}
	for _, r := range f.rules[family].list {
		if r.Action == ToTable && !r.Not && r.From.Bits() <= 0 && r.Mask == 0 &&
			r.forReplies() {
			tables[r.Table] = true
		}
	}
	return tables
}

// takesAll reports whether one link takes all private IPv6 addresses of a
// rule's table and a large part of the Internet: a VPN for everything.
func (f *FIB) takesAll(r Rule) bool {
	if r.Family != IPv6 {
		return false
	}
	routes := f.routes(r)
	var ways []string // to a large part
	for bits := large.Bits(); bits >= 0; bits-- {
		p, _ := large.Addr().Prefix(bits)
		for _, x := range routes[p] {
			if x.Type == Unicast && len(x.Hops) > 0 {
				ways = append(ways, x.Hops[0].Link)
			}
		}
	}
	return slices.ContainsFunc(routes[private], func(x Route) bool {
		return len(x.Hops) > 0 && slices.Contains(ways, x.Hops[0].Link)
	})
}

var large = netip.MustParsePrefix("2000::/4")

// rejects reports whether a table has a reject route as wide as a default,
// whatever its metric: it would win as soon as the default next to it is gone.
// The kernel does not suppress a lookup that ends at one (fib_rules_lookup
// suppresses only success), so a live rule would end every reply there.
func (f *FIB) rejects(family Family, table uint32) bool {
	for dst, same := range f.routes(NewRule(family, 0, table)) {
		if isWide(dst) && slices.ContainsFunc(same, func(r Route) bool {
			return r.Type.Rejects() && !r.steers()
		}) {
			return true
		}
	}
	return false
}
