package survey

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
)

// Hops are the neighbours that requests came by, as the maps of the mode
// last-hop have them, and what the host knows of them.
type Hops struct {
	Time     time.Time
	Noted    map[lasthop.Hop]lasthop.Noted
	Dead     map[lasthop.Hop]lasthop.Hop // with the hop that stands in
	Neighs   []routing.Neigh
	Links    []routing.Link
	Gateways []routing.Hop // that are certainly routers

	names map[uint32]string
	known map[station][]routing.Neigh
}

// station is where a MAC is.
type station struct{ link, mac string }

// mostHops is how many hops are named: any host on the link can create some.
const mostHops = 64

// prepare sorts neighbours and links, once.
func (h *Hops) prepare() {
	if h.names != nil {
		return
	}
	h.names, h.known = map[uint32]string{}, map[station][]routing.Neigh{}
	for _, l := range h.Links {
		h.names[uint32(l.Index)] = l.Name
	}
	for _, n := range h.Neighs {
		if n.MAC != "" && !n.Addr.IsMulticast() {
			at := station{n.Link, n.MAC}
			h.known[at] = append(h.known[at], n)
		}
	}
}

// Of returns what is known of a hop.
func (h *Hops) Of(x lasthop.Hop) report.Hop {
	h.prepare()
	out := report.Hop{Link: h.names[x.Link], MAC: x.Router.String(), Ours: x.Own.String(),
		Noted: h.Noted[x].At}
	for _, n := range h.known[station{out.Link, out.MAC}] {
		out.Addrs = append(out.Addrs, n.Addr)
		out.Router = out.Router || n.Router ||
			slices.Contains(h.Gateways, routing.Hop{Link: n.Link, Via: n.Addr})
	}
	slices.SortFunc(out.Addrs, netip.Addr.Compare)
	instead, dead := h.Dead[x]
	switch {
	case dead:
		out.State = report.HopDead
		if instead != (lasthop.Hop{}) {
			out.StandIn = instead.Router.String()
		}
	case h.Time.Sub(out.Noted) > lasthop.Probed:
		out.State = report.HopQuiet
	default:
		out.State = report.HopAlive
	}
	return out
}

// Report returns the report of the hops: the first ones if there are many, and
// their number for each link. It reports hops of a link that is gone for ten
// minutes.
func (h *Hops) Report() *report.LastHop {
	out := &report.LastHop{Time: h.Time}
	links := map[string]report.LinkHops{}
	for x := range h.Noted {
		hop := h.Of(x)
		if hop.Link == "" && h.Time.Sub(hop.Noted) > lasthop.Probed {
			continue // no router of a link that is gone will ever be back
		}
		out.Hops = append(out.Hops, hop)
		l := links[hop.Link]
		switch l.Link = hop.Link; hop.State {
		case report.HopDead:
			l.Dead++
		case report.HopQuiet:
			l.Quiet++
		default:
			l.Alive++
		}
		links[hop.Link] = l
	}
	for _, l := range links {
		out.Links = append(out.Links, l)
	}
	slices.SortFunc(out.Links, func(a, b report.LinkHops) int {
		return cmp.Compare(a.Link, b.Link)
	})
	slices.SortFunc(out.Hops, compareHops)
	if n := len(out.Hops) - mostHops; n > 0 {
		out.Hops, out.More = slices.Clone(out.Hops[:mostHops]), n
	}
	return out
}

// compareHops sorts the dead first, then by the last note, the latest first.
// Certain routers stand in front of hops that may be clients.
func compareHops(a, b report.Hop) int {
	rank := func(h report.Hop) int {
		switch {
		case h.State == report.HopDead && h.Router:
			return 0
		case h.State == report.HopDead:
			return 1
		case h.Router:
			return 2
		}
		return 3
	}
	return cmp.Or(rank(a)-rank(b), b.Noted.Compare(a.Noted), cmp.Compare(a.Link, b.Link),
		cmp.Compare(a.MAC, b.MAC), cmp.Compare(a.Ours, b.Ours))
}

// kinds are the maps of flows, and what reports call them.
var kinds = []struct {
	kind lasthop.Kind
	name string
}{{lasthop.Connections, "connections"}, {lasthop.Handshakes, "handshakes"},
	{lasthop.Datagrams, "datagrams"}}

// HopFill asks how full the maps are. It copies some 500 kB.
func HopFill(m *lasthop.Maps) (out []report.Fill, err error) {
	for _, k := range kinds {
		ratio, err := m.Fill(k.kind)
		if err != nil {
			return nil, err
		}
		out = append(out, report.Fill{Map: k.name, Ratio: ratio})
	}
	return out, nil
}

// HopCounts returns the counters of the programs.
func HopCounts(c lasthop.Counts) report.HopCounts {
	return report.HopCounts{Learned: int(c.Learned), Moved: int(c.Moved),
		Refused: int(c.Refused), Answered: int(c.Answered), ByTable: int(c.ByTable),
		Dead: int(c.Dead)}
}

// CountFlows adds the number of flows to each hop that a daemon reported. It
// reads all maps: 0.3 s for a million flows.
func (h *Hops) CountFlows(m *lasthop.Maps, into *report.LastHop) error {
	n, err := m.FlowsByHop()
	if err != nil {
		return err
	}
	type key struct{ link, mac, local string }
	flows := map[key]*report.HopFlows{}
	for x, by := range n {
		hop := h.Of(x)
		flows[key{hop.Link, hop.MAC, hop.Ours}] = &report.HopFlows{
			Connections: by[lasthop.Connections], Handshakes: by[lasthop.Handshakes],
			Datagrams: by[lasthop.Datagrams]}
	}
	for i, hop := range into.Hops {
		into.Hops[i].Flows = cmp.Or(flows[key{hop.Link, hop.MAC, hop.Ours}],
			&report.HopFlows{})
	}
	return nil
}

// mapFull is how full a map has to be: its use is estimated.
const mapFull = .95

// MapFull finds that the programs forget connections because a map is full: of
// the packets that listeners sent between two readings, more than one in a
// hundred left by the route, and a map is full. A full map alone is no fault:
// entries are never removed, only the oldest is replaced. flows is the size of
// the large maps.
func MapFull(before, after report.LastHop, flows int) (f routing.Finding, found bool) {
	var full []string
	for _, m := range after.Fill {
		if m.Ratio >= mapFull {
			full = append(full, m.Map)
		}
	}
	table := after.Counts.ByTable - before.Counts.ByTable
	sent := table + after.Counts.Answered - before.Counts.Answered
	if len(full) == 0 || table < 100 || 100*table < sent {
		return f, false
	}
	return routing.Warning.Finding("map-full", "last-hop", "the mode last-hop has no room "+
		"for more %s and forgets the oldest: of %d packets that listeners sent, %d left "+
		"by the gateway of their path, because lasthop no longer knew their router",
		strings.Join(full, " and "), sent, table).
		Advise("write into lasthop.yaml: last_hop_flows: %d; then: systemctl reload "+
			"lasthop", 2*flows), true
}
