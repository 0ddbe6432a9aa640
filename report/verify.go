package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"lasthop/bigip/migrate"
	"lasthop/routing"
)

// Verification is the result of `lasthop migrate --verify`.
type Verification struct {
	Head
	migrate.Verification
	Seen *routing.Seen // nil without a look at packets
}

// Wanted reports whether no action is needed.
func (v Verification) Wanted() bool {
	return !slices.ContainsFunc(v.Findings,
		func(f routing.Finding) bool { return f.Severity != routing.Info })
}

// movedStates are the names of the states, and their colors, the gravest first.
var movedStates = []struct{ state, words, color string }{
	{migrate.Duplicate, "DUPLICATE", red},
	{migrate.NotAnswered, "NOT ANSWERED", red},
	{migrate.Proxied, "A PROXY ANSWERS", yellow},
	{migrate.NotAsked, "not asked", yellow},
	{migrate.NotMoved, "not on this host", ""},
	{migrate.Here, "only here", green},
}

// Text writes a line for each address, and what to do about it.
func (v Verification) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	t.wrap("", v.sentence())
	rows := []row{newRow(bold, "ADDRESS", "INTERFACE", "STATE", "ALSO ANSWERED "+
		"BY", "REQUESTS BY")}
	var rest output
	for _, s := range movedStates {
		var of []migrate.Moved
		for _, m := range v.Addresses {
			if m.State == s.state {
				of = append(of, m)
			}
		}
		for m := range each(&rest, of, textRest) {
			rows = append(rows, newRow(s.color, m.Address, Escape(m.Interface), s.words,
				Escape(machines(m)), Escape(v.requests(m))))
		}
	}
	if len(rows) > 1 {
		t.table(rows)
	}
	t.printf("%s", rest.String())
	t.findings("Findings", v.Findings)
	guide(t, v.Findings)
	return t.writeTo(w)
}

// sentence returns how many addresses are well.
func (v Verification) sentence() string {
	here, well := 0, 0
	for _, m := range v.Addresses {
		if m.State != migrate.NotMoved {
			here++
		}
		if m.State == migrate.Here {
			well++
		}
	}
	text := fmt.Sprintf("%s of virtual servers on this host; only this host answers for "+
		"%s.", count(here, "address"), number(well))
	if v.Seen != nil {
		text += fmt.Sprintf(" Looked at packets for %s s.", seconds(v.Seen.Window.Seconds))
	}
	return text
}

func machines(m migrate.Moved) string {
	if len(m.Machines) == 0 {
		return "-"
	}
	return strings.Join(mapped(m.Machines, migrate.Machine.String), "; ")
}

// requests describes which clients sent connections to an address.
func (v Verification) requests(m migrate.Moved) string {
	if v.Seen == nil || m.State == migrate.NotMoved {
		return "-"
	}
	if len(m.Came) == 0 {
		return "no packets"
	}
	return strings.Join(mapped(m.Came, func(c migrate.Came) string {
		by := c.In.Name()
		if c.Class == routing.OnLinkClient {
			by = c.In.Link + " on-link"
		}
		return fmt.Sprintf("%s (%s)", by, number(c.Connections))
	}), ", ")
}

type verificationDoc struct {
	headDoc
	// of the look at packets; absent if there was none
	Window    *routing.Window   `json:"window,omitempty"`
	Addresses []migrate.Moved   `json:"addresses"`
	Findings  []routing.Finding `json:"findings"`
}

// JSON writes the result as one document of kind "verify".
func (v Verification) JSON(w io.Writer) error {
	summary := map[string]int{"addresses": len(v.Addresses), "findings": len(v.Findings)}
	for _, m := range v.Addresses {
		summary[m.State]++
	}
	doc := verificationDoc{headDoc: v.Head.doc("verify", "", summary),
		Findings: list(v.Findings), Addresses: mapped(v.Addresses, withLists)}
	if v.Seen != nil {
		doc.Window = &v.Seen.Window
	}
	return encode(w, doc)
}

// withLists is an address whose empty lists are lists.
func withLists(m migrate.Moved) migrate.Moved {
	m.Came = list(m.Came)
	m.Machines = list(mapped(m.Machines, func(x migrate.Machine) migrate.Machine {
		x.Names = list(x.Names)
		return x
	}))
	return m
}
