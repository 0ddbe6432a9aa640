package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"lasthop/routing"
)

// drawing is one SVG: clients on the left, then gateways, interfaces and the
// addresses that NGINX listens on. A path has a lane from left to right.
// Requests come in along it, and with the plan replies leave along it; today's
// replies may leave by another lane.
type drawing struct {
	ID              int
	Desc            []string // the drawing in words
	Width, Height   int
	Clients         box
	Gateways, Links []box
	Paths           []drawnPath
	lanes           []*lane
}

// tall reports whether a drawing needs a page of paper of its own. A smaller
// one can be read in what the head of the first page leaves.
func (d drawing) tall() bool { return d.Height > 760 }

// span is where the boxes of a column begin and how wide they are, in units of
// the viewBox; a letter is about 8 wide.
type span struct{ x, width int }

func (s span) end() int { return s.x + s.width }

// The four columns.
var (
	clientColumn  = span{8, 84}
	gatewayColumn = span{152, 232}
	linkColumn    = span{440, 140}
	addrsColumn   = span{722, 270}
)

const (
	laneTop    = 36 // of the first lane, below the names of the columns
	laneHeight = 66
	laneGap    = 12
	slotHeight = 7
	maxLanes   = 10 // paths in one drawing: as many as fit on a page
	maxFlows   = 3  // ways of one path's replies that are drawn
)

// box is a rectangle with lines of text; Full is the whole text if a line is
// shortened.
type box struct {
	X, Y, Width, Height int
	Class, Full         string
	Lines               []label
}

type label struct {
	Class, Text string
	X, Y        int
}

// drawnPath is one path: its lines and the box of its addresses.
type drawnPath struct {
	Link, Gateway, Title string
	Lines                []stroke
	Addrs                box
}

// stroke is one line. Class is request, before or after; with "wrong" if a
// reply does not take the way of its request, and with "unknown" if that way is
// unknown.
type stroke struct{ Class, D string }

// Marker is what the line ends in: an arrow, or a cross for what is wrong.
func (s stroke) Marker() string {
	kind, more, _ := strings.Cut(s.Class, " ")
	switch more {
	case "wrong":
		return "cross"
	case "unknown":
		return "arrow-unknown"
	}
	return "arrow-" + kind
}

// legend explains the kinds of lines in the drawing.
func legend(all []drawing) []legendEntry {
	there := map[string]bool{}
	for _, d := range all {
		for _, p := range d.Paths {
			for _, l := range p.Lines {
				there[l.Class] = true
			}
		}
	}
	out := []legendEntry{{stroke{"request", "M2 6H58"}, "request"}}
	for _, when := range []string{"before", "after"} {
		out = append(out, legendEntry{stroke{when, "M58 6H2"}, "reply " + when},
			legendEntry{stroke{when + " wrong", "M58 6H6"},
				"reply " + when + ", not the way of its request"},
			legendEntry{stroke{when + " unknown", "M58 6H2"},
				"reply " + when + ", the way of its request is not known"})
	}
	return slices.DeleteFunc(out, func(e legendEntry) bool { return !there[e.Class] })
}

type legendEntry struct {
	stroke
	Text string
}

// lane is a row of the drawing: a path, or another way out that replies take.
type lane struct {
	bundle *bundle
	way    routing.Way // of a lane without bundle
	top    int
	height int
	slots  int // replies drawn on it so far
}

// drawings draws all paths that have listeners, and the unresolved ones; if
// there are many, so many to a drawing that each fits on a page.
func drawings(all []bundle) []drawing {
	all = slices.DeleteFunc(slices.Clone(all), func(b bundle) bool {
		return len(b.listeners) == 0
	})
	var out []drawing
	for part := range slices.Chunk(all, maxLanes) {
		out = append(out, draw(len(out)+1, part))
	}
	return out
}

func draw(id int, part []bundle) drawing {
	d := drawing{ID: id, Width: addrsColumn.end() + 8}
	for i := range part {
		d.lanes = append(d.lanes, &lane{bundle: &part[i]})
	}
	for _, b := range part {
		for _, f := range slices.Concat(limited(b.before), limited(b.after)) {
			d.lane(f.way, b.family).slots++
		}
	}
	top := laneTop
	for _, l := range d.lanes {
		l.top, l.height = top, max(laneHeight, 38+l.slots*slotHeight)
		l.slots = 0
		top += l.height + laneGap
	}
	d.Height = top
	d.Clients = newBox(clientColumn, laneTop, top-laneGap-laneTop, "client",
		label{Text: "Clients"})
	for _, l := range slices.Clone(d.lanes) {
		if l.bundle != nil {
			d.Paths = append(d.Paths, d.path(l))
			d.Desc = append(d.Desc, Escape(describe(*l.bundle)))
		}
	}
	d.boxes()
	return d
}

func limited(flows []flow) []flow { return flows[:min(len(flows), maxFlows)] }

// lane returns the lane of replies that leave by the way. If there is none it
// adds one, below the other lanes of its interface.
func (d *drawing) lane(w routing.Way, f routing.Family) *lane {
	at := len(d.lanes)
	for i, l := range d.lanes {
		if l.way == w && l.bundle == nil || l.bundle != nil && l.bundle.family == f &&
			l.bundle.path != nil && takes(*l.bundle.path, w) {
			return l
		}
		if link, _, _ := l.ends(); w.Type == routing.Unicast && link == w.Link {
			at = i + 1
		}
	}
	l := &lane{way: w}
	d.lanes = slices.Insert(d.lanes, at, l)
	return l
}

// path draws the lines and the addresses of a lane's bundle.
func (d *drawing) path(l *lane) drawnPath {
	b := l.bundle
	p := drawnPath{Link: Escape(b.link), Title: Escape(describe(*b))}
	from := l.top + 12
	if b.path != nil {
		p.Gateway = gatewayName(*b.path)
		p.Lines = append(p.Lines, stroke{"request",
			fmt.Sprintf("M%d %dH%d", clientColumn.end(), from, addrsColumn.x-2)})
	}
	after := limited(b.after)
	replies := slices.Concat(after, limited(b.before))
	for i, f := range replies {
		class := "after"
		if i >= len(after) {
			class = "before"
		}
		from += (l.height - 24) / len(replies)
		p.Lines = append(p.Lines, d.reply(class, b, f, from))
	}
	p.Addrs = newBox(addrsColumn, l.top, l.height, "addrs",
		label{Class: "name", Text: b.addrs()}, label{Text: b.fate()}, label{Text: b.does()})
	return p
}

// reply draws the way of replies from the addresses to the clients, or to where
// they end.
func (d *drawing) reply(class string, b *bundle, f flow, from int) stroke {
	l := d.lane(f.way, b.family)
	y := l.top + 26 + l.slots*slotHeight
	l.slots++
	switch {
	case b.path == nil:
		class += " unknown"
	case !takes(*b.path, f.way):
		class += " wrong"
	}
	start, end := addrsColumn.x, linkColumn.end()
	middle := (start + end) / 2
	to := clientColumn.end() + 2
	if f.way.Type != routing.Unicast {
		to = end + 2
	}
	return stroke{class, fmt.Sprintf("M%d %dC%d %d %d %d %d %dH%d", start, from, middle, from,
		middle, y, end+12, y, to)}
}

// boxes draws the gateways and interfaces; lanes of one interface that follow
// each other share its box.
func (d *drawing) boxes() {
	previous := ""
	for _, l := range d.lanes {
		name, gateway, source := l.ends()
		y, height := l.top, l.height
		if gateway != "" {
			class := "gateway"
			if l.bundle != nil && l.bundle.path == nil {
				class += " missing"
			}
			d.Gateways = append(d.Gateways, newBox(gatewayColumn, y, height, class,
				label{Class: "name", Text: gateway}, label{Text: source}))
		}
		if name == previous && len(d.Links) > 0 {
			above := d.Links[len(d.Links)-1]
			d.Links = d.Links[:len(d.Links)-1]
			y, height = above.Y, y+height-above.Y
		}
		if name != "" {
			d.Links = append(d.Links, newBox(linkColumn, y, height, "link",
				label{Class: "name", Text: name}))
		}
		previous = name
	}
}

// ends names the interface and the gateway of a lane, and the source of the
// gateway.
func (l *lane) ends() (link, gateway, source string) {
	switch {
	case l.bundle != nil:
		gateway, source = l.bundle.gateway()
		return l.bundle.link, gateway, source
	case l.way.More != "":
		return "several", l.way.String(), "by hash"
	case l.way.Type != routing.Unicast:
		return l.way.String(), "", ""
	}
	return l.way.Link, text(l.way.Via), ""
}

// fate returns how many listeners there are, and which of them need attention.
func (b bundle) fate() string {
	s, by := count(len(b.listeners), "listener"), byStatus(b.listeners)
	for _, status := range []routing.Status{routing.Unresolved, routing.Armed} {
		switch n := by[status]; n {
		case 0:
		case len(b.listeners):
			return fmt.Sprintf("%s, %s", s, status)
		default:
			s += fmt.Sprintf(", %s %s", number(n), status)
		}
	}
	return s
}

func (b bundle) does() string {
	switch {
	case b.path == nil:
		return "way in not known"
	case b.path.Table == 0 && byStatus(b.listeners)[routing.Unresolved] > 0:
		return "nothing installed"
	case b.path.Table == 0:
		return "nothing needed"
	}
	if b.path.LastHop {
		return fmt.Sprintf("table %d, last-hop", b.path.Table)
	}
	return fmt.Sprintf("table %d", b.path.Table)
}

// describe describes in one sentence the drawing of a bundle.
func describe(b bundle) string {
	name := cmp.Or(b.link, "no interface")
	if b.path != nil {
		name += " via " + gatewayName(*b.path)
	}
	return fmt.Sprintf("%s, %s: %s; replies before by %s, after by %s.", name, b.family,
		b.fate(), sentence(b.before), sentence(b.after))
}

// box places lines of text in the middle of a rectangle, shortened to its
// width.
func newBox(s span, y, height int, class string, lines ...label) box {
	b := box{X: s.x, Y: y, Width: s.width, Height: height, Class: class}
	lines = slices.DeleteFunc(lines, func(l label) bool { return l.Text == "" })
	for i, l := range lines {
		text := Escape(l.Text)
		l.Text = shorten(text, (s.width-12)/8)
		if l.Text != text {
			b.Full += text + "\n"
		}
		l.X, l.Y = s.x+s.width/2, y+height/2+5+18*i-9*(len(lines)-1)
		b.Lines = append(b.Lines, l)
	}
	return b
}

// shorten keeps the beginning and the end of a name.
func shorten(s string, limit int) string {
	n := utf8.RuneCountInString(s)
	if n <= limit {
		return s
	}
	runes := []rune(s)
	return string(runes[:limit/2]) + "…" + string(runes[n-(limit-limit/2-1):])
}
