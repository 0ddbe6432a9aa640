package report

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"

	"lasthop/routing"
)

// Flows is the result of `lasthop flow`: what the mode last-hop knows of a
// client's connections, and where their replies would go now.
type Flows struct {
	Head
	Client netip.Addr
	Port   uint16         // 0: all
	Local  netip.AddrPort // zero: all
	Flows  []Flow
	More   int // that are left out
}

// Flow is one entry of a map, or with Local the answer without an entry.
type Flow struct {
	Map       string            // "connections", "handshakes", "datagrams"; "": no entry
	Transport routing.Transport // "" without an entry
	// of an echo the remote port is its identifier, and the local one 0
	Remote, Local netip.AddrPort
	Hop           Hop
	// another entry answers all except a SYN-ACK
	Opening bool
	Way     routing.Way // the kernel's route for the reply
}

// Answer is what directs a reply.
type Answer string

const (
	ByHop     Answer = "hop"
	ByStandIn Answer = "stand-in" // of a dead hop
	ByRoute   Answer = "route"
)

// Answer returns what directs the flow's replies: the programs answer only if
// the kernel's route has one.
func (f Flow) Answer() Answer {
	switch {
	case f.Map == "" || !f.Way.LastHop || f.Hop.State == HopDead && f.Hop.StandIn == "":
		return ByRoute
	case f.Hop.State == HopDead:
		return ByStandIn
	}
	return ByHop
}

// fate describes it in words.
func (f Flow) fate() (words, color string) {
	route := f.Way
	route.LastHop = false
	switch by := f.Answer(); {
	case by == ByHop && f.Opening:
		return f.Hop.String() + ", the SYN-ACK alone", ""
	case by == ByHop:
		return f.Hop.String(), ""
	case by == ByStandIn:
		return fmt.Sprintf("%s is dead: %s answers in its place", f.Hop,
			f.Hop.StandIn), yellow
	case f.Map == "":
		return "no entry: the route, " + Escape(route.String()), ""
	case !f.Way.LastHop:
		return fmt.Sprintf("%s is known, but the route has no program: %s", f.Hop,
			Escape(route.String())), ""
	}
	return fmt.Sprintf("%s is dead: the route, %s", f.Hop, Escape(route.String())), red
}

// Text writes a line for each entry.
func (f Flows) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	if len(f.Flows) == 0 {
		t.wrap("", fmt.Sprintf("No connection of %s is known here: its replies go by the "+
			"route. To see which, name the listener: --local ADDR:PORT", f.client()))
		return t.writeTo(w)
	}
	t.printf("Connections of %s (%s)\n", f.client(), number(len(f.Flows)+f.More))
	rows := []row{newRow(bold, "PROTO", "CLIENT PORT", "LISTENER", "MAP", "REPLIES GO TO")}
	for _, x := range f.Flows {
		words, color := x.fate()
		listener := x.Local.String()
		if x.Transport == routing.ICMP {
			listener = x.Local.Addr().String()
		}
		port := fmt.Sprint(x.Remote.Port())
		if x.Remote.Port() == 0 {
			port = "-"
		}
		rows = append(rows, newRow(color, cmp.Or(string(x.Transport), "-"), port, listener,
			cmp.Or(x.Map, "-"), words))
	}
	t.table(rows)
	if f.More > 0 {
		t.printf("  … and %s more\n", number(f.More))
	}
	return t.writeTo(w)
}

func (f Flows) client() string {
	if f.Port == 0 {
		return f.Client.String()
	}
	return netip.AddrPortFrom(f.Client, f.Port).String()
}

type flowsDoc struct {
	headDoc
	Client string    `json:"client"`
	Flows  []flowDoc `json:"flows"`
	More   int       `json:"more,omitempty"`
}

type flowDoc struct {
	Map        string  `json:"map,omitempty"`
	Transport  string  `json:"transport,omitempty"`
	RemotePort uint16  `json:"remote_port,omitempty"`
	Address    string  `json:"address"`
	Port       uint16  `json:"port,omitempty"`
	Hop        *hopDoc `json:"hop,omitempty"`
	Opening    bool    `json:"opening,omitempty"`
	AnsweredBy Answer  `json:"answered_by"`
	Route      *wayDoc `json:"route"`
}

// JSON writes one document of kind "flow".
func (f Flows) JSON(w io.Writer) error {
	summary := counted(f.Flows, func(x Flow) Answer { return x.Answer() })
	return encode(w, flowsDoc{f.Head.doc("flow", "", summary), f.Client.String(),
		mapped(f.Flows, flowDocOf), f.More})
}

func flowDocOf(f Flow) flowDoc {
	d := flowDoc{f.Map, string(f.Transport), f.Remote.Port(), f.Local.Addr().String(),
		f.Local.Port(), nil, f.Opening, f.Answer(), wayDocOf(f.Way)}
	if f.Map != "" {
		h := hopDocOf(f.Hop)
		d.Hop = &h
	}
	return d
}
