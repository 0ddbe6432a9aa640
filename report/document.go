// Package report writes a plan to standard output: as text for people, as JSON for programs, as a shell script of `ip` commands.
//
// Every format is made from one Document, so that they cannot disagree: NewDocument turns routing's values into flat ones
// with names of their own, and each writer lays those out. Nothing is decided here.
//
// The JSON has a version, which goes up only when a key goes or changes its meaning. Lists are never null, absent values are
// left out, the order is that of the plan. Names that come from files or from the network are not to be trusted: on a
// terminal their control and direction characters are escaped, and in scripts every word is quoted.
package report

import (
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"
)

// Version of the JSON documents.
const Version = 1

// Head is what every document says of its making.
type Head struct {
	Version int       `json:"version"`
	Kind    string    `json:"kind"`    // "plan", "apply", "check", "clear"
	Lasthop string    `json:"lasthop"` // our own version
	Host    string    `json:"host"`
	Time    time.Time `json:"time"`
	Kernel  string    `json:"kernel"`
	Inputs  []Input   `json:"inputs"`
}

// Input is a file that was read.
type Input struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// Document is a plan, and what became of it.
type Document struct {
	Head
	Digest    string     `json:"digest"`
	Summary   Summary    `json:"summary"`
	Listeners []Listener `json:"listeners"`
	Paths     []Path     `json:"paths"`
	Routes    []Object   `json:"routes"`
	Rules     []Object   `json:"rules"`
	Changes   []Change   `json:"changes"`
	Findings  []Finding  `json:"findings"`
	Writes    *int       `json:"writes,omitempty"` // messages sent that change something; apply and clear
	Undo      string     `json:"undo,omitempty"`   // the command that takes it back; apply

	offLink map[routing.Family]netip.Addr
}

// Summary counts.
type Summary struct {
	Listeners  int `json:"listeners"`
	Ready      int `json:"ready"`
	Armed      int `json:"armed"`
	Unchanged  int `json:"unchanged"`
	Local      int `json:"local"`
	Off        int `json:"off"`
	Unresolved int `json:"unresolved"`
	Asymmetric int `json:"asymmetric"` // of the present ones: replies leave elsewhere now
	Changes    int `json:"changes"`
	Errors     int `json:"errors"`
	Warnings   int `json:"warnings"`
}

// Listener is an address and port range that NGINX listens on, and what becomes of its replies to an off-link client.
type Listener struct {
	Address   string   `json:"address"`
	Port      uint16   `json:"port"`
	LastPort  uint16   `json:"last_port,omitempty"` // of a range
	Transport string   `json:"transport"`
	Context   string   `json:"context,omitempty"`
	Listen    string   `json:"listen,omitempty"`
	Origins   []string `json:"origins"`
	Servers   []string `json:"servers"`
	Interface string   `json:"interface,omitempty"`
	Status    string   `json:"status"`
	Reason    string   `json:"reason,omitempty"`
	Before    *Way     `json:"before,omitempty"`
	After     *Way     `json:"after,omitempty"`
	Now       *Way     `json:"now,omitempty"` // check: the kernel's answer at this moment

	before, after routing.Way
}

// Way is where a packet leaves.
type Way struct {
	Interface string `json:"interface,omitempty"`
	Gateway   string `json:"gateway,omitempty"`
	Table     uint32 `json:"table,omitempty"`
	Result    string `json:"result,omitempty"` // where it does not leave: "no route", "blackhole", …
	More      string `json:"more,omitempty"`   // further next hops of a multipath route
}

// Path is one way back.
type Path struct {
	Interface string   `json:"interface"`
	Family    string   `json:"family"`
	Gateways  []string `json:"gateways"`
	Source    string   `json:"gateway_source"`
	Table     uint32   `json:"table,omitempty"`
	Prefixes  []string `json:"prefixes"`
}

// Object is a route or rule that is wanted.
type Object struct {
	Family string `json:"family"`
	Table  uint32 `json:"table"`
	Text   string `json:"text"`
}

// Change is one write.
type Change struct {
	Op     string `json:"op"`     // "set", "add", "delete"
	Object string `json:"object"` // "route", "rule", "link-group"
	Text   string `json:"text"`   // the `ip` command
}

// Finding is something an operator must know.
type Finding struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Subject  string `json:"subject"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	Origin   string `json:"origin,omitempty"`
}

// NewDocument lays out a plan and the changes it means on the host.
func NewDocument(head Head, h routing.Host, plan routing.Plan, d routing.Diff) Document {
	doc := Document{Head: head, Digest: plan.Digest(d), Listeners: []Listener{}, Paths: []Path{}, Routes: []Object{}, Rules: []Object{},
		Changes: []Change{}, Findings: []Finding{}, offLink: map[routing.Family]netip.Addr{}}
	if doc.Inputs == nil {
		doc.Inputs = []Input{}
	}
	for _, f := range routing.Families {
		doc.offLink[f] = routing.OffLink(h, f)
	}
	for _, o := range plan.Outcomes {
		doc.Listeners = append(doc.Listeners, listenerOf(o))
	}
	for _, p := range plan.Paths {
		doc.Paths = append(doc.Paths, pathOf(p))
	}
	for _, r := range plan.State.Routes {
		doc.Routes = append(doc.Routes, Object{r.Family().String(), r.Table, r.String()})
	}
	for _, r := range plan.State.Rules {
		doc.Rules = append(doc.Rules, Object{r.Family.String(), r.Table, r.Args()})
	}
	for _, op := range d.Ops() {
		doc.Changes = append(doc.Changes, ChangeOf(op))
	}
	for _, f := range plan.Findings {
		doc.Findings = append(doc.Findings, Finding{string(f.Code), string(f.Severity), f.Subject, f.Message, f.Hint, f.Origin})
	}
	doc.Summarize()
	return doc
}

// Summarize counts anew.
func (d *Document) Summarize() {
	s := Summary{Listeners: len(d.Listeners), Changes: len(d.Changes), Asymmetric: d.Summary.Asymmetric}
	count := map[string]*int{"ready": &s.Ready, "armed": &s.Armed, "unchanged": &s.Unchanged, "local": &s.Local, "off": &s.Off, "unresolved": &s.Unresolved}
	for _, l := range d.Listeners {
		if n := count[l.Status]; n != nil {
			*n++
		}
	}
	for _, f := range d.Findings {
		switch f.Severity {
		case "error":
			s.Errors++
		case "warning":
			s.Warnings++
		}
	}
	d.Summary = s
}

func listenerOf(o routing.Outcome) Listener {
	l := Listener{Address: o.Addr.String(), Port: o.Ports.First, Transport: string(o.Transport), Context: o.Context, Listen: o.Listen,
		Origins: slices.Concat([]string{}, o.Origins), Servers: slices.Concat([]string{}, o.Servers), Interface: o.Link,
		Status: string(o.Status), Reason: string(o.Reason), before: o.Before, after: o.After}
	if o.Ports.Last != o.Ports.First {
		l.LastPort = o.Ports.Last
	}
	if o.Status != routing.LocalOnly {
		l.Before, l.After = WayOf(o.Before), WayOf(o.After)
	}
	return l
}

// WayOf lays out a way.
func WayOf(w routing.Way) *Way {
	out := &Way{Interface: w.Link, Table: w.Table, More: w.More}
	if w.Via.IsValid() {
		out.Gateway = w.Via.String()
	}
	if w.Type != routing.Unicast {
		out.Result = w.String()
	}
	return out
}

func pathOf(p routing.Path) Path {
	out := Path{Interface: p.Link, Family: p.Family.String(), Gateways: []string{}, Source: string(p.Source), Table: p.Table, Prefixes: []string{}}
	if p.Detail != "" {
		out.Source += " " + p.Detail
	}
	for _, h := range p.Hops {
		if h.Via.IsValid() {
			out.Gateways = append(out.Gateways, h.Via.String())
		}
	}
	for _, x := range p.Prefixes {
		out.Prefixes = append(out.Prefixes, x.String())
	}
	return out
}

// ChangeOf lays out a write.
func ChangeOf(op routing.Op) Change {
	c := Change{Op: "set", Text: op.String()}
	switch {
	case op.Route != nil:
		c.Object = "route"
	case op.Rule != nil:
		c.Object, c.Op = "rule", "add"
	default:
		c.Object = "link-group"
	}
	if op.Delete {
		c.Op = "delete"
	}
	return c
}
