package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// Move is a class of clients whose replies leave another way with the plan than
// without it.
type Move struct {
	Listeners []netip.Prefix // the cover of the path that the replies take
	Link      string         // of the path
	Class     Class
	Clients   []netip.Prefix // where the class is; the whole family behind the gateways
	// a reply to one client of the class, and its ways
	Reply         Query
	Before, After Way
}

// moved is a client whose replies leave another way.
type moved struct {
	standIn
	before, after Trace
}

// class is the class of the client. A client whose replies take a route as wide
// as a default, before and after, is behind the gateways, whatever is in tables
// that the lookup did not use.
func (j *judge) class(m moved, link string) Class {
	byWide := func(r *Route) bool { return r != nil && isWide(r.Dst) }
	if m.rule == nil && byWide(m.before.Route) && byWide(m.after.Route) {
		return ClassOffLink
	}
	return j.classify(m.standIn, link).Class
}

// move notes the classes of clients whose replies a path moves.
func (j *judge) move(p *path, all []moved) {
	first := len(j.moves)
	for _, m := range all {
		class, before, after := j.class(m, p.link), m.before.Way, m.after.Way
		at := slices.IndexFunc(j.moves[first:], func(x Move) bool {
			return x.Class == class && sameWay(x.Before, before) &&
				sameWay(x.After, after)
		})
		if at < 0 {
			at = len(j.moves) - first
			j.moves = append(j.moves, Move{Listeners: p.prefixes(), Link: p.link,
				Class: class, Reply: m.before.Query, Before: before, After: after})
		}
		x := &j.moves[first+at]
		x.Clients = appendOnce(x.Clients, m.to())
	}
	for i := range j.moves[first:] {
		slices.SortFunc(j.moves[first+i].Clients, comparePrefix)
	}
	slices.SortStableFunc(j.moves[first:], func(a, b Move) int {
		return cmp.Compare(slices.Index(classes, a.Class), slices.Index(classes, b.Class))
	})
	j.tellMoves(p, j.moves[first:])
}

// tellMoves names the classes that may lose. Clients behind the gateways and on
// the LANs of other uplinks are not among them: the path is for these.
func (j *judge) tellMoves(p *path, moves []Move) {
	var near []string
	for _, m := range moves {
		if m.Class != ClassOffLink && m.Class != ClassOtherLAN &&
			m.Before.Type == Unicast && !sameWay(m.Before, m.After.fallback()) {
			near = append(near, string(m.Class))
		}
	}
	if len(near) == 0 {
		return
	}
	j.find(Info.Finding("class-moves", p.name(), "replies of %s to these clients move, too: "+
		"%s", p.name(), Some(sortOnce(near, cmp.Compare[string]), 8)).
		Advise("the plan lists them; to keep the present path for some: --direct PREFIX"))
}
