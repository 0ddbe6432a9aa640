package lasthop

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"
)

const (
	// Probed is how long lasthop probes a router after its last connection
	// began.
	Probed = 10 * time.Minute
	// how long the addresses of a MAC are kept that no neighbour has
	kept = time.Hour
	// how long a router counts as alive after a connection began by it:
	// longer than its neighbour needs to fail
	heard = 4 * time.Second

	// how many of a link are watched, those that connections began by last:
	// any host on the link can create some
	watched = 64
	// how many may be dead: the map has room for as many
	mostDead = 1024

	every = time.Second            // between probes of a router
	soon  = 250 * time.Millisecond // while a neighbour is being probed
)

// Watch finds the dead routers among those that connections began by in the
// last ten minutes. A router that has answered before has died when the
// kernel's neighbour machine gives up on one of its addresses on the link
// (NUD_FAILED; DELAY and PROBE are still undecided) and none is reachable, or
// when another MAC has the address. Any router has died when its link is down
// or gone. It is alive again when it is reachable, or when a connection comes
// in by it.
//
// A host of the link that only sends its own requests is no router: it is not
// watched, and stands in for none, since it would drop the packets.
//
// It is a value that each Step makes again, and not safe for concurrent use.
// The zero value is ready.
type Watch struct {
	dead  map[Hop]time.Time // since when
	names map[place]routerNames
}

// place is where a MAC was seen.
type place struct {
	link string
	mac  string
}

// routerNames are the addresses of a router. The kernel forgets the MAC of an
// address when it gives up on it.
type routerNames struct {
	addrs []netip.Addr
	seen  time.Time
	// it has answered; one that never answers is not dead when it is silent
	answered bool
	routes   bool // it has brought requests of other clients
}

// Sight is what a Step uses. Neighbours and links are those of the host, hops
// those of Programs.Hops.
type Sight struct {
	Now   time.Time
	Hops  map[Hop]Noted
	Neigh []routing.Neigh
	Links []routing.Link
}

// Found is what a Step has found.
type Found struct {
	// the dead hops, each with the hop that stands in for it; the zero Hop:
	// none, the table's route answers
	Dead  map[Hop]Hop
	Probe []routing.Neigh // neighbours to probe now
	Next  time.Duration   // when to take the next Step
}

// Resume makes a Watch go on from the hops that another Watch has found dead:
// the kernel no longer knows the MAC of a router that it gave up on.
func (w *Watch) Resume(dead map[Hop]Hop, now time.Time) {
	w.dead = map[Hop]time.Time{}
	for hop := range dead {
		w.dead[hop] = now
	}
}

// Step looks once.
func (w *Watch) Step(s Sight) Found {
	w.remember(s)
	links := map[uint32]routing.Link{}
	for _, l := range s.Links {
		links[uint32(l.Index)] = l
	}
	out := Found{Dead: map[Hop]Hop{}, Next: every}
	alive, next, of := []Hop{}, map[Hop]time.Time{}, map[uint32]int{}
	for _, hop := range s.latest() {
		noted := s.Hops[hop].At
		since, was := w.dead[hop]
		l := links[hop.Link]
		up := l.Up && l.Carrier
		if up && !w.routes(l.Name, hop, s.Hops[hop].Client) {
			continue
		}
		if of[hop.Link]++; up && !was &&
			(s.Now.Sub(noted) > Probed || of[hop.Link] > watched) {
			continue
		}
		state, ask, asking := w.state(s.Neigh, l.Name, hop)
		if asking {
			out.Next = soon
		}
		switch {
		case !up:
			state, ask = failed, nil
		case state != reachable && s.Now.Sub(noted) < heard:
			state = reachable // it brought a connection just now
		case state == unknown && was && !noted.After(since):
			state = failed
		}
		out.Probe = append(out.Probe, ask...)
		if state != failed {
			alive = append(alive, hop)
			continue
		}
		if len(next) == mostDead {
			continue
		}
		if !was {
			since = s.Now
		}
		next[hop] = since
	}
	w.dead = next
	for hop := range next {
		out.Dead[hop] = standIn(hop, alive, s.Hops)
	}
	return out
}

// latest returns the hops, those first that were noted last.
func (s Sight) latest() []Hop {
	return slices.SortedFunc(maps.Keys(s.Hops), func(a, b Hop) int {
		return cmp.Or(s.Hops[b].At.Compare(s.Hops[a].At),
			bytes.Compare(a.Router[:], b.Router[:]))
	})
}

// standIn returns the live hop of the same link that was noted last.
func standIn(hop Hop, alive []Hop, noted map[Hop]Noted) (best Hop) {
	for _, h := range alive {
		if h.Link == hop.Link && (best == Hop{} || noted[h].At.After(noted[best].At)) {
			best = h
		}
	}
	return best
}

// remember keeps the addresses of each MAC.
func (w *Watch) remember(s Sight) {
	if w.names == nil {
		w.names = map[place]routerNames{}
	}
	macs := map[place]bool{}
	link := map[uint32]string{}
	for _, l := range s.Links {
		link[uint32(l.Index)] = l.Name
	}
	for hop := range s.Hops {
		macs[place{link[hop.Link], hop.Router.String()}] = true
	}
	for _, n := range s.Neigh {
		p := place{n.Link, n.MAC}
		if !macs[p] {
			continue
		}
		names := w.names[p]
		if !slices.Contains(names.addrs, n.Addr) {
			names.addrs = append(names.addrs, n.Addr)
		}
		names.answered = names.answered || n.State == "REACHABLE"
		names.seen = s.Now
		w.names[p] = names
	}
	for hop, noted := range s.Hops {
		p := place{link[hop.Link], hop.Router.String()}
		if names, ok := w.names[p]; ok && !names.routes &&
			w.routes(p.link, hop, noted.Client) {
			names.routes = true
			w.names[p] = names
		}
	}
	for p, names := range w.names {
		if s.Now.Sub(names.seen) > kept {
			delete(w.names, p)
		}
	}
}

// routes reports whether a hop is a router, as far as is known: it has brought
// a request of another client than itself.
func (w *Watch) routes(link string, hop Hop, client netip.Addr) bool {
	names := w.names[place{link, hop.Router.String()}]
	return names.routes || !slices.Contains(names.addrs, client)
}

// health is the neighbour machine's verdict about a router.
type health int

const (
	unknown health = iota
	reachable
	failed
)

// state returns the neighbour machine's verdict about a router, and which of
// its neighbours to probe. asking is true while the kernel probes one.
func (w *Watch) state(neighs []routing.Neigh, link string, hop Hop) (is health,
	ask []routing.Neigh, asking bool) {
	mac := hop.Router.String()
	router := w.names[place{link, mac}]
	names := router.addrs
	var gone, up bool
	for _, n := range neighs {
		if n.Link != link || !slices.Contains(names, n.Addr) {
			continue
		}
		switch n.State {
		case "PERMANENT", "NOARP": // an administrator's entry
			up = up || n.MAC == mac
			continue
		case "PROBE", "INCOMPLETE":
			asking = true
			continue
		case "FAILED":
			gone = true
		case "REACHABLE":
			up = up || n.MAC == mac
		}
		gone = gone || n.MAC != "" && n.MAC != mac // its address is another router's now
		ask = append(ask, n)
	}
	switch {
	case up:
		return reachable, ask, asking
	case gone && router.answered:
		return failed, ask, asking
	}
	return unknown, ask, asking
}
