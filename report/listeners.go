package report

import (
	"cmp"
	"fmt"
	"slices"

	"lasthop/routing"
)

// endOf is an address with the status of its replies.
type endOf struct{ addr, link, status, way, color, seen string }

// group is a row of the table of listeners: all ports of one address with the
// same fate.
type group struct {
	endOf
	ports []string
	same  *group // an earlier row of the same address
}

type groups struct {
	list  []*group
	index map[string]*group // by address, the last one
}

// add merges a listener into the row of its address and fate.
func (g *groups) add(o routing.Outcome, end endOf) {
	x := g.index[end.addr]
	for x != nil && x.endOf != end {
		x = x.same
	}
	if x == nil {
		x = &group{endOf: end, same: g.index[end.addr]}
		g.index[end.addr] = x
		g.list = append(g.list, x)
	}
	if port := o.PortName(); !slices.Contains(x.ports, port) {
		x.ports = append(x.ports, port)
	}
}

// shown returns the rows; of very many, the first ones and those that need
// attention (red or yellow), and how many are left out.
func (g groups) shown() (rows []*group, left int) {
	for i, x := range g.list {
		if i >= maxRows && len(g.list) > maxRows+1 &&
			(x.color == "" || x.color == green || len(rows) >= 2*maxRows) {
			left++
			continue
		}
		rows = append(rows, x)
	}
	return rows, left
}

func (g groups) write(t *page) {
	head := newRow("", "ADDRESS", "PORT", "LINK", "STATUS", "REPLIES LEAVE BY")
	shown, left := g.shown()
	seen := slices.ContainsFunc(shown, func(x *group) bool { return x.seen != "" })
	if seen {
		head.cells = slices.Insert(head.cells, 4, "SEEN")
	}
	rows := []row{head}
	for _, x := range shown {
		r := newRow(x.color, x.addr, some(x.ports, 3), dash(Escape(x.link)), x.status,
			Escape(x.way))
		if seen {
			r.cells = slices.Insert(r.cells, 4, dash(x.seen))
		}
		rows = append(rows, r)
	}
	t.table(rows)
	if left > 0 {
		t.printf("  … and %s; all of them with -o json\n", count(left, "more address"))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (t *page) listeners(outcomes []routing.Outcome, seen *routing.Seen) {
	t.heading("Listeners (%d)", len(outcomes))
	outcomeGroups(outcomes, seen).write(t)
}

func outcomeGroups(outcomes []routing.Outcome, seen *routing.Seen) groups {
	g, words := groups{index: map[string]*group{}}, sightings(seen)
	for _, o := range outcomes {
		color, seen := words(o)
		g.add(o, endOf{o.Addr.String(), o.Link, string(o.Status), fate(o),
			louder(statusColor(o), color), seen})
	}
	return g
}

// louder returns the color of a row: the more urgent of the color of the way
// and that of the packets.
func louder(way, packets string) string {
	if way == red {
		return way
	}
	return cmp.Or(packets, way)
}

func statusColor(o routing.Outcome) string {
	switch {
	case o.Status == routing.Unresolved:
		return red
	case routed(o):
		return green
	}
	return ""
}

// routed reports whether lasthop has a path for the replies, installed or not.
func routed(o routing.Outcome) bool {
	return o.Status == routing.Ready || o.Status == routing.Armed
}

// fate describes the way of the replies, before and after.
func fate(o routing.Outcome) string {
	switch {
	case o.Status == routing.LocalOnly:
		return "this host or link; no gateway involved"
	case o.Status == routing.Off:
		return "not ours to decide"
	case o.Status == routing.Unresolved && sameWay(o.Before, o.After):
		return fmt.Sprintf("%s (%s)", o.Before, o.Reason)
	case o.Status == routing.Unresolved:
		return fmt.Sprintf("%s -> %s (%s)", o.Before, o.After, o.Reason)
	case routed(o) && sameWay(o.Before, o.After):
		// it changes for those that main knows another way to
		return o.After.String() + ", for every client"
	case sameWay(o.Before, o.After):
		return o.After.String() + ", as before"
	}
	return o.Before.String() + " -> " + o.After.String()
}

// sameWay reports whether packets leave alike; the table does not matter.
func sameWay(a, b routing.Way) bool {
	a.Table, b.Table = 0, 0
	return a == b
}

func (t *page) checks(checks []Checked, seen *routing.Seen) {
	if len(checks) == 0 {
		return
	}
	t.heading("Listeners (%d)", len(checks))
	g, words := groups{index: map[string]*group{}}, sightings(seen)
	for _, c := range checks {
		color := ""
		switch {
		case c.Verdict.Bad():
			color = red
		case c.Verdict == Symmetric:
			color = green
		}
		loud, seen := words(c.Outcome)
		g.add(c.Outcome, endOf{c.Addr.String(), c.Link, string(c.Verdict), now(c),
			louder(color, loud), seen})
	}
	g.write(t)
}

func now(c Checked) string {
	switch {
	case c.Verdict == NoGateway || c.Verdict == NotAsked:
		return fate(c.Outcome)
	case len(c.Wrong) > 0:
		w := c.Wrong[0]
		text := fmt.Sprintf("to %s by %s, not %s", w.Addr, w.Now, w.Want)
		if n := len(c.Wrong) - 1; n > 0 {
			text += fmt.Sprintf("; %s more", count(n, "class"))
		}
		return text
	case c.Verdict == Asymmetric || c.Verdict == NotHereWrong:
		return c.Now.String() + ", not " + c.Want
	case c.Verdict == NotKnown:
		return fmt.Sprintf("%s (%s)", c.Now, c.Reason)
	}
	return c.Now.String()
}
