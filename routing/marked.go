package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// marked are the rules by which another program leads marked replies of a path
// by the path's own router: a connmark keeps replies on the link of their
// request.
func (d *draft) marked(p *path) []Rule {
	u := ladder{d.topology}
	return filter(d.host.Rules, func(r Rule) bool {
		return r.Family == p.family && r.Mask != 0 && !r.Not && r.Opaque == "" &&
			r.Action == ToTable && r.Table != TableMain &&
			slices.ContainsFunc(u.exits(defaults{table: r.Table, tunnel: true},
				d.links[p.link], p.family), func(x exit) bool {
				return slices.Equal(x.hops, p.hops)
			})
	})
}

// tellMarked names the clients whose replies leave another way with a rule's
// mark than by the path. lasthop leaves the rule in place, and the path cannot
// help these clients. Clients that come in by another link have another mark,
// or none.
func (j *judge) tellMarked(p *path, sources []netip.Addr, clients []standIn) {
	for _, r := range j.marked(p) {
		var ways []string
		for _, src := range sources {
			for _, c := range clients {
				q := Query{Src: src, Dst: c.addr}
				plain := j.ideal.answer(q).fallback()
				q.Mark = r.Mark
				with := j.after.answer(q)
				if plain.Way.Link == p.link && with.ended != nil &&
					with.ended.Table == r.Table && !sameAnswer(plain, with) {
					ways = appendOnce(ways,
						fmt.Sprintf("to %s by %s, not by %s",
							destination(c.to()), with.Way, plain.Way))
				}
			}
		}
		if len(ways) == 0 {
			continue
		}
		j.find(Warning.Finding("marked-replies", p.name(), "this rule sends marked "+
			"replies of %s by another path than the requests came in by: %s; "+
			"lasthop leaves it in place", p.name(), Some(ways, 8)).
			Advise("if replies have the mark, add the missing routes to table %d, "+
				"or do not mark replies", r.Table).At(r.String()))
	}
}
