package report

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"lasthop/routing"
)

// Observe is the result of `lasthop observe`: what packets showed.
type Observe struct {
	Head
	routing.Seen
}

// Text writes what was seen, a row for each way, and what to do about it.
func (o Observe) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	t.wrap("", o.sentence())
	writeSeen(t, o.Listeners)
	writeSilent(t, o.Silent)
	t.findings("Findings", o.Findings)
	guide(t, o.Findings)
	return t.writeTo(w)
}

// sentence returns how much was seen.
func (o Observe) sentence() string {
	connections := 0
	for _, l := range o.Listeners {
		for _, way := range l.Ways {
			connections += way.Count.Seen
		}
	}
	looked := "all looked at"
	if n := o.Sampling.Handshakes; n > 1 {
		looked = fmt.Sprintf("1 in %d looked at", n)
	}
	lost := "no packet lost"
	if n := o.Sampling.Dropped; n > 0 {
		lost = count(n, "packet") + " lost"
	}
	return fmt.Sprintf("Seen in %s s: %s of %s (%s, %s)", seconds(o.Window.Seconds),
		count(connections, "connection"), count(o.Clients, "client"), looked, lost)
}

// seconds returns a time for people: 30, 0.3.
func seconds(s float64) string {
	return strconv.FormatFloat(math.Round(s*10)/10, 'f', -1, 64)
}

// writeSeen writes a row for each way.
func writeSeen(t *page, listeners []routing.SeenListener) {
	if len(listeners) == 0 {
		return
	}
	var ways []row
	width := len("SEEN")
	var rest output
	for l := range each(&rest, listeners, textRest) {
		for _, w := range l.Ways {
			width = max(width, len(strconv.Itoa(w.Count.Seen)))
			ways = append(ways, seenRow(l, w))
		}
	}
	for _, r := range ways {
		r.cells[2] = fmt.Sprintf("%*s", width, r.cells[2])
	}
	t.table(append([]row{newRow(bold, "LISTENER", "CLIENTS", fmt.Sprintf("%*s", width, "SEEN"),
		"VERDICT", "CAME BY -> REPLIES LEFT BY")}, ways...))
	t.printf("%s", rest.String())
}

func seenRow(l routing.SeenListener, w routing.SeenWay) row {
	color, words := verdictWords(w.Verdict, w.Outcome)
	return newRow(color, l.String(), string(w.Class), strconv.Itoa(w.Count.Seen), words,
		Escape(w.In.Name()+" -> "+leftBy(w)))
}

// leftBy returns where replies left.
func leftBy(w routing.SeenWay) string {
	switch {
	case w.Out.Asked.IsValid():
		return fmt.Sprintf("none: %s on %s does not answer", w.Out.Asked, w.Out.Link)
	case w.Out.Wire == "" && w.Verdict == routing.WayUnanswered:
		return "none"
	case w.Out.Wire == "":
		return "none yet"
	case w.Verdict == routing.WaySymmetric:
		return "the same"
	}
	return w.Out.Name()
}

// sightings returns a function that describes what packets showed of a
// listener, with a color by its gravity: "" if they were not observed, "no
// packets" if there were none.
func sightings(s *routing.Seen) func(routing.Outcome) (color, words string) {
	find := s.Finder()
	return func(o routing.Outcome) (color, words string) {
		if s == nil {
			return "", ""
		}
		l, found := find(o.Listener)
		if !found {
			return "", "no packets"
		}
		return verdictWords(l.Verdict, l.Outcome)
	}
}

// looked returns when packets were observed, and how long.
func looked(s *routing.Seen) string {
	return fmt.Sprintf("looked at for %s s from %s", seconds(s.Window.Seconds),
		utc(s.Window.From))
}

// verdictWords are a verdict and an outcome, with a color by their gravity. A
// way is dark if no answer leaves, or if no client acknowledges one.
func verdictWords(v routing.WayVerdict, o routing.WayOutcome) (color, words string) {
	words = map[routing.WayVerdict]string{routing.WaySymmetric: "symmetric",
		routing.WaySameLink: "same link", routing.WayOther: "other router",
		routing.WayAsymmetric: "ASYMMETRIC", routing.WayUnanswered: "unanswered",
		routing.WayUnknown: "unknown"}[v]
	switch {
	case o == routing.WayDark:
		color = red
		if v == routing.WayUnanswered {
			return color, "UNANSWERED"
		}
		return color, words + ", NO REPLY ARRIVES"
	case v == routing.WayAsymmetric:
		color = yellow
	}
	if o == routing.WayRefused || o == routing.WayWorks && v != routing.WaySymmetric {
		words += ", " + string(o)
	}
	return color, words
}

// writeSilent names the listeners that got no packet.
func writeSilent(t *page, list []routing.Silent) {
	more, them := "", "it"
	switch n := len(list) - 1; {
	case n < 0:
		return
	case n > 0:
		more, them = " and "+number(n)+" more", "them"
	}
	t.wrap("  no packets: ", fmt.Sprintf("%s%s (nothing is known of %s)", silentName(list[0]),
		more, them))
}

func silentName(s routing.Silent) string {
	name := routing.SeenListener{Addr: s.Addr, Port: s.Port, Transport: s.Transport}.String()
	if s.LastPort != 0 {
		name += " to " + strconv.Itoa(int(s.LastPort))
	}
	return name
}

type observeDoc struct {
	headDoc
	Window   routing.Window         `json:"window"`
	Sampling routing.Sampling       `json:"sampling"`
	Seen     []routing.SeenListener `json:"seen"`
	Silent   []routing.Silent       `json:"silent"`
	Gateways []routing.SeenGateway  `json:"gateways"`
	Findings []routing.Finding      `json:"findings"`
}

// JSON writes what was seen as one document of kind "observe".
func (o Observe) JSON(w io.Writer) error {
	summary := map[string]int{"listeners": len(o.Listeners), "silent": len(o.Silent),
		"connections": 0, "clients": o.Clients, "findings": len(o.Findings)}
	for _, l := range o.Listeners {
		summary[string(l.Outcome)]++
		for _, way := range l.Ways {
			summary["connections"] += way.Count.Seen
		}
	}
	return encode(w, observeDoc{o.Head.doc("observe", "", summary), o.Window, o.Sampling,
		list(o.Listeners), list(o.Silent), list(o.Gateways), list(o.Findings)})
}

// writeWays writes ways that packets took, for explain.
func writeWays(t *page, ways []routing.SeenWay) {
	if len(ways) == 0 {
		return
	}
	t.heading("Packets (%s)", count(len(ways), "way"))
	for w := range each(&t.output, ways, textRest) {
		color, words := verdictWords(w.Verdict, w.Outcome)
		l := routing.SeenListener{Addr: w.Addr, Port: w.Port, Transport: w.Transport}
		text := fmt.Sprintf("%s, %s clients: requests came by %s, replies left by %s: "+
			"%s (%s)", l, w.Class, w.In.Name(), leftBy(w), words,
			count(w.Count.Seen, "connection"))
		t.wrap("  ", t.paint(color, Escape(text)))
	}
}
