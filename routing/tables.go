package routing

import (
	"hash/fnv"
	"slices"
)

// tables gives paths their tables.
type tables struct {
	*draft
	keys  map[*path]string
	taken map[uint32]string // the key of the path that has it
}

// assignTables gives each path its table: the one that lasthop's routes already
// use for it, else one by the hash of the link's name, so that the same host
// gets the same numbers on every start. Both families of a link share it.
func (d *draft) assignTables() {
	t := tables{d, map[*path]string{}, map[uint32]string{}}
	first := map[linkFamily]bool{}
	for _, p := range d.paths {
		t.keys[p] = p.link
		if k := (linkFamily{p.link, p.family}); first[k] {
			t.keys[p] += " " + p.prefixes()[0].String() + " " + p.hops[0].Via.String()
		} else {
			first[k] = true
		}
	}
	for _, assign := range []func(*path){t.keepOwn, t.keepSame, t.keepLed, t.keepAny,
		t.takeNew} {
		for _, p := range d.paths {
			if p.table == 0 {
				assign(p)
			}
		}
	}
}

// keepOwn takes the table whose default has the same gateways and that
// lasthop's rules lead the path's own replies to.
func (t *tables) keepOwn(p *path) {
	t.keep(p, func(r Route) bool {
		return sameGateways(r.Hops, p.hops) && t.leads(p, r.Table)
	})
}

// leads reports whether lasthop's rules lead the path's own replies to a table.
func (t *tables) leads(p *path, table uint32) bool {
	prefixes := p.prefixes()
	return slices.ContainsFunc(t.own.Rules, func(x Rule) bool {
		return x.Table == table && x.Family == p.family &&
			slices.ContainsFunc(prefixes, x.From.Overlaps)
	})
}

// keepSame takes the table whose default has the same gateways, whatever the
// path's key is now. If another path took the table, it would replace a default
// that rules still lead replies to.
func (t *tables) keepSame(p *path) {
	t.keep(p, func(r Route) bool { return sameGateways(r.Hops, p.hops) })
}

// sameGateways compares next hops without the flag `onlink`: an IPv6 gateway
// that main knows elsewhere does not have it (layout.elsewhere).
func sameGateways(a, b []Hop) bool {
	return slices.EqualFunc(a, b, func(x, y Hop) bool {
		return x.Link == y.Link && x.Via == y.Via
	})
}

// keepLed takes the table that lasthop's rules lead the path's own replies to,
// if all paths of a link have a new gateway. Otherwise the paths would change
// tables, and the rules of one would meanwhile lead to the routes of another.
func (t *tables) keepLed(p *path) {
	t.keep(p, func(r Route) bool { return t.leads(p, r.Table) })
}

// keepAny takes a table that lasthop's routes use for the path's link.
func (t *tables) keepAny(p *path) {
	t.keep(p, func(r Route) bool {
		key, used := t.taken[r.Table]
		return !used || key == t.keys[p]
	})
}

// keep takes the first lasthop table that fits and whose default leaves by the
// path's link.
func (t *tables) keep(p *path, fits func(Route) bool) {
	for _, r := range t.own.Routes {
		if !r.isDefaultBy(p.link, p.family) || r.Type != Unicast || !fits(r) ||
			t.foreign(r.Table) || t.usedByPath(p, r.Table) {
			continue
		}
		p.table = r.Table
		if _, used := t.taken[r.Table]; !used {
			t.taken[r.Table] = t.keys[p]
		}
		return
	}
}

// usedByPath reports whether another path of the same family has the table.
func (t *tables) usedByPath(p *path, table uint32) bool {
	return slices.ContainsFunc(t.paths, func(x *path) bool {
		return x != p && x.family == p.family && x.table == table
	})
}

// takeNew takes the other family's table of the same key, else the first free
// one from the key's hash on.
func (t *tables) takeNew(p *path) {
	key := t.keys[p]
	for table, owner := range t.taken {
		if owner == key && !t.usedByPath(p, table) {
			p.table = table
			return
		}
	}
	n := t.policy.Numbers
	size := n.TableLast - n.TableFirst + 1
	hash := fnv.New32a()
	hash.Write([]byte(key))
	start := hash.Sum32() % size
	for i := range size {
		table := n.TableFirst + (start+i)%size
		if _, used := t.taken[table]; !used && !t.foreign(table) &&
			!t.leftover(table, p.link) {
			p.table, t.taken[table] = table, key
			return
		}
	}
	t.find(Error.Finding("no-table", p.link, "other programs use every table of lasthop's "+
		"range").
		Advise("see whose they are: ip route show table all"))
}

// foreign reports whether another program has a route in the table.
func (t *tables) foreign(table uint32) bool {
	// host does not hold what lasthop owns
	return slices.ContainsFunc(t.host.Routes, func(r Route) bool { return r.Table == table })
}

// leftover reports whether lasthop's routes for another path are still in the
// table: it is free at the next sync. Routes of a process that died before it
// wrote the default route are not another path's.
func (t *tables) leftover(table uint32, link string) bool {
	elsewhere := func(h Hop) bool { return h.Link != link }
	return slices.ContainsFunc(t.own.Routes, func(r Route) bool {
		return r.Table == table && (r.IsDefault() || len(r.Hops) == 0 ||
			slices.ContainsFunc(r.Hops, elsewhere))
	})
}
