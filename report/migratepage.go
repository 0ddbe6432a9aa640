package report

import (
	"cmp"
	"io"
	"regexp"
	"strings"

	"lasthop/bigip/migrate"
)

// title names both ends.
func (m Migration) title() (from, to string) {
	return cmp.Or(m.BIGIP.Hostname, "a BIG-IP"), cmp.Or(m.Host, "this host")
}

// Markdown writes the result for a change ticket: as short as the text, every
// name in a code span.
func (m Migration) Markdown(w io.Writer) error {
	d := &markdown{plain: regexp.MustCompile(plainText)}
	from, to := m.title()
	d.printf("# Migration of %s to %s\n\n%s\n", d.code(from), d.code(to), d.prose(m.verdict()))
	d.table("", "")
	d.row("From", d.prose(m.source()))
	d.row("Host", d.code(m.Host)+", Linux "+d.code(m.Kernel))
	d.row("Time", utc(m.Time))
	d.row("lasthop", d.code(m.Lasthop))
	d.row("Findings", severities(m.Findings))
	d.virtuals(m.gravestFirst())
	d.findings(m.Findings)
	d.steps(m.Steps)
	d.inputs(m.Inputs)
	_, err := io.WriteString(w, d.String())
	return err
}

func (m *markdown) virtuals(rows []migrate.Row) {
	if len(rows) == 0 {
		return
	}
	m.printf("\n## Virtual servers (%s with their VLANs)\n", number(len(rows)))
	m.table("Status", "Virtual server", "Destination", "VLAN = interface", "Replies there",
		"Replies here")
	for _, r := range rows[:listed(len(rows))] {
		m.row(r.Status, m.code(r.Virtual), m.code(endpoint(r)), m.code(ingress(r)),
			m.prose(cmp.Or(r.Before, "-")), m.prose(rowFate(r)))
	}
	m.rest("\n… and %d more; all of them with `-o html`, `-o csv` or `-o json`.\n", len(rows))
}

func (m *markdown) steps(steps []migrate.Step) {
	phase := ""
	for i, s := range steps {
		if s.Phase != phase {
			phase = s.Phase
			m.printf("\n## %s\n", phaseTitle(phase))
		}
		m.printf("\n%d. %s\n", i+1, m.prose(stepName(s)))
		if len(s.Lines) > 0 {
			m.printf("\n   ```%s\n",
				map[string]string{"nginx.conf": "nginx",
					"lasthop.yaml": "yaml"}[s.Where])
			for _, line := range s.Lines[:listed(len(s.Lines))] {
				m.printf("   %s\n",
					strings.ReplaceAll(oneLine(line), "```", `\x60\x60\x60`))
			}
			m.rest("   # … and %d more; all of them with -o html or -o json\n",
				len(s.Lines))
			m.printf("   ```\n")
		}
		for _, note := range s.Notes {
			m.printf("\n   %s\n", m.prose(note))
		}
	}
}

type migrationPage struct {
	frame
	Drawings []drawing
	Legend   []legendEntry
	Undrawn  string
	Virtuals []virtualCells
	Statuses []tile
	Phases   []phasePart
	Flags    string
	Findings []severityGroup
}

// virtualCells is one row of the table. Class is the status, for the filter.
type virtualCells struct {
	Virtual, Origin, Endpoint, VLAN, Interface, Decided, Listen, Gateway, Class, Status, Reason,
	Remedy, Before, After string
}

type phasePart struct {
	Title string
	Steps []stepPart
}

type stepPart struct {
	Number      int
	Name, Lines string
	Notes       []string
}

// HTML writes the result as one self-contained page, in the frame of Plan.HTML.
func (m Migration) HTML(w io.Writer) error {
	drawn := drawings(bundles(m.Plan))
	page := migrationPage{frame: m.frame(), Drawings: drawn, Legend: legend(drawn),
		Undrawn: strings.TrimSpace("One for each address. Before: this host without " +
			"lasthop; after: with what is known now. " + undrawn(m.Plan.Outcomes)),
		Statuses: m.tiles(), Phases: m.phases(), Flags: oneLine(strings.Join(m.Flags, " ")),
		Findings: severityGroups(m.Findings)}
	for _, r := range m.gravestFirst() {
		page.Virtuals = append(page.Virtuals, cellsOf(r))
	}
	return page.write(w, "migrate.html", page)
}

func (m Migration) frame() frame {
	from, to := m.title()
	f := newFrame("Migration of "+Escape(from)+" to "+Escape(to), m.Head)
	f.Verdict = m.verdict()
	byStatus, total, lastHop := m.tally()
	f.Facts = append(f.Facts, fact{"From", m.source()})
	f.Tiles = []tile{{number(total), "virtual servers", ""}}
	for _, s := range migrationStatuses {
		tone := toneIf(byStatus[s.status], s.tone)
		f.Tiles = append(f.Tiles, tile{number(byStatus[s.status]), s.name, tone})
		f.Tone = cmp.Or(f.Tone, tone)
	}
	f.Tone = cmp.Or(f.Tone, "good")
	f.Tiles = append(f.Tiles, tile{number(lastHop), "relied on the last hop", ""})
	f.Sections = []section{{"drawing", "Drawing"}, {"virtuals", "Virtual servers"},
		{"findings", "Findings"}, {"steps", "Steps"}, {"provenance", "Provenance"}}
	return f
}

// tiles counts rows, for the filter.
func (m Migration) tiles() []tile {
	n := map[string]int{}
	for _, r := range m.Rows {
		n[r.Status]++
	}
	var out []tile
	for _, s := range migrationStatuses {
		out = append(out, tile{number(n[s.status]), s.status, ""})
	}
	return out
}

func cellsOf(r migrate.Row) virtualCells {
	c := virtualCells{Virtual: Escape(r.Virtual), Origin: Escape(r.Origin),
		Endpoint: endpoint(r), VLAN: dash(short(r.VLAN)),
		Interface: dash(Escape(r.Interface)),
		Decided:   "-", Listen: "-", Gateway: dash(Escape(r.Gateway)), Class: r.Status,
		Status: r.Status, Reason: r.Reason, Remedy: oneLine(r.Remedy),
		Before: dash(Escape(r.Before)), After: dash(Escape(r.After))}
	if r.Level != "" {
		c.Decided = Escape(r.Level + ": " + r.Value)
	}
	if r.Match != "" {
		c.Listen = strings.TrimSpace(r.Match + " " + Escape(r.Listen))
	}
	if r.GatewaySource != "" {
		c.Gateway += ", " + Escape(r.GatewaySource)
	}
	if !r.Present && r.Address != "" && r.Status != migrate.NotApplicable {
		c.Endpoint += ", not here yet"
	}
	return c
}

func (m Migration) phases() []phasePart {
	var out []phasePart
	for i, s := range m.Steps {
		if title := phaseTitle(s.Phase); len(out) == 0 || out[len(out)-1].Title != title {
			out = append(out, phasePart{Title: title})
		}
		part := stepPart{Number: i + 1, Name: stepName(s)}
		for _, line := range s.Lines {
			part.Lines += oneLine(line) + "\n"
		}
		for _, note := range s.Notes {
			part.Notes = append(part.Notes, Escape(note))
		}
		last := &out[len(out)-1]
		last.Steps = append(last.Steps, part)
	}
	return out
}
