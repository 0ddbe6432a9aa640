package routing

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// This file lays out the mode last-hop: section 7.2 of docs/architecture.md. If
// a part of the mode is missing, replies fall back to the routes that they are
// on.

// maxWanted is how many entries the map of listeners has room for.
const maxWanted = 65536

// returning describes how the mode last-hop works on a host.
type returning struct{ *topology }

// ethernet reports whether frames of the link have an Ethernet header with the
// MAC of the router that sent them. Tunnels and lines to one peer have none.
func (l Link) ethernet() bool {
	switch l.Kind {
	case "", "veth", "bond", "team", "vlan", "bridge", "macvlan":
		return !l.Loopback && !l.PointToPoint
	}
	return false
}

// TakesLastHop reports whether replies that leave by a link support the mode
// last-hop here. If the host does not say, it returns false.
func (h Host) TakesLastHop(link string) bool {
	i := slices.IndexFunc(h.Links, func(l Link) bool { return l.Name == link })
	return i >= 0 && h.Links[i].ethernet() && h.LastHop.Known && h.LastHop.Missing == ""
}

// missing returns the reason why the mode is not available; "" if it is, or may
// be.
func (t returning) missing() string {
	if !t.host.LastHop.Known {
		return ""
	}
	return t.host.LastHop.Missing
}

// takes reports whether replies of an address whose path leaves by a link have
// the mode last-hop.
func (t returning) takes(addr netip.Addr, link string) bool {
	return t.policy.mode(addr, link) == LastHop && t.missing() == "" && t.links[link].ethernet()
}

// anywhere returns the fallback of an address whose link or gateway is unknown,
// if the user asked for replies to go back as the requests came.
func (t returning) anywhere(r row) (g gateway, ok bool) {
	if r.Status != Unresolved || t.missing() != "" ||
		t.policy.mode(r.Addr, r.Link) != LastHop {
		return g, false
	}
	ways := t.ways(FamilyOf(r.Addr))
	if len(ways) == 0 || !t.links[ways[0].link].ethernet() {
		return g, false
	}
	g = ways[0]
	g.anywhere = true
	return g, true
}

// ways returns the best gateway of each uplink, that of main's best default
// first. Ethernet-like links come before other links.
func (t returning) ways(f Family) []gateway {
	var out []gateway
	for _, l := range t.sorted {
		all := t.uplinks[linkFamily{l.Name, f}]
		if len(all) == 0 {
			continue
		}
		best := slices.IndexFunc(all, func(g gateway) bool { return g.prefix == f.All() })
		out = append(out, all[max(best, 0)])
	}
	slices.SortStableFunc(out, func(a, b gateway) int {
		return cmp.Or(-compareBool(t.links[a.link].ethernet(), t.links[b.link].ethernet()),
			cmp.Compare(t.mainMetric(a.link, f), t.mainMetric(b.link, f)))
	})
	return out
}

// compareBool sorts false first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// candidates returns the ways by the other uplinks, as a path may have them.
// With fail_closed there are none.
func (t returning) candidates(p *path) []gateway {
	if !p.lastHop || t.policy.failClosed(p.link) {
		return nil
	}
	return without(t.ways(p.family), func(g gateway) bool { return g.link == p.link })
}

// candidates writes the defaults of the other uplinks behind the path's own, so
// that the table is not empty when a link goes down. Each has a metric of its
// own: a default with the same metric would replace the first one, or make it a
// multipath route.
func (t tableOfPath) candidates() {
	for i, g := range (returning{t.topology}).candidates(t.path) {
		r := Route{RouteKey: RouteKey{Dst: g.family.All(),
			Metric: candidateMetric + uint32(i)}, Type: Unicast,
			Hops: slices.Clone(g.hops)}.with(g.metrics)
		if !r.Hops[0].Via.IsValid() && g.family == IPv4 {
			r.Scope = ScopeLink
		}
		t.add(r)
	}
}

// direct reports whether the hosts that an on-link route leads to reach the
// path's addresses without a router: all of these addresses are in their
// subnet. Other hosts may reach a VIP through a router.
func (t tableOfPath) direct(r Route) bool {
	if slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Via.IsValid() }) {
		return false
	}
	return r.Dst.Addr().IsLinkLocalUnicast() ||
		!slices.ContainsFunc(t.path.covers, func(c cover) bool {
			return slices.ContainsFunc(c.members,
				func(a netip.Addr) bool { return !r.Dst.Contains(a) })
		})
}

// answering returns a route with lasthop's answer program. A reply may leave by
// any link that requests come in by, so the smallest MTU of these links counts.
func (t tableOfPath) answering(r Route) Route {
	r.Encap = returning{t.topology}.program()
	if t.mtu == 0 || r.limit(t.links) <= t.mtu {
		return r
	}
	if words, at := r.lockedMTU(); at > 0 {
		words[at] = strconv.FormatUint(uint64(t.mtu), 10)
		r.Opaque = strings.Join(words, " ")
		return r
	}
	r.MTU = t.mtu
	return r
}

// lockedMTU returns the words of the attributes that are not modelled, and the
// index of the number in "mtu lock 1400"; 0 if there is none.
func (r Route) lockedMTU() (words []string, at int) {
	words = strings.Fields(r.Opaque)
	if at = slices.Index(words, "mtu"); at >= 0 && at+2 < len(words) {
		return words, at + 2
	}
	return nil, 0
}

// limit returns the longest packet that a route by these links takes, the
// largest number if no MTU is known.
func (r Route) limit(links map[string]Link) uint32 {
	limit := ^uint32(0)
	add := func(mtu uint32) {
		if mtu != 0 {
			limit = min(limit, mtu)
		}
	}
	for _, h := range r.Hops {
		add(uint32(links[h.Link].MTU))
	}
	add(r.MTU)
	if words, at := r.lockedMTU(); at > 0 {
		n, _ := strconv.ParseUint(words[at], 10, 32)
		add(uint32(n))
	}
	return limit
}

// smallestMTU returns the smallest MTU of the ways that an answer of a path may
// take; 0 if it is unknown.
func (t returning) smallestMTU(p *path) uint32 {
	if !p.lastHop {
		return 0
	}
	least := p.byGateway(RouteKey{}).limit(t.links)
	for _, g := range t.candidates(p) {
		least = min(least, Route{Hops: g.hops}.with(g.metrics).limit(t.links))
	}
	for _, l := range t.sorted {
		if t.outwardIn(l.Name, p.family) && l.ethernet() {
			least = min(least, Route{Hops: []Hop{{Link: l.Name}}}.limit(t.links))
		}
	}
	if least == ^uint32(0) {
		return 0
	}
	return least
}

// program is the name of lasthop's programs: by the tag of the programs that
// the host has loaded, or will load; if that is unknown, by the installed ones.
func (t returning) program() string {
	if tag := t.host.LastHop.Tag; tag != "" {
		return LastHopPrefix + tag
	}
	for _, r := range t.own.Routes {
		if r.Encap != "" {
			return r.Encap
		}
	}
	return LastHopPrefix + "TAG"
}

// learn sets what the programs learn for each path: its listeners at their
// addresses, and the resets and echo replies of these addresses.
func (d *draft) learn() {
	for _, r := range d.rows {
		if p := r.path; p != nil && p.lastHop {
			p.wanted = append(p.wanted, Wanted{r.Addr, 0, TCP}, Wanted{r.Addr, 0, ICMP})
			for port := int(r.Ports.First); port <= int(r.Ports.Last); port++ {
				p.wanted = append(p.wanted,
					Wanted{r.Addr, uint16(port), r.Transport})
			}
		}
	}
}

// entries counts the entries of the map of listeners. An entry of two rows
// counts twice.
func entries(rows []row) (n int) {
	addrs := map[netip.Addr]bool{}
	for _, r := range rows {
		if r.path != nil && r.path.lastHop {
			n += int(r.Ports.Last) - int(r.Ports.First) + 1
			addrs[r.Addr] = true
		}
	}
	return n + 2*len(addrs)
}

// learning returns the filters and listeners with which the paths work.
func (t returning) learning(paths []*path) (filters []Filter, wanted []Wanted) {
	if len(paths) == 0 {
		return nil, nil
	}
	holds := map[string]bool{}
	for _, p := range paths {
		wanted = append(wanted, p.wanted...)
		for _, w := range p.wanted {
			for _, a := range t.assigned[w.Addr] {
				holds[a.Link] = true
			}
		}
	}
	for _, l := range t.sorted {
		if l.Kind == "macvlan" && (holds[l.Name] || t.isOutward(l.Name)) {
			holds[l.Parent] = true // it may answer ARP for it, with a MAC of its own
		}
	}
	for _, l := range t.sorted {
		f, installed := t.place(l.Name)
		if l.ethernet() && t.vrf(l) == "" && (holds[l.Name] || t.isOutward(l.Name) ||
			installed && !l.Up) { // it may be back at any time
			filters = append(filters, f)
		}
	}
	return filters, sortOnce(wanted, compareWanted)
}

// place returns lasthop's filter of a link, and whether a lasthop filter is
// there.
func (t returning) place(link string) (f Filter, installed bool) {
	f = Filter{Link: link, Kind: kindBPF, Name: t.program()}
	installed = slices.ContainsFunc(t.own.Filters, func(x Filter) bool {
		return x.Link == link
	})
	return f.Placed(slices.Concat(t.host.Filters, t.own.Filters)), installed
}

// readable returns what lasthop owns. It takes the wanted listeners as present
// if this user may not read the map that holds them: an unreadable entry is not
// a missing one.
func readable(own, want State, h Host) State {
	if !h.LastHop.Known && len(own.Filters) > 0 {
		own.Wanted = want.Wanted
	}
	return own
}
