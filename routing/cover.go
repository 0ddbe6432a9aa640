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
		return cmp.Or(cmp.Compare(x.link, y.link), cmp.Compare(x.family, y.family), comparePrefix(x.prefix, y.prefix), compareHop(x.hops[0], y.hops[0]))
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

// transparent says whether NGINX sends packets of the family with sources that are not local. Then a wide cover would
// catch such packets, so covers hold the listeners' own addresses alone.
func transparent(binds []Bind, f Family) bool {
	return slices.ContainsFunc(binds, func(x Bind) bool {
		return x.Transparent && (!x.Addr.IsValid() || FamilyOf(x.Addr) == f)
	})
}

// cover returns the maximal prefixes within the link's connected prefixes that hold members and nobody else's address. Two
// covers never overlap: of two nested ones the outer would hold the inner one's member.
func (b *builder) cover(p *path, c cover, exact bool) []netip.Prefix {
	var set netipx.IPSetBuilder
	if !exact {
		for _, outer := range b.connected(linkFamily{p.link, p.family}) {
			if slices.ContainsFunc(c.members, outer.Contains) {
				set.AddPrefix(outer)
			}
		}
		for _, addr := range b.strangers(p.family, c.members) {
			set.Remove(addr)
		}
	}
	for _, addr := range c.members {
		set.Add(addr)
	}
	ips, _ := set.IPSet() // errors come from invalid addresses alone, and there are none
	return slices.DeleteFunc(ips.Prefixes(), func(x netip.Prefix) bool { return !holds(x, c.members) })
}

// holds says whether one of the sorted addresses is in the prefix.
func holds(p netip.Prefix, sorted []netip.Addr) bool {
	i, _ := slices.BinarySearchFunc(sorted, p.Addr(), netip.Addr.Compare)
	return i < len(sorted) && p.Contains(sorted[i])
}

// strangers returns the addresses of a family that are no members: the host's own, and other listeners'. IPv6 temporary
// addresses do not count: excluding them would change the rules daily.
func (b *builder) strangers(f Family, members []netip.Addr) []netip.Addr {
	var out []netip.Addr
	add := func(addr netip.Addr) {
		if _, member := slices.BinarySearchFunc(members, addr, netip.Addr.Compare); FamilyOf(addr) == f && !member {
			out = append(out, addr)
		}
	}
	for _, a := range b.host.Addrs {
		if !a.Temporary {
			add(a.Prefix.Addr())
		}
	}
	for _, r := range b.rows {
		add(r.Addr)
	}
	return out
}
