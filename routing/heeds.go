package routing

import (
	"net/netip"
	"slices"
)

// Heeds reports which changes of a host may change a decision about it. A
// router may change thousands of routes a minute in a table that no reply uses,
// and a container host makes and deletes links that have no address yet. A
// program that follows the host can ignore these changes. When in doubt a
// change counts.
type Heeds struct {
	tables map[uint32]bool // every route of them counts
	links  map[string]bool // every change of them counts
	own    Numbers
	local  bool // link-local routes of all links count, too
}

// Heeds returns what the decision depends on. It costs a walk over the host.
func (d Decision) Heeds() Heeds {
	h := Heeds{own: d.inputs.Policy.Numbers, links: map[string]bool{},
		tables: map[uint32]bool{TableMain: true, TableDefault: true, TableLocal: true}}
	host := d.inputs.Host
	h.addRules(d)
	h.addNamed(d)
	for _, a := range host.Addrs {
		if !linkLocal(a.Prefix) {
			h.links[a.Link] = true
		}
	}
	h.addMoved(host)
	for _, r := range host.Routes {
		// then lasthop copies what main knows: layout.layTable
		h.local = h.local || r.Table == TableMain && r.Type.Rejects() && isWide(r.Dst)
		if h.tables[r.Table] && !linkLocal(r.Dst) {
			for _, hop := range r.Hops {
				h.links[hop.Link] = true
			}
		}
	}
	h.addRelated(host.Links)
	return h
}

// addRules adds the tables that rules may lead a reply to, and the links that
// rules name.
func (h Heeds) addRules(d Decision) {
	var sources []netip.Addr
	for _, a := range d.inputs.Host.Addrs {
		sources = append(sources, a.Prefix.Addr())
	}
	for _, o := range d.Plan.Outcomes { // of listeners that are not here, too
		sources = append(sources, o.Addr)
	}
	for _, b := range d.inputs.Binds {
		sources = append(sources, b.Addr)
	}
	var covers []netip.Prefix
	for _, p := range d.Plan.Paths {
		covers = append(covers, p.Prefixes...)
	}
	sources = sortOnce(sources, netip.Addr.Compare)
	for _, r := range d.inputs.Host.Rules {
		h.links[r.IIF], h.links[r.OIF] = true, true
		passing := r.IIF != "" && r.IIF != "lo" // it is for packets that come in
		otherSources := r.From.Bits() > 0 && !holds(r.From, sources) &&
			!slices.ContainsFunc(covers, r.From.Overlaps)
		if r.Not || !passing && !otherSources {
			h.tables[r.Table] = true
		}
	}
}

// addNamed adds what the policy, leases and the plan name.
func (h Heeds) addNamed(d Decision) {
	p := d.inputs.Policy
	for _, g := range p.Gateways {
		h.links[g.Link] = true
	}
	for _, r := range p.Returns {
		h.links[r.Link] = true
	}
	for _, a := range p.Addresses {
		h.links[a.Link] = true
	}
	for _, link := range p.FailClosed {
		h.links[link] = true
	}
	for _, l := range d.inputs.Host.Leases {
		h.links[l.Link] = true
	}
	for _, p := range d.Plan.Paths {
		h.links[p.Link] = true
	}
}

// addMoved adds the tables to which a connected route has been moved: see
// tableOfPath.movedTo.
func (h Heeds) addMoved(host Host) {
	own := connected(host)
	for _, r := range host.Routes {
		if !h.tables[r.Table] && r.onLink() &&
			slices.Contains(own[linkFamily{r.Hops[0].Link, r.Family()}], r.Dst) {
			h.tables[r.Table] = true
		}
	}
}

// addRelated adds links because of what they are, or because of related links:
// the ports of a bridge determine what it is.
func (h Heeds) addRelated(links []Link) {
	for _, l := range links {
		if l.Table != 0 {
			h.tables[l.Table] = true
		}
		if l.Loopback || l.Group != 0 || l.Table != 0 {
			h.links[l.Name] = true
		}
	}
	delete(h.links, "")
	for again := true; again; {
		again = false
		for _, l := range links {
			if h.links[l.Name] {
				again = h.add(l.Master) || h.add(l.Parent) || again
			} else if h.links[l.Master] {
				again = h.add(l.Name) || again
			}
		}
	}
}

// add adds a link, and reports whether it is new.
func (h Heeds) add(link string) bool {
	isNew := link != "" && !h.links[link]
	if isNew {
		h.links[link] = true
	}
	return isNew
}

// Link reports whether a change of a link counts. A link that is not there yet
// counts only if something names it: whatever else makes it relevant is a
// change of its own.
func (h Heeds) Link(name string) bool { return h.links[name] }

// Addr reports whether it counts that a link gets or loses an address.
func (h Heeds) Addr(link string, p netip.Prefix) bool { return h.links[link] || !linkLocal(p) }

// Route reports whether it counts that a route comes, goes or changes.
func (h Heeds) Route(r Route) bool {
	if linkLocal(r.Dst) {
		return h.local || r.Type != Unicast ||
			slices.ContainsFunc(r.Hops, func(x Hop) bool { return h.links[x.Link] })
	}
	return h.tables[r.Table] || h.own.OwnsTable(r.Table) || r.Protocol == h.own.Protocol ||
		r.IsDefault() || r.onLink()
}

// onLink reports whether a route makes its destination on-link on one link.
func (r Route) onLink() bool { return len(r.Hops) == 1 && r.connects(r.Hops[0].Link) }

// linkLocal reports whether a prefix has a meaning on its link alone.
func linkLocal(p netip.Prefix) bool {
	return p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast()
}
