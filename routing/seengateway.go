package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// routers knows the addresses of MACs on wires.
type routers struct {
	names map[wireMAC][]MACName // in the order in which they are trusted
}

type wireMAC struct {
	wire string
	mac  MAC
}

// trust is the order of what names a MAC.
var trust = []string{"neighbour", "ARP", "ND", "RA", "VRRP", "probe"}

// newRouters joins the neighbour table with the MACs that packets named.
func newRouters(h Host, seen []MACName) routers {
	all := slices.Concat(seen, NeighbourNames(h))
	slices.SortFunc(all, func(a, b MACName) int {
		return cmp.Or(cmp.Compare(slices.Index(trust, a.Source),
			slices.Index(trust, b.Source)), a.Addr.Compare(b.Addr))
	})
	r := routers{map[wireMAC][]MACName{}}
	for _, n := range all {
		key := wireMAC{n.Wire, n.MAC}
		r.names[key] = append(r.names[key], n)
	}
	return r
}

// NeighbourNames returns the addresses that the neighbour table has for MACs.
func NeighbourNames(h Host) (out []MACName) {
	links := map[string]Link{}
	for _, l := range h.Links {
		links[l.Name] = l
	}
	for _, n := range h.Neighs {
		var mac MAC
		if mac.UnmarshalText([]byte(n.MAC)) == nil && mac != (MAC{}) &&
			n.State != "FAILED" {
			out = append(out, MACName{WireOf(links[n.Link], links), mac, n.Addr,
				"neighbour"})
		}
	}
	return out
}

// WireOf returns the link that carries a link's packets outside of this host: a
// macvlan shares its parent's wire, a port its bridge's or bond's. A VLAN has
// its own. The parent of a macvlan that is a port is on the bridge's wire.
func WireOf(l Link, links map[string]Link) string {
	for range links { // no chain is longer
		up := l.Master
		if l.shares() && (up == "" || links[up].Kind == "vrf") {
			up = l.Parent
		}
		if up == "" {
			up = bridgedBy(l, links)
		}
		above, known := links[up]
		if !known || above.Kind == "vrf" {
			break
		}
		l = above
	}
	return l.Name
}

// shares reports whether a link is on its parent's wire.
func (l Link) shares() bool { return l.Kind == "macvlan" || l.Kind == "ipvlan" }

// bridgedBy returns the bridge that a macvlan of a link is a port of; "" for
// none.
func bridgedBy(l Link, links map[string]Link) string {
	if l.Kind == "bridge" {
		return "" // bridges are not bridged
	}
	name := ""
	for _, m := range links {
		if m.Parent == l.Name && m.shares() && links[m.Master].Kind == "bridge" &&
			(name == "" || m.Master < name) {
			name = m.Master
		}
	}
	return name
}

// name returns an address of a family that a MAC has: a global one if possible.
func (r routers) name(wire string, mac MAC, f Family) (best MACName, known bool) {
	for _, n := range r.names[wireMAC{wire, mac}] {
		if FamilyOf(n.Addr) == f && (!known ||
			best.Addr.IsLinkLocalUnicast() && !n.Addr.IsLinkLocalUnicast()) {
			best, known = n, true
		}
	}
	return best, known
}

// rename names the routers of a way.
func (r routers) rename(w *SeenWay) {
	for _, c := range []*Crossing{&w.In, &w.Out} {
		if n, known := r.name(c.Wire, c.MAC, FamilyOf(w.Addr)); known &&
			(c != &w.In || w.Class == OffLinkClient) {
			c.Router, c.Source = n.Addr, n.Source
		}
	}
}

// Named returns a function that reports whether the host knows an address of a
// MAC.
func Named(h Host) func(wire string, mac MAC) bool {
	r := newRouters(h, nil)
	return func(wire string, mac MAC) bool { return len(r.names[wireMAC{wire, mac}]) > 0 }
}

// same reports whether two MACs of a wire have an address in common: then they
// are one router's.
func (r routers) same(wire string, a, b MAC) bool {
	other := r.names[wireMAC{wire, b}]
	return slices.ContainsFunc(r.names[wireMAC{wire, a}], func(x MACName) bool {
		return slices.ContainsFunc(other, func(y MACName) bool { return x.Addr == y.Addr })
	})
}

// gateways lists the routers through which clients come.
func (j *witness) gateways(listeners []SeenListener) []SeenGateway {
	type owner struct {
		link   string
		family Family
		mac    MAC
	}
	list := map[owner]*SeenGateway{}
	for _, l := range listeners {
		for _, w := range l.Ways {
			if w.Class != OffLinkClient || w.Count.Seen == 0 {
				continue
			}
			key := owner{w.In.Wire, FamilyOf(l.Addr), w.In.MAC}
			g := list[key]
			if g == nil {
				g = &SeenGateway{Link: w.In.Link, Family: key.family, MAC: key.mac,
					Addr: w.In.Router, Source: w.In.Source, Agrees: true}
				list[key] = g
			}
			g.Connections += w.Count.Seen
			g.Clients = max(g.Clients, w.Clients)
			g.Agrees = g.Agrees && j.agrees(l.Addr, w)
		}
	}
	out := []SeenGateway{}
	for _, g := range list {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b SeenGateway) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Family, b.Family),
			cmp.Compare(b.Connections, a.Connections),
			slices.Compare(a.MAC[:], b.MAC[:]))
	})
	return out
}

// paths returns the decided paths of an address.
func (j *witness) paths(addr netip.Addr) (out []*Path) {
	for _, o := range j.decision.Plan.Outcomes {
		if p := j.decision.Plan.PathOf(o); p != nil && o.Addr == addr {
			out = appendOnce(out, p)
		}
	}
	return out
}

// agrees reports whether requests for an address come in by a gateway of its
// path.
func (j *witness) agrees(addr netip.Addr, w SeenWay) bool {
	for _, p := range j.paths(addr) {
		for _, h := range p.Gateways() {
			if j.wire(h.Link) != w.In.Wire {
				continue
			}
			if !h.Via.IsValid() || w.In.MAC == (MAC{}) || h.Via == w.In.Router ||
				j.has(w.In, h.Via) {
				return true
			}
		}
	}
	return false
}

// has reports whether the router of a crossing has an address.
func (j *witness) has(c Crossing, addr netip.Addr) bool {
	for key, names := range j.routers.names {
		if key.wire == c.Wire && slices.ContainsFunc(names,
			func(n MACName) bool { return n.Addr == addr }) &&
			(key.mac == c.MAC || j.routers.same(c.Wire, key.mac, c.MAC)) {
			return true
		}
	}
	return false
}

func (j *witness) wire(link string) string {
	links := map[string]Link{}
	for _, l := range j.decision.inputs.Host.Links {
		links[l.Name] = l
	}
	return WireOf(links[link], links)
}

// proof is how many connections and clients are needed to propose a gateway.
const (
	proofConnections = 3
	proofClients     = 2
)

// tellGateways proposes gateways that packets show and the decision does not
// have. It proposes nothing if the present way works: the requests may come by
// a load balancer.
func (j *witness) tellGateways(s Seen) {
	type proposal struct{ link, addr, source string }
	told := map[proposal]bool{}
	for _, l := range s.Listeners {
		paths := j.paths(l.Addr)
		for _, w := range l.Ways {
			if w.Class != OffLinkClient || w.Count.Seen < proofConnections ||
				w.Clients < proofClients || !w.In.Router.IsValid() ||
				j.agrees(l.Addr, w) || w.Outcome == WayWorks ||
				w.Outcome != WayDark && len(paths) > 0 {
				continue
			}
			p := proposal{w.In.Wire, w.In.Router.String(), w.In.Source}
			if told[p] || w.In.Source == "VRRP" || !j.neighbour(w.In) {
				continue
			}
			told[p] = true
			j.find(Warning.Finding("seen-gateway", l.String(), "%s of %s came by "+
				"the router %s (%s) on %s, and the plan does not use that gateway",
				counted(w.Count.Seen, "connection"), counted(w.Clients, "client"),
				w.In.Router, w.In.MAC, w.In.Link).
				Advise("if replies must go to that router: %s", Flag("gateway",
					w.In.Wire+"="+w.In.Router.String())))
		}
	}
	j.tellShares(s.Gateways)
}

// neighbour reports whether a router's address is on the link that packets
// showed it on.
func (j *witness) neighbour(c Crossing) bool {
	if c.Router.IsLinkLocalUnicast() {
		return true
	}
	for link, prefixes := range ConnectedPrefixes(j.decision.inputs.Host) {
		if j.wire(link) == c.Wire && holdsAddr(prefixes, c.Router) {
			return true
		}
	}
	return false
}

func holdsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// tellShares names links with several routers that clients come by.
func (j *witness) tellShares(list []SeenGateway) {
	shares := map[linkFamily][]string{}
	for _, g := range list {
		if g.Connections < proofConnections {
			continue
		}
		key := linkFamily{g.Link, g.Family}
		shares[key] = append(shares[key], fmt.Sprintf("%s (%s)", cmp.Or(text(g.Addr),
			g.MAC.String()), counted(g.Connections, "connection")))
	}
	for key, names := range shares {
		if len(names) > 1 {
			j.find(Info.Finding("seen-routers", key.link, "%s requests come by "+
				"several routers: %s; replies go to one of them", key.family,
				strings.Join(names, ", ")))
		}
	}
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
