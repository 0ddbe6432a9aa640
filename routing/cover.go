package routing

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// coverPaths gives each path its covers: the prefixes whose replies take it.
func (d *draft) coverPaths(binds []Bind) {
	slices.SortFunc(d.paths, func(x, y *path) int {
		return cmp.Or(cmp.Compare(x.link, y.link), cmp.Compare(x.family, y.family),
			cmp.Compare(y.home.Bits(), x.home.Bits()),
			comparePrefix(x.prefix, y.prefix), compareHop(x.hops[0], y.hops[0]),
			comparePrefix(x.home, y.home), compareBool(x.lastHop, y.lastHop),
			compareBool(x.anywhere, y.anywhere))
	})
	d.learn()
	members, known := d.members(), d.knownAddrs()
	for _, p := range d.paths {
		exact := transparent(binds, p.family) || d.lookedUp(p.family, known)
		for _, mode := range []Return{Strict, MainFirst} {
			if addrs := members[coverKey{p, mode}]; len(addrs) > 0 {
				c := cover{mode: mode, members: addrs}
				c.prefixes = d.cover(p, c, known, exact)
				p.covers = append(p.covers, c)
			}
		}
	}
	d.paths = slices.DeleteFunc(d.paths, func(p *path) bool { return len(p.covers) == 0 })
	for _, p := range d.paths {
		d.tellHeld(p)
	}
}

// tellHeld reports that a path's gateway is known from lasthop's own table
// alone.
func (d *draft) tellHeld(p *path) {
	if p.source != FromHeld || !slices.ContainsFunc(d.uplinks[linkFamily{p.link, p.family}],
		func(g gateway) bool { return slices.Equal(g.hops, p.hops) }) {
		return
	}
	via := Way{Type: Unicast, Link: p.link, Via: p.hops[0].Via}
	d.find(Warning.Finding("held-gateway", p.link, "lasthop no longer sees an %s gateway on "+
		"%s and keeps %s from its own table %s", p.family, p.link, via, p.detail).
		Advise("if that router is gone for good: %s; if not, name it: %s",
			Flag("gateway", p.link+"=none"),
			Flag("gateway", p.link+"="+p.hops[0].Via.String())))
}

type coverKey struct {
	path *path
	mode Return
}

func (d *draft) members() map[coverKey][]netip.Addr {
	m := map[coverKey][]netip.Addr{}
	for _, r := range d.rows {
		if r.path != nil {
			k := coverKey{r.path, r.mode}
			m[k] = append(m[k], r.Addr)
		}
	}
	for k := range m {
		m[k] = sortOnce(m[k], netip.Addr.Compare)
	}
	return m
}

// transparent reports whether NGINX sends packets of the family with sources
// that are not local. Then a wide cover would catch such packets, so covers
// hold the listeners' own addresses alone.
func transparent(binds []Bind, f Family) bool {
	return slices.ContainsFunc(binds, func(x Bind) bool {
		return x.Transparent && (!x.Addr.IsValid() || FamilyOf(x.Addr) == f)
	})
}

// lookedUp reports whether rules of the packet filter look up forwarded packets
// with `iif lo`. A wide cover would then catch hosts behind this host that are
// within the cover. If the rules could not be read, it returns true, unless
// covers are wide already: a user that could read the rules chose them.
func (d *draft) lookedUp(f Family, known []netip.Addr) bool {
	r := d.host.ruleset(f)
	if !d.host.Forwards(f) {
		return false
	}
	return r.Lookup != "" || r.Unread != "" &&
		!slices.ContainsFunc(d.own.Rules, func(r Rule) bool {
			host := f.Bits() - r.From.Bits()
			return r.Family == f && r.From.IsValid() &&
				(host > 16 || len(within(r.From, known)) < 1<<host)
		})
}

// cover returns the maximal prefixes within the link's connected prefixes that
// hold members and no other known address. Two covers never overlap: of two
// nested ones the outer would hold the inner one's member.
func (d *draft) cover(p *path, c cover, known []netip.Addr, exact bool) []netip.Prefix {
	var set netipx.IPSetBuilder
	var outers prefixSet
	for _, outer := range slices.Concat(d.connected[linkFamily{p.link, p.family}],
		d.madeLocal(c.members)) {
		if exact || !holds(outer, c.members) {
			continue
		}
		set.AddPrefix(outer)
		outers.add(outer)
		for _, addr := range within(outer, known) {
			if !holds(netip.PrefixFrom(addr, addr.BitLen()), c.members) {
				set.Remove(addr)
			}
		}
	}
	for _, addr := range c.members {
		if !outers.longest(addr).IsValid() {
			set.Add(addr)
		}
	}
	ips, _ := set.IPSet() // only invalid addresses cause errors, and there are none
	found := slices.DeleteFunc(ips.Prefixes(), func(x netip.Prefix) bool {
		return !holds(x, c.members)
	})
	if exact {
		return found
	}
	wider := d.joined(p, c.members, known)
	in := func(list []netip.Prefix) func(netip.Prefix) bool {
		var set prefixSet
		for _, x := range list {
			set.add(x)
		}
		return func(x netip.Prefix) bool {
			around := set.longest(x.Addr())
			return around.IsValid() && around.Bits() <= x.Bits()
		}
	}
	found = slices.DeleteFunc(found, in(wider))
	return slices.Concat(found, slices.DeleteFunc(wider, in(found)))
}

// widest are the lengths of the widest prefixes that scattered host prefixes
// are joined into.
func widest(f Family) int {
	if f == IPv4 {
		return 16
	}
	return 48
}

// joined returns prefixes around several members of a path that are in none of
// its link's subnets. A provider may route hundreds of scattered addresses to
// this host, and they should not become hundreds of rules. A prefix holds no
// other known address, no route of main by another link and no subnet of
// another link.
func (d *draft) joined(p *path, members, known []netip.Addr) []netip.Prefix {
	subnets := d.connected[linkFamily{p.link, p.family}]
	scattered := without(members, func(a netip.Addr) bool {
		return slices.ContainsFunc(subnets,
			func(s netip.Prefix) bool { return s.Contains(a) })
	})
	if len(scattered) < 2 {
		return nil
	}
	var taken []netip.Addr // where other addresses and routes are
	mine := prefixSet{}
	for _, a := range members {
		mine.add(netip.PrefixFrom(a, a.BitLen()))
	}
	for _, a := range known {
		if FamilyOf(a) == p.family && !mine.longest(a).IsValid() {
			taken = append(taken, a)
		}
	}
	var around prefixSet // subnets of other links
	for key, list := range d.connected {
		for _, c := range list {
			if key.family == p.family && key.link != p.link {
				taken = append(taken, c.Addr())
				around.add(c)
			}
		}
	}
	for _, r := range d.host.Routes {
		switch {
		case r.Family() != p.family:
		case r.Table == TableMain && len(r.Hops) > 0 && !isWide(r.Dst) && !r.uses(p.link):
			taken = append(taken, r.Dst.Addr())
		case r.Table == TableLocal && r.Type == Local &&
			!mine.longest(r.Dst.Addr()).IsValid():
			taken = append(taken, r.Dst.Addr())
			if !r.Dst.IsSingleIP() {
				around.add(r.Dst)
			}
		}
	}
	taken = sortOnce(taken, netip.Addr.Compare)
	return joinAll(scattered, p.family, func(q netip.Prefix) bool {
		return !holds(q, taken) && !around.longest(q.Addr()).IsValid()
	})
}

// joinAll joins sorted addresses into the narrowest prefixes that hold as many
// of them as fit allows, two at least.
func joinAll(addrs []netip.Addr, f Family, fit func(netip.Prefix) bool) []netip.Prefix {
	if len(addrs) < 2 {
		return nil
	}
	length := common(addrs[0], addrs[len(addrs)-1])
	if p, _ := addrs[0].Prefix(length); length >= widest(f) && fit(p) {
		return []netip.Prefix{p}
	}
	half, _ := addrs[len(addrs)-1].Prefix(length + 1)
	at, _ := slices.BinarySearchFunc(addrs, half.Addr(), netip.Addr.Compare)
	return slices.Concat(joinAll(addrs[:at], f, fit), joinAll(addrs[at:], f, fit))
}

// common is the length of the longest prefix that holds two addresses.
func common(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return a.BitLen()
}

// madeLocal returns the prefixes that hold members and that another program has
// made local as a whole.
func (d *draft) madeLocal(members []netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, addr := range members {
		if len(d.assigned[addr]) > 0 {
			continue
		}
		if r := d.localRoute(addr); r != nil && !r.Dst.IsSingleIP() {
			out = appendOnce(out, r.Dst)
		}
	}
	return out
}

// holds reports whether one of the sorted addresses is in the prefix.
func holds(p netip.Prefix, sorted []netip.Addr) bool { return len(within(p, sorted)) > 0 }

// within returns those of the sorted addresses that are in the prefix.
func within(p netip.Prefix, sorted []netip.Addr) []netip.Addr {
	first, _ := slices.BinarySearchFunc(sorted, p.Addr(), netip.Addr.Compare)
	last := first
	for last < len(sorted) && p.Contains(sorted[last]) {
		last++
	}
	return sorted[first:last]
}

// knownAddrs returns the addresses of the host and of the listeners, sorted.
// IPv6 temporary addresses do not count: excluding them would change the rules
// daily.
func (d *draft) knownAddrs() []netip.Addr {
	known := make([]netip.Addr, 0, len(d.host.Addrs)+len(d.rows))
	for _, a := range d.host.Addrs {
		if !a.Temporary {
			known = append(known, a.Prefix.Addr())
		}
	}
	for _, r := range d.host.Routes {
		if r.Table == TableLocal && r.Type == Local && r.Protocol != protocolKernel &&
			r.Dst.IsSingleIP() {
			known = append(known, r.Dst.Addr())
		}
	}
	for _, r := range d.rows {
		known = append(known, r.Addr)
	}
	return sortOnce(known, netip.Addr.Compare)
}
