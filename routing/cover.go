package routing

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// coverPaths gives each path its covers: the prefixes whose replies take it.
func (b *builder) coverPaths(binds []Bind) {
	slices.SortFunc(b.paths, func(x, y *path) int {
		return cmp.Or(cmp.Compare(x.link, y.link), cmp.Compare(x.family, y.family),
			comparePrefix(x.prefix, y.prefix), compareHop(x.hops[0], y.hops[0]))
	})
	members := b.members()
	for _, p := range b.paths {
		exact := transparent(binds, p.family)
		for _, mode := range []Return{Strict, MainFirst} {
			if addrs := members[coverKey{p, mode}]; len(addrs) > 0 {
				c := cover{mode: mode, members: addrs}
				c.prefixes = b.cover(p, c, exact)
				p.covers = append(p.covers, c)
			}
		}
	}
	b.paths = slices.DeleteFunc(b.paths, func(p *path) bool { return len(p.covers) == 0 })
	for _, p := range b.paths {
		b.tellHeld(p)
	}
}

type coverKey struct {
	path *path
	mode Return
}

func (b *builder) members() map[coverKey][]netip.Addr {
	m := map[coverKey][]netip.Addr{}
	for _, r := range b.rows {
		if r.path != nil {
			k := coverKey{r.path, r.mode}
			m[k] = append(m[k], r.Addr)
		}
	}
	for k := range m {
		slices.SortFunc(m[k], netip.Addr.Compare)
		m[k] = slices.Compact(m[k])
	}
	return m
}

// transparent says whether NGINX sends packets of the family with sources that
// are not local. Then a wide cover would catch such packets, so covers hold the
// listeners' own addresses alone.
func transparent(binds []Bind, f Family) bool {
	return slices.ContainsFunc(binds, func(x Bind) bool {
		return x.Transparent && (!x.Addr.IsValid() || FamilyOf(x.Addr) == f)
	})
}

// cover returns the maximal prefixes within the link's connected prefixes that
// hold members and nobody else's address. Two covers never overlap: of two
// nested ones the outer would hold the inner one's member.
func (b *builder) cover(p *path, c cover, exact bool) []netip.Prefix {
	var set netipx.IPSetBuilder
	for _, outer := range b.connected(linkFamily{p.link, p.family}) {
		if exact || !holds(outer, c.members) {
			continue
		}
		set.AddPrefix(outer)
		for _, addr := range b.knownIn(outer) {
			set.Remove(addr)
		}
	}
	for _, addr := range c.members {
		set.Add(addr)
	}
	ips, _ := set.IPSet() // errors come from invalid addresses alone, and there are none
	return slices.DeleteFunc(ips.Prefixes(), func(x netip.Prefix) bool {
		return !holds(x, c.members)
	})
}

// holds says whether one of the sorted addresses is in the prefix.
func holds(p netip.Prefix, sorted []netip.Addr) bool {
	i, _ := slices.BinarySearchFunc(sorted, p.Addr(), netip.Addr.Compare)
	return i < len(sorted) && p.Contains(sorted[i])
}

// knownIn returns the addresses in a prefix that somebody has: the host and the
// listeners, sorted. IPv6 temporary addresses do not count: excluding them
// would change the rules daily.
func (b *builder) knownIn(p netip.Prefix) []netip.Addr {
	if b.known == nil {
		b.known = make([]netip.Addr, 0, len(b.host.Addrs)+len(b.rows))
		for _, a := range b.host.Addrs {
			if !a.Temporary {
				b.known = append(b.known, a.Prefix.Addr())
			}
		}
		for _, r := range b.rows {
			b.known = append(b.known, r.Addr)
		}
		slices.SortFunc(b.known, netip.Addr.Compare)
		b.known = slices.Compact(b.known)
	}
	first, _ := slices.BinarySearchFunc(b.known, p.Addr(), netip.Addr.Compare)
	last := first
	for last < len(b.known) && p.Contains(b.known[last]) {
		last++
	}
	return b.known[first:last]
}
