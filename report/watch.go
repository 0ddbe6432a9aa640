package report

import (
	"io"
	"reflect"
	"time"
)

// Differs reports whether a status tells other things than an earlier one, but
// for what moves on by itself: times of looks, the number of syncs, and what
// the mode last-hop counts. A router that is dead is news.
func (s Status) Differs(old Status) bool { return !reflect.DeepEqual(s.still(), old.still()) }

// still is the status without what moves on by itself.
func (s Status) still() Status {
	s.Time, s.Synced, s.Counts.Syncs = time.Time{}, time.Time{}, 0
	if s.LastHop == nil {
		return s
	}
	l := &LastHop{}
	for _, h := range s.LastHop.Hops {
		if h.State == HopDead {
			l.Hops = append(l.Hops, Hop{Link: h.Link, MAC: h.MAC, StandIn: h.StandIn})
		}
	}
	s.LastHop = l
	return s
}

// Absence is told by `lasthop status --watch` in place of a status that cannot
// be had.
type Absence struct {
	Since time.Time
	State string // "not running"
	Why   string // the error
}

// Text writes since when there is no status, and why.
func (a Absence) Text(w io.Writer, style Style) error {
	t := &page{style: style}
	t.printf("%s: %s, since %s\n", t.paint(bold, "lasthop"), t.paint(red, a.State),
		stamp(a.Since))
	t.wrap("  ", Escape(a.Why))
	return t.writeTo(w)
}

// JSON writes a document of kind "status" that is not in sync.
func (a Absence) JSON(w io.Writer) error {
	return Status{Head: Head{Lasthop: BuildVersion().Lasthop, Time: a.Since},
		Wrong: []string{a.State + ": " + a.Why}}.JSON(w)
}
