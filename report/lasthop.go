package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// LastHop is what the programs of the mode last-hop do: of a Status.
type LastHop struct {
	Time   time.Time // when the daemon looked
	Hops   []Hop     // dead ones first, then by the last note
	More   int       // hops that are left out
	Links  []LinkHops
	Fill   []Fill // of each map of flows
	Counts HopCounts
}

// Hop is a neighbour that requests came by: a router, or a client on the link.
type Hop struct {
	Link  string // "" for a link that is gone
	MAC   string
	Ours  string       // the MAC of this host that its frames were sent to
	Addrs []netip.Addr // of the neighbour table
	// a next hop of a path, or a router that announces itself (IPv6)
	Router bool
	State  HopState
	// the MAC of the hop of the link that answers in place of a dead one;
	// "": the route answers
	StandIn string
	Noted   time.Time // when a connection last began by it, or moved to it
	Flows   *HopFlows // nil if they were not counted
}

// HopState is the state of a hop.
type HopState string

const (
	HopAlive HopState = "alive"
	HopDead  HopState = "dead"
	// no connection has begun by it for ten minutes: it is not watched
	HopQuiet HopState = "quiet"
)

// LinkHops counts the hops of a link.
type LinkHops struct {
	Link               string // "" for links that are gone
	Alive, Dead, Quiet int
}

// HopFlows counts entries of the maps.
type HopFlows struct {
	Connections int `json:"connections"` // of TCP, that a socket here knows
	Handshakes  int `json:"handshakes"`  // of TCP before that, and strays
	Datagrams   int `json:"datagrams"`   // flows of UDP, and echoes
}

// Fill is how full a map of flows is.
type Fill struct {
	Map   string  `json:"map"`   // "connections", "handshakes", "datagrams"
	Ratio float64 `json:"ratio"` // an estimate, from 0 to 1
}

// HopCounts are what the programs have counted since their maps were made.
type HopCounts struct {
	Learned  int `json:"learned"`  // connections and flows whose hop was noted
	Moved    int `json:"moved"`    // those that went over to another hop
	Refused  int `json:"refused"`  // packets by another hop that moved nothing
	Answered int `json:"answered"` // packets sent to the hop of their request
	ByTable  int `json:"by_table"` // packets of listeners sent by the route: no hop was known
	Dead     int `json:"dead"`     // packets whose hop was dead
}

// public leaves out the addresses of hops that may be clients.
func (l *LastHop) public() *LastHop {
	if l == nil {
		return nil
	}
	out := *l
	out.Hops = mapped(l.Hops, func(h Hop) Hop {
		if !h.Router {
			h.Addrs = nil
		}
		return h
	})
	return &out
}

// String names the hop: "eth1 02:00:00:00:00:01 (10.0.1.1)".
func (h Hop) String() string {
	name := cmp.Or(Escape(h.Link), "a link that is gone,") + " " + h.MAC
	if len(h.Addrs) > 0 {
		name += " (" + h.addrs() + ")"
	}
	return name
}

func (h Hop) addrs() string { return some(mapped(h.Addrs, netip.Addr.String), 2) }

// health describes the state of a hop at a time.
func (h Hop) health(now time.Time) string {
	ago := max(0, now.Sub(h.Noted)).Round(time.Second)
	switch {
	case h.State == HopDead && h.StandIn != "":
		return "DEAD: " + h.StandIn + " answers"
	case h.State == HopDead:
		return "DEAD: the route answers"
	case h.State == HopQuiet:
		return fmt.Sprintf("quiet: last new connection %s ago, not watched", ago)
	}
	return fmt.Sprintf("alive, last new connection %s ago", ago)
}

// String counts flows: "1,204 connections, 3 handshakes, 1 datagram flow".
func (f HopFlows) String() string {
	return count(f.Connections, "connection") + ", " + count(f.Handshakes, "handshake") +
		", " + count(f.Datagrams, "datagram flow")
}

// hopRows is how many hops a status names.
const hopRows = 10

// writeLastHop writes what the mode last-hop does.
func writeLastHop(t *page, l *LastHop) {
	if l == nil {
		return
	}
	all := map[HopState]int{}
	for _, x := range l.Links {
		all[HopAlive] += x.Alive
		all[HopDead] += x.Dead
		all[HopQuiet] += x.Quiet
	}
	states := kinds(all, func(n int, s HopState) string { return number(n) + " " + string(s) },
		HopDead, HopAlive, HopQuiet)
	t.heading("Last hops (%d): %s", len(l.Hops)+l.More, cmp.Or(states, "none yet"))
	shown := l.Hops
	if len(shown)+l.More > hopRows+1 {
		shown = shown[:min(hopRows, len(shown))]
	}
	var rows []row
	for _, h := range shown {
		flows := ""
		if h.Flows != nil {
			flows = h.Flows.String()
		}
		color := ""
		if h.State == HopDead {
			color = red
		}
		rows = append(rows, newRow(color, cmp.Or(Escape(h.Link), "-"), h.MAC,
			cmp.Or(h.addrs(), "-"), h.health(l.Time), flows))
	}
	t.table(rows)
	if n := len(l.Hops) + l.More - len(shown); n > 0 {
		t.printf("  … and %s more\n", number(n))
	}
	c := l.Counts
	t.wrap("  ", fmt.Sprintf("learned %s, moved %s, refused %s; packets answered %s, by table "+
		"%s, hop dead %s", number(c.Learned), number(c.Moved), number(c.Refused),
		number(c.Answered), number(c.ByTable), number(c.Dead)))
	var fills []string
	for _, f := range l.Fill {
		fills = append(fills, fmt.Sprintf("%s %.0f %%", f.Map, 100*f.Ratio))
	}
	if len(fills) > 0 {
		t.wrap("  ", "maps: "+strings.Join(fills, ", ")+" full")
	}
}

type lastHopDoc struct {
	Time   string    `json:"time"`
	Hops   []hopDoc  `json:"hops"`
	More   int       `json:"more,omitempty"` // hops that are left out
	Fill   []Fill    `json:"fill"`
	Counts HopCounts `json:"counts"`
}

type hopDoc struct {
	Interface string    `json:"interface,omitempty"`
	MAC       string    `json:"mac"`
	OurMAC    string    `json:"our_mac"`
	Addresses []string  `json:"addresses"`
	Router    bool      `json:"router"`
	State     HopState  `json:"state,omitempty"`
	StandIn   string    `json:"stand_in,omitempty"`
	Noted     string    `json:"noted,omitempty"`
	Flows     *HopFlows `json:"flows,omitempty"`
}

func lastHopDocOf(l *LastHop) *lastHopDoc {
	if l == nil {
		return nil
	}
	return &lastHopDoc{rfc3339(l.Time), mapped(l.Hops, hopDocOf), l.More, list(l.Fill),
		l.Counts}
}

func hopDocOf(h Hop) hopDoc {
	return hopDoc{h.Link, h.MAC, h.Ours, mapped(h.Addrs, netip.Addr.String), h.Router, h.State,
		h.StandIn, rfc3339(h.Noted), h.Flows}
}
