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
	m.Since.markdown(d)
	d.virtuals(m.gravestFirst())
	d.findings(m.Findings)
	d.steps(m.Steps)
	d.inputs(m.Inputs)
	return d.writeTo(w)
}

func (m *markdown) virtuals(rows []migrate.Row) {
	if len(rows) == 0 {
		return
	}
	m.printf("\n## Virtual servers (%s with their VLANs)\n", number(len(rows)))
	m.table("Status", "Virtual server", "Destination", "VLAN = interface", "Replies there",
		"Replies here")
	const rest = "\n… and %d more; all of them with `-o html`, `-o csv` or `-o json`.\n"
	for r := range each(&m.output, rows, rest) {
		m.row(r.Status, m.code(r.Virtual), m.code(endpoint(r)), m.code(ingress(r)),
			m.prose(cmp.Or(r.Before, "-")), m.prose(rowFate(r)))
	}
}

func (s *Since) markdown(m *markdown) {
	if s == nil {
		return
	}
	m.printf("\n## Changed since\n\n%s\n", m.prose(s.Title()))
	switch {
	case len(s.Changes) == 0:
	case s.OfPlan():
		m.table("Change", "Of a", "Name", "Where", "What")
	default:
		m.table("Change", "Virtual server", "Where", "What")
	}
	const rest = "\n… and %d more; all of them with `-o html` or `-o json`.\n"
	for c := range each(&m.output, s.Changes, rest) {
		cells := c.cells()
		named := cells[len(cells)-3:]
		m.row(append(cells[:len(cells)-3:len(cells)-3], m.code(named[0]), m.code(named[1]),
			m.prose(named[2]))...)
	}
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
			const rest = "   # … and %d more; all of them with -o html or -o json\n"
			for line := range each(&m.output, s.Lines, rest) {
				m.printf("   %s\n",
					strings.ReplaceAll(oneLine(line), "```", `\x60\x60\x60`))
			}
			m.printf("   ```\n")
		}
		for _, note := range s.Notes {
			m.printf("\n   %s\n", m.prose(note))
		}
	}
}

type migrationPage struct {
	frame
	Since    *Since
	Virtuals []migrate.Row // the gravest first
	Flags    string
	Steps    []migrate.Step
}

// HTML writes the result as one self-contained page, in the frame of Plan.HTML.
func (m Migration) HTML(w io.Writer) error {
	page := migrationPage{m.frame(), m.Since, m.gravestFirst(), strings.Join(m.Flags, " "),
		m.Steps}
	return page.write(w, "migrate.html", page)
}

func (m Migration) frame() frame {
	from, to := m.title()
	f := newFrame("Migration of "+from+" to "+to, m.Head, bundles(m.Plan), m.Findings)
	f.Undrawn = strings.TrimSpace("One for each address. Before: this host without lasthop; " +
		"after: with the present settings. " + undrawn(m.Plan.Outcomes))
	f.Verdict = m.verdict()
	byStatus, total, lastHop := m.tally()
	f.Facts = append(f.Facts, fact{"From", m.source()})
	f.Tiles = []tile{newTile(total, "virtual servers", "")}
	for _, s := range migrationStatuses {
		n := byStatus[s.status]
		t := newTile(n, s.of(n), s.tone)
		f.Tiles, f.Tone = append(f.Tiles, t), cmp.Or(f.Tone, t.Tone)
	}
	if len(m.lost()) > 0 && f.Tone == "good" {
		f.Tone = "warn"
	}
	f.Tone = cmp.Or(f.Tone, "good")
	f.Tiles = append(f.Tiles, newTile(m.decided(), "ready by a decision", "warn"),
		newTile(lastHop, "relied on the last hop", ""))
	rows := counted(m.Rows, func(r migrate.Row) string { return r.Status })
	f.Statuses = mapped(migrationStatuses, func(s migrationStatus) tile {
		return newTile(rows[s.status], s.status, "")
	})
	return f
}
