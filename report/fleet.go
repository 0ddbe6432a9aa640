package report

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// Fleet is the result of `lasthop plan --merge`: the plans of many hosts, which
// of them are alike, and how the rest differ from them.
type Fleet struct {
	Head   // of the merge: without host and kernel
	Groups []FleetGroup
	Hosts  []FleetHost // by name
}

// FleetGroup is hosts of one shape.
type FleetGroup struct {
	Hosts int     `json:"hosts"` // that are compared with it
	Alike int     `json:"alike"` // of these, those that have its shape
	Shape []Trait `json:"shape"`
}

// FleetHost is one host of a fleet.
type FleetHost struct {
	Host    string `json:"host"`
	File    string `json:"file"`
	Lasthop string `json:"lasthop"`
	Kernel  string `json:"kernel,omitempty"`
	Time    string `json:"time,omitempty"`
	Digest  string `json:"digest"`

	Group  int         `json:"group"` // 1 for the first of Groups
	Status FleetStatus `json:"status"`

	Changes    int               `json:"changes"`
	Warnings   int               `json:"warnings"`
	Unresolved []Unresolved      `json:"unresolved"`
	Errors     []routing.Finding `json:"errors"`
	Unproved   int               `json:"proof_differences,omitempty"`
	Differs    []Difference      `json:"differs"` // from its group

	plan *planDoc
}

// FleetStatus is the gravest fact about a host.
type FleetStatus string

const (
	FleetError      FleetStatus = "error"      // an error, no last-hop, or a proof that failed
	FleetUnresolved FleetStatus = "unresolved" // the administrator must name a gateway
	FleetDiffers    FleetStatus = "differs"    // from its group
	FleetAlike      FleetStatus = "alike"
)

// fleetStatuses are in the order of gravity.
var fleetStatuses = []FleetStatus{FleetError, FleetUnresolved, FleetDiffers, FleetAlike}

// Unresolved is listeners whose replies have no known way, all for one reason.
type Unresolved struct {
	Listeners []string `json:"listeners"` // "10.0.1.100:443/tcp"
	Interface string   `json:"interface,omitempty"`
	Reason    string   `json:"reason"`
	// the hint of the finding about them; absent if an error has it
	Remedy string `json:"remedy,omitempty"`
}

// ReadPlan reads a document of `lasthop plan -o json`; file is where it was
// read. The error names the file, with a hint.
func ReadPlan(file string, data []byte) (h FleetHost, err error) {
	p := &planDoc{}
	if err := decodePlan(file, data, p); err != nil {
		return h, err
	}
	if p.Host == "" {
		return h, hint.New(fmt.Errorf("%s: the plan does not name its host", file),
			"name the host in the capture that it was made from: \"host\"")
	}
	h = FleetHost{Host: p.Host, File: file, Lasthop: p.Lasthop, Kernel: p.Kernel,
		Time: p.Time, Digest: p.Digest, Changes: len(p.Changes), plan: p,
		Unresolved: p.unresolved(), Errors: []routing.Finding{}, Differs: []Difference{}}
	for _, f := range p.Findings {
		switch {
		case f.Severity == routing.Error || f.Code == "no-bpf":
			h.Errors = append(h.Errors, f)
		case f.Severity == routing.Warning:
			h.Warnings++
		}
	}
	if p.Proof != nil {
		h.Unproved = len(p.Proof.Differences)
	}
	return h, nil
}

// unresolved returns the listeners whose replies have no known way.
func (p *planDoc) unresolved() []Unresolved {
	out := []Unresolved{}
	for _, l := range p.Listeners {
		if !(routing.Outcome{Status: routing.Status(l.Status),
			Reason: routing.Code(l.Reason)}).Asks() {
			continue
		}
		remedy := p.remedy(l)
		i := slices.IndexFunc(out, func(u Unresolved) bool {
			return u.Interface == l.Interface && u.Reason == l.Reason &&
				u.Remedy == remedy
		})
		if i < 0 {
			i = len(out)
			out = append(out, Unresolved{nil, l.Interface, l.Reason, remedy})
		}
		out[i].Listeners = append(out[i].Listeners, l.endpoint())
	}
	return out
}

// remedy returns the hint of the finding that says why a listener is
// unresolved: that about its address, else the first of that code. An error
// speaks for itself.
func (p *planDoc) remedy(l listenerDoc) (hint string) {
	for _, f := range p.Findings {
		switch {
		case string(f.Code) != l.Reason || f.Severity == routing.Error:
		case f.Subject == l.Address:
			return f.Hint
		case hint == "":
			hint = f.Hint
		}
	}
	return hint
}

// portName is the port or range of a listener with its transport: "443/tcp".
func (l listenerDoc) portName() string {
	if l.LastPort != 0 {
		return fmt.Sprintf("%d-%d/%s", l.Port, l.LastPort, l.Transport)
	}
	return fmt.Sprintf("%d/%s", l.Port, l.Transport)
}

// endpoint is the address with portName; IPv6 is in brackets.
func (l listenerDoc) endpoint() string { return net.JoinHostPort(l.Address, l.portName()) }

// NewFleet groups hosts by their shape. Each host is compared with the group
// that it differs from least. The error names two files of one host.
func NewFleet(h Head, hosts []FleetHost) (Fleet, error) {
	f := Fleet{Head: h, Hosts: slices.SortedStableFunc(slices.Values(hosts),
		func(a, b FleetHost) int { return cmp.Compare(a.Host, b.Host) })}
	for i := range f.Hosts[:max(0, len(f.Hosts)-1)] {
		if a, b := f.Hosts[i], f.Hosts[i+1]; a.Host == b.Host {
			err := fmt.Errorf("%s: host %s is also in %s", b.File, b.Host, a.File)
			return f, hint.New(err,
				"name one plan of each host, and give each host its own name")
		}
	}
	shapes := mapped(f.Hosts, func(h FleetHost) shape { return shapeOf(h.plan) })
	usual := usualShapes(shapes)
	f.Groups = mapped(usual, func(s shape) FleetGroup {
		return FleetGroup{Shape: s.traits()}
	})
	for i := range f.Hosts {
		h := &f.Hosts[i]
		h.Group, h.Differs = nearest(usual, shapes[i])
		g := &f.Groups[h.Group-1]
		g.Hosts++
		if len(h.Differs) == 0 {
			g.Alike++
		}
		h.Status = h.status()
	}
	return f, nil
}

func (h FleetHost) status() FleetStatus {
	switch {
	case len(h.Errors) > 0 || h.Unproved > 0:
		return FleetError
	case len(h.Unresolved) > 0:
		return FleetUnresolved
	case len(h.Differs) > 0:
		return FleetDiffers
	}
	return FleetAlike
}

// Wanted reports whether no host has errors or unresolved listeners.
func (f Fleet) Wanted() bool {
	return !slices.ContainsFunc(f.Hosts, func(h FleetHost) bool {
		return h.Status == FleetError || h.Status == FleetUnresolved
	})
}

// attention are the hosts that need attention, the gravest first.
func (f Fleet) attention() []FleetHost {
	list := slices.DeleteFunc(slices.Clone(f.Hosts),
		func(h FleetHost) bool { return h.Status == FleetAlike })
	slices.SortStableFunc(list, func(a, b FleetHost) int {
		return slices.Index(fleetStatuses, a.Status) - slices.Index(fleetStatuses, b.Status)
	})
	return list
}

// having counts the hosts of which something holds.
func (f Fleet) having(what func(FleetHost) bool) (n int) {
	for _, h := range f.Hosts {
		if what(h) {
			n++
		}
	}
	return n
}

func (h FleetHost) differs() bool    { return len(h.Differs) > 0 }
func (h FleetHost) unresolved() bool { return len(h.Unresolved) > 0 }
func (h FleetHost) wrong() bool      { return len(h.Errors) > 0 || h.Unproved > 0 }
func (h FleetHost) warned() bool     { return h.Warnings > 0 }
func (h FleetHost) pending() bool    { return h.Changes > 0 }

// verdict says in a sentence or two how alike the hosts are.
func (f Fleet) verdict() string {
	differ := f.having(FleetHost.differs)
	text := count(len(f.Hosts), "host") + ": "
	switch n := len(f.Hosts) - differ; {
	case n == 0:
		text += "no two are alike"
	case len(f.Groups) == 1:
		text += number(n) + " alike"
	default:
		text += number(n) + " alike in " + count(len(f.Groups), "group")
	}
	if differ > 0 {
		text += ", " + number(differ) + " with differences"
	}
	var bad []string
	if n := f.having(FleetHost.unresolved); n > 0 {
		bad = append(bad, count(n, "host")+" with unresolved listeners")
	}
	if n := f.having(FleetHost.wrong); n > 0 {
		bad = append(bad, count(n, "host")+" with errors")
	}
	if len(bad) == 0 {
		return text + ". No host has unresolved listeners or errors."
	}
	return text + ". To look at: " + strings.Join(bad, ", ") + "."
}

type fleetDoc struct {
	headDoc
	Groups []FleetGroup `json:"groups"`
	Hosts  []FleetHost  `json:"hosts"`
}

// JSON writes the fleet as one document of kind "fleet".
func (f Fleet) JSON(w io.Writer) error {
	summary := map[string]int{"hosts": len(f.Hosts), "groups": len(f.Groups),
		"differ": f.having(FleetHost.differs), "unresolved": f.having(FleetHost.unresolved),
		"errors": f.having(FleetHost.wrong), "warnings": f.having(FleetHost.warned),
		"changes": f.having(FleetHost.pending)}
	return encode(w, fleetDoc{f.doc("fleet", "", summary), list(f.Groups), list(f.Hosts)})
}

// Text writes which hosts need attention and what to do about them, and what
// the groups have in common.
func (f Fleet) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	t.wrap("", t.paint(bold, f.verdict()))
	if list := f.attention(); len(list) > 0 {
		t.heading("%s (%s)", attentionTitle, number(len(list)))
		for h := range each(&t.output, list, textRest) {
			h.text(t)
		}
	}
	f.writeRemedies(t)
	t.heading("Groups (%d)", len(f.Groups))
	for i, g := range f.Groups {
		t.printf("  %d  %s, %d alike\n", i+1, count(g.Hosts, "host"), g.Alike)
		for x := range each(&t.output, g.Shape, textRest) {
			t.wrap("       ", Escape(x.String()))
		}
	}
	return t.writeTo(w)
}

const attentionTitle = "Hosts to look at"

func (h FleetHost) text(t *page) {
	color := map[FleetStatus]string{FleetError: red, FleetUnresolved: red,
		FleetDiffers: yellow}[h.Status]
	t.printf("  %s\n", t.paint(color, Escape(h.Host)+": "+string(h.Status)))
	for f := range each(&t.output, h.Errors, textRest) {
		t.wrap("    ", fmt.Sprintf("%s: %s: %s", f.Code, Escape(f.Subject),
			Escape(f.Message)))
	}
	if h.Unproved > 0 {
		t.wrap("    ", h.unproved())
	}
	for u := range each(&t.output, h.Unresolved, textRest) {
		t.wrap("    ", u.String())
	}
	for d := range each(&t.output, h.Differs, textRest) {
		t.wrap("    ", Escape(d.String()))
	}
}

// writeRemedies writes each remedy once, with its hosts.
func (f Fleet) writeRemedies(t *page) {
	var remedies []string
	hosts := map[string][]string{} // by remedy
	for _, h := range f.attention() {
		for _, remedy := range h.remedies() {
			if hosts[remedy] == nil {
				remedies = append(remedies, remedy)
			}
			if !slices.Contains(hosts[remedy], h.Host) {
				hosts[remedy] = append(hosts[remedy], h.Host)
			}
		}
	}
	if len(remedies) == 0 {
		return
	}
	t.heading("What to do (%d)", len(remedies))
	for remedy := range each(&t.output, remedies, textRest) {
		writeRemedy(t, "  ", oneLine(remedy))
		t.wrap("    on ", Escape(some(hosts[remedy], 5)))
	}
	guide(t, mapped(remedies, func(remedy string) routing.Finding {
		return routing.Finding{Hint: remedy}
	}))
}

// remedies are those of the host's errors and unresolved listeners.
func (h FleetHost) remedies() []string {
	all := append(mapped(h.Errors, func(f routing.Finding) string { return f.Hint }),
		mapped(h.Unresolved, func(u Unresolved) string { return u.Remedy })...)
	return slices.DeleteFunc(all, func(remedy string) bool { return remedy == "" })
}

func (h FleetHost) unproved() string {
	return "the kernel does not confirm the plan: " + count(h.Unproved, "difference")
}

// String names the first listeners, with interface and reason, escaped.
func (u Unresolved) String() string {
	text := count(len(u.Listeners), "listener")
	if u.Interface != "" {
		text += " on " + Escape(u.Interface)
	}
	return text + ", " + Escape(u.Reason) + ": " + Escape(some(u.Listeners, 3))
}
