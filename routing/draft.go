package routing

import (
	"net/netip"
	"slices"
)

// draft is a plan in the making: each step of Decide hands it to the next one.
type draft struct {
	*topology
	findings
	rows  []row
	paths []*path
	moves []Move
	// by family, found once: audienceOf
	audience map[Family]audience
}

// row is one listener at one address on its way to an Outcome.
type row struct {
	Outcome
	path *path
	mode Return
	wild bool // it comes from a wildcard
}

// path is a Path in the making: a gateway by which lasthop answers at least one
// listener.
type path struct {
	gateway
	home   netip.Prefix // the router's subnet that the listeners are in; zero: in none
	number int          // 1 + its index in Plan.Paths
	table  uint32
	needed bool
	covers []cover
	// each reply goes to the router that its request came from
	lastHop bool
	wanted  []Wanted // what is learned for it
}

// cover is the part of a path's prefixes with one mode of return.
type cover struct {
	mode     Return
	members  []netip.Addr // sorted, each once
	prefixes []netip.Prefix
}

// prefixes returns all that the path covers, sorted.
func (p *path) prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, c := range p.covers {
		all = append(all, c.prefixes...)
	}
	slices.SortFunc(all, comparePrefix)
	return all
}

// name returns the link and the first gateway of a path.
func (p *path) name() string { return Hop{Link: p.link, Via: p.hops[0].Via}.String() }

// plan puts the results together.
func (d *draft) plan(s State) Plan {
	plan := Plan{State: s, Moves: d.moves, Findings: uniqueFindings(d.findings)}
	for i, p := range d.paths {
		p.number = i + 1
		out := Path{Link: p.link, Family: p.family, Hops: p.hops, Standby: p.standby,
			Source: p.source, Detail: p.detail, LastHop: p.lastHop}
		if p.needed {
			out.Table, out.Prefixes = p.table, p.prefixes()
		}
		plan.Paths = append(plan.Paths, out)
	}
	plan.Outcomes = slices.Grow(plan.Outcomes, len(d.rows))
	for i := range d.rows {
		r := &d.rows[i]
		if r.path != nil {
			r.Path = r.path.number
		}
		plan.Outcomes = append(plan.Outcomes, r.Outcome)
	}
	return plan
}
