package routing

import (
	"hash/fnv"
	"net/netip"
	"slices"
)

// assignTables gives each path its table: the one that our routes already use
// for it, else one by hash of the link's name, so that the same host gets the
// same numbers on every start. Both families of a link share it.
func (b *builder) assignTables() {
	taken := map[uint32]string{} // table -> key
	keys := map[*path]string{}
	first := map[linkFamily]bool{}
	for _, p := range b.paths {
		keys[p] = p.link
		if k := (linkFamily{p.link, p.family}); first[k] {
			keys[p] = p.link + " " + lowest(p).String() + " " + p.hops[0].Via.String()
		} else {
			first[k] = true
		}
	}
	for _, exact := range []bool{true, false} {
		for _, p := range b.paths {
			if p.table == 0 {
				b.keepTable(p, keys[p], taken, exact)
			}
		}
	}
	for _, p := range b.paths {
		if p.table == 0 {
			b.newTable(p, keys[p], taken)
		}
	}
}

func lowest(p *path) netip.Prefix {
	var all []netip.Prefix
	for _, c := range p.covers {
		all = append(all, c.prefixes...)
	}
	return slices.MinFunc(all, comparePrefix)
}

// keepTable takes the table that our routes already use for the path: first
// those whose default has the same gateways. These it takes whatever the path's
// key is now: if another path took one, that would replace a default that rules
// still lead replies to.
func (b *builder) keepTable(p *path, key string, taken map[uint32]string, exact bool) {
	for _, r := range b.own.Routes {
		if !r.IsDefault() || r.Family() != p.family || r.Type != Unicast ||
			len(r.Hops) == 0 || r.Hops[0].Link != p.link {
			continue
		}
		owner, used := taken[r.Table]
		fits := !used || owner == key
		if exact {
			fits = slices.EqualFunc(r.Hops, p.hops, sameHop)
		}
		if !fits || b.foreign(r.Table) || b.usedByPath(p, r.Table) {
			continue
		}
		if p.table = r.Table; !used {
			taken[r.Table] = key
		}
		return
	}
}

// usedByPath says whether another path of the same family has the table.
func (b *builder) usedByPath(p *path, table uint32) bool {
	return slices.ContainsFunc(b.paths, func(x *path) bool {
		return x != p && x.family == p.family && x.table == table
	})
}

// newTable takes the other family's table of the same key, else the first free
// one from the key's hash on.
func (b *builder) newTable(p *path, key string, taken map[uint32]string) {
	for table, owner := range taken {
		if owner == key && !b.usedByPath(p, table) {
			p.table = table
			return
		}
	}
	n := b.policy.Numbers
	size := n.TableLast - n.TableFirst + 1
	hash := fnv.New32a()
	hash.Write([]byte(key))
	start := hash.Sum32() % size
	for i := range size {
		table := n.TableFirst + (start+i)%size
		if _, used := taken[table]; !used && !b.foreign(table) &&
			!b.leftover(table, p.link) {
			p.table, taken[table] = table, key
			return
		}
	}
	b.find(Finding{Code: "no-table", Severity: Error, Subject: p.link,
		Message: "every table of our range is taken by others",
		Hint:    "see them with: ip route show table all"})
}

// foreign says whether somebody else has a route in the table.
func (b *builder) foreign(table uint32) bool {
	// host holds nothing of ours
	return slices.ContainsFunc(b.host.Routes, func(r Route) bool { return r.Table == table })
}

// leftover says whether our own routes for another path are still in the table:
// it is free at the next sync. What a process left there that died before it
// came to the default route is not another path's.
func (b *builder) leftover(table uint32, link string) bool {
	elsewhere := func(h Hop) bool { return h.Link != link }
	return slices.ContainsFunc(b.own.Routes, func(r Route) bool {
		return r.Table == table && (r.IsDefault() || len(r.Hops) == 0 ||
			slices.ContainsFunc(r.Hops, elsewhere))
	})
}
