package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lasthop/routing"
)

// endOf is an address with what becomes of its replies.
type endOf struct {
	addr, link, status, way, color, seen string
	mark                                 byte
}

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

// shown returns the rows, those with a problem (red) first; of very many, the
// first ones and those that need attention (red or yellow), and how many are
// left out.
func (g groups) shown() (rows []*group, left int) {
	good := func(x *group) int {
		if x.color == red {
			return 0
		}
		return 1
	}
	list := slices.SortedStableFunc(slices.Values(g.list),
		func(a, b *group) int { return good(a) - good(b) })
	for i, x := range list {
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
		r.mark = x.mark
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

func (t *page) listeners(p Plan) {
	t.heading("Listeners (%d)", len(p.Plan.Outcomes))
	if len(p.Plan.Outcomes) > 0 {
		p.groups().write(t)
	}
}

// groups are the rows of the table of listeners.
func (p Plan) groups() groups {
	g, words := groups{index: map[string]*group{}}, sightings(p.Seen)
	near, marks := movesOf(p.Plan), p.marks()
	for i, o := range p.Plan.Outcomes {
		color, seen := words(o)
		g.add(o, endOf{o.Addr.String(), o.Link, string(o.Status), near.fate(o),
			louder(statusColor(o), color), seen, marks[i]})
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

// pathMoves says for each path, by Outcome.Path, which clients nearby are
// answered another way.
type pathMoves map[int]string

// movesOf returns the moves of the clients nearby: "replies to other LANs move
// here" if all of them leave by the path from now on.
func movesOf(p routing.Plan) pathMoves {
	called := map[routing.Class]string{routing.ClassOnLink: "its own LAN",
		routing.ClassOtherLAN:  "other LANs",
		routing.ClassStatic:    "clients behind static routes",
		routing.ClassHostLocal: "containers and VMs of this host",
		routing.ClassBanned:    "banned clients",
		routing.ClassRule:      "clients that a rule names",
		routing.ClassSelf:      "this host", routing.ClassRouter: "the gateway",
		routing.ClassHalfOpen: "clients that wait for an answer"}
	classes, where := map[int][]string{}, map[int]string{}
	for _, m := range nearby(p.Moves) {
		i := pathOf(p, m)
		if name := called[m.Class]; !slices.Contains(classes[i], name) {
			classes[i] = append(classes[i], name)
		}
		if i > 0 && m.After.Link != p.Paths[i-1].Link {
			where[i] = " move, too"
		}
	}
	out := pathMoves{}
	for i, names := range classes {
		out[i] = "replies to " + strings.Join(names, " and to ") +
			cmp.Or(where[i], " move here")
	}
	return out
}

// pathOf returns the path of a move, as Outcome.Path does: 0 for none.
func pathOf(p routing.Plan, m routing.Move) int {
	return 1 + slices.IndexFunc(p.Paths, func(path routing.Path) bool {
		return m.Link == path.Link && slices.Equal(m.Listeners, path.Prefixes)
	})
}

// fate tells the way of the replies to clients behind a router, before and
// after, and which clients nearby move.
func (m pathMoves) fate(o routing.Outcome) string {
	switch {
	case o.Status == routing.LocalOnly:
		return "this host or link; no gateway involved"
	case o.Status == routing.Off:
		return fmt.Sprintf("left alone (%s)", o.Reason)
	case o.Status == routing.Unresolved && sameWay(o.Before, o.After):
		return fmt.Sprintf("%s (%s)", o.Before, o.Reason)
	case o.Status == routing.Unresolved:
		return fmt.Sprintf("%s -> %s (%s)", o.Before, o.After, o.Reason)
	case o.Status == routing.Unchanged && sameWay(o.Before, o.After):
		return o.After.String()
	case sameWay(o.Before, o.After):
		return o.After.String() + " (" + m.same(o) + ")"
	}
	return o.Before.String() + " -> " + o.After.String()
}

// same says what stays as it is, and what does not, for a listener whose
// clients behind a router are answered as before.
func (m pathMoves) same(o routing.Outcome) string {
	if near := m[o.Path]; near != "" && routed(o) {
		return "unchanged off-link; " + near
	}
	return "unchanged"
}

// sameWay says whether packets leave alike; the table that says so does not
// matter.
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
			louder(color, loud), seen, 0})
	}
	g.write(t)
}

func now(c Checked) string {
	switch {
	case c.Verdict == NoGateway || c.Verdict == NotAsked:
		return pathMoves{}.fate(c.Outcome)
	case len(c.Wrong) > 0:
		w := c.Wrong[0]
		text := fmt.Sprintf("to %s by %s, not %s", w.Client, w.Now, w.Want)
		if n := len(c.Wrong) - 1; n > 0 {
			text += "; and to " + count(n, "more group") + " of clients"
		}
		return text
	case c.Verdict == Asymmetric || c.Verdict == NotHereWrong:
		return c.Now.String() + ", not " + c.Want
	case c.Verdict == NotKnown:
		return fmt.Sprintf("%s (%s)", c.Now, c.Reason)
	}
	return c.Now.String()
}
