package routing

import (
	"fmt"
	"net/netip"
)

// Lookout compares windows of packets after a change with one before it. It
// finds listeners that answered their clients before the change, and none
// since.
type Lookout struct {
	host   Host
	worked map[reach]int                 // clients that were reached before
	lost   map[reach]map[netip.Addr]bool // since then, while none was reached
}

// reach is a listener and a class of clients.
type reach struct {
	addr      netip.Addr
	port      uint16
	transport Transport
	class     SeenClass
}

func (w SeenWay) reach() reach { return reach{w.Addr, w.Port, w.Transport, w.Class} }

// fewest is how many clients must be lost at least: a few spoofed requests are
// no evidence.
const fewest = 2

// NewLookout takes the window before the change. The host names routers.
func NewLookout(h Host, before Evidence) *Lookout {
	l := &Lookout{h, map[reach]int{}, map[reach]map[netip.Addr]bool{}}
	for _, w := range before.Ways {
		l.worked[w.reach()] += w.Reached
	}
	return l
}

// Dark returns the listener that answers none of its clients any more, judged
// by a window that may still be open: at least as many clients are lost as were
// reached before. It returns "" if there is none. Silence is no evidence; nor
// is a window in which many packets were lost.
func (l *Lookout) Dark(now Evidence) string {
	if now.Sampling.Lossy() {
		return ""
	}
	for key, s := range l.since(now) {
		worked := l.worked[key]
		if worked == 0 || s.reached > 0 || len(s.lost) < max(worked, fewest) {
			continue
		}
		w := s.way
		newRouters(l.host, now.Names).rename(&w)
		return fmt.Sprintf("before the change %s answered %s (%s); since then it "+
			"answered none of %s: %s", endpoint(key.addr, key.port, key.transport),
			counted(worked, "client"), key.class, counted(len(s.lost), "client"),
			w.lost())
	}
	return ""
}

// Turn ends a window.
func (l *Lookout) Turn(e Evidence) {
	for key, s := range l.since(e) {
		if s.reached > 0 {
			delete(l.lost, key)
		} else if !e.Sampling.Lossy() {
			l.lost[key] = s.lost
		}
	}
}

// aftermath is what a listener has shown since the change.
type aftermath struct {
	reached int
	lost    map[netip.Addr]bool
	way     SeenWay // the crossing by which most were lost
}

// since joins a window with those before it.
func (l *Lookout) since(e Evidence) map[reach]aftermath {
	out := map[reach]aftermath{}
	for _, w := range e.Ways {
		s, known := out[w.reach()]
		if !known {
			s.lost = map[netip.Addr]bool{}
			for client := range l.lost[w.reach()] {
				s.lost[client] = true
			}
		}
		s.reached += w.Reached
		for _, client := range w.Lost {
			s.lost[client] = true
		}
		if !known || len(w.Lost) > len(s.way.Lost) {
			s.way = w
		}
		out[w.reach()] = s
	}
	return out
}
