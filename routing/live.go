package routing

import (
	"net/netip"
	"slices"
)

// live is a rule of each block that asks a table of others as it is, but for
// its ways out of this host: main, and the tables of catch-alls that the block
// evades.
type live struct {
	offset   int // from base
	table    uint32
	to       netip.Prefix // zero: anywhere
	suppress int          // routes of this length or shorter do not count
}

// layLive decides which tables the blocks of a family ask, once the block is in
// its place, and returns the offset of their own.
func (l *layout) layLive(f Family) {
	l.live[f] = l.asked(f, l.base[f])
	l.last[f] = tierTable
	if first := l.packed[f]; first != 0 {
		for i := range l.live[f] {
			l.live[f][i].offset = first + i
		}
		l.last[f] = first + len(l.live[f])
	}
}

// asked returns the live rules of a block at a base, in the order of the rules
// that they stand for.
func (l *layout) asked(f Family, base int) []live {
	var out []live
	for _, table := range l.evaded(f, base) {
		out = append(out, l.asking(f, table)...)
	}
	out = out[:min(len(out), mostEvaded)]
	for i := range out {
		out[i].offset = tierEvaded + i
	}
	if l.host.rejects(f, TableMain) {
		return out
	}
	main := l.asking(f, TableMain)
	for i := range main {
		main[i].offset = tierMain - len(main) + 1 + i
	}
	return append(out, main...)
}

// asking returns the live rules for a table. IPv6's private addresses have one
// of their own, since the widest of their routes are as wide as those that are
// ways to the Internet; but not where a VPN takes all of both.
func (l *layout) asking(f Family, table uint32) []live {
	out := []live{{table: table, suppress: wide(f)}}
	if f == IPv6 && !l.host.takesAll(table) {
		out = append([]live{{table: table, to: private, suppress: private.Bits() - 1}},
			out...)
	}
	return out
}

// takesAll reports whether one link takes all private IPv6 addresses of a table
// and a large part of the Internet: a VPN for everything.
func (h Host) takesAll(table uint32) bool {
	by := func(p netip.Prefix) (links []string) {
		for _, r := range h.Routes {
			if r.Table == table && r.Type == Unicast && len(r.Hops) > 0 &&
				r.Family() == IPv6 && r.Dst.Bits() <= p.Bits() && r.Dst.Overlaps(p) {
				links = append(links, r.Hops[0].Link)
			}
		}
		return links
	}
	ways := by(netip.MustParsePrefix("2000::/4"))
	return slices.ContainsFunc(h.Routes, func(r Route) bool {
		return r.Table == table && r.Dst == private && len(r.Hops) > 0 &&
			slices.Contains(ways, r.Hops[0].Link)
	})
}

// evaded returns the tables of the catch-alls that a block at a base is in
// front of, as far as a reply would get: not behind one whose table knows every
// destination, nor behind main.
func (l *layout) evaded(f Family, base int) []uint32 {
	var tables []uint32
	list := l.fib.rules[f].list
	for i := 0; i < len(list); i++ {
		r := list[i]
		switch {
		case r.Priority <= base || r.goesFirst() || !catchesAll(r):
		case r.Action == Goto:
			i, _ = target(list, i)
		case r.Action == ToTable && r.Table == TableMain && r.SuppressPrefix == None:
			return tables
		case r.Action == ToTable && r.Table != TableMain && !l.fib.delivers(r):
			if !l.host.rejects(f, r.Table) {
				tables = appendOnce(tables, r.Table)
			}
			if l.fib.ends(r) {
				return tables
			}
		case r.Action != ToTable && r.Action != Nop:
			return tables
		}
	}
	return tables
}

// rejects reports whether a table has a reject route as wide as a default,
// whatever its metric: it would win as soon as the default beside it is gone. A
// lookup that ends at one is not suppressed (fib_rules_lookup suppresses only
// success), so a live rule would end every reply there.
func (h Host) rejects(f Family, table uint32) bool {
	return slices.ContainsFunc(h.Routes, func(r Route) bool {
		return r.Table == table && r.Family() == f && isWide(r.Dst) &&
			r.Type.Rejects() && !r.steers()
	})
}
