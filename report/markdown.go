package report

import (
	"io"
	"regexp"
	"strings"

	"lasthop/routing"
)

// markdown collects a document in GitHub's Markdown.
type markdown struct {
	output
	plain *regexp.Regexp
}

// plainText is prose without special meaning in any Markdown: words with
// underscores inside, arrows, and punctuation. It has no @, #, www. or ://,
// which become links and mentions.
const plainText = `^(?:->|[\pL\pN]+(?:_[\pL\pN]+)*|[ ,.;:/()%='"+-])*$`

// Markdown writes the plan for a change ticket: as short as the text, every
// name in a code span.
func (p Plan) Markdown(w io.Writer) error {
	m := &markdown{plain: regexp.MustCompile(plainText)}
	verdict, _ := p.verdict()
	m.printf("# Return routes for NGINX on %s\n\n%s\n", m.code(p.Host), m.prose(verdict))
	m.table("", "")
	m.row("Host", m.code(p.Host)+", Linux "+m.code(p.Kernel))
	m.row("Time", utc(p.Time))
	m.row("lasthop", m.code(p.Lasthop))
	m.row("Digest", m.code(p.Digest))
	m.row("Findings", severities(p.Plan.Findings))
	if p.Seen != nil {
		m.row("Packets", looked(p.Seen))
	}
	p.Since.markdown(m)
	m.listeners(p)
	m.paths(bundles(p.Plan))
	m.moves(p)
	m.proof(p.Proof)
	m.findings(p.Plan.Findings)
	m.commands("Changes", p.Diff)
	m.commands("Undo", p.Back)
	if p.Next != "" {
		m.printf("\n## To do exactly this\n\n```sh\n%s\n```\n", oneLine(p.Next))
	}
	m.inputs(p.Inputs)
	return m.writeTo(w)
}

// code puts a name into a code span, in which only backticks and, in a row,
// pipes are special.
func (m *markdown) code(name string) string {
	if name == "" {
		return "-"
	}
	return "`" + strings.ReplaceAll(Escape(name), "`", `\x60`) + "`"
}

// command puts a command unchanged into a code span, between more backticks
// than it has in a row.
func (m *markdown) command(line string) string {
	line = oneLine(line)
	fence := "`"
	for strings.Contains(line, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		line = " " + line + " "
	}
	return fence + line + fence
}

// table begins a table.
func (m *markdown) table(heads ...string) {
	m.printf("\n")
	m.row(heads...)
	m.printf("%s|\n", strings.Repeat("|---", len(heads)))
}

// row writes one row of a table, in which a pipe needs a backslash, in code
// too.
func (m *markdown) row(cells ...string) {
	for _, c := range cells {
		m.printf("| %s ", strings.ReplaceAll(c, "|", `\|`))
	}
	m.printf("|\n")
}

// prose leaves a sentence unchanged, or makes it a code span if it could be
// more than words.
func (m *markdown) prose(s string) string {
	if m.plain.MatchString(s) && !strings.Contains(s, "://") &&
		!strings.Contains(strings.ToLower(s), "www.") {
		return s
	}
	return m.code(s)
}

func (m *markdown) listeners(p Plan) {
	m.printf("\n## Listeners (%s)\n\n%s.\n", number(len(p.Plan.Outcomes)),
		statuses(p.Plan.Outcomes))
	row := func(addr, ports, link, status, sight, way string) []string {
		if p.Seen == nil {
			return []string{addr, ports, link, status, way}
		}
		return []string{addr, ports, link, status, sight, way}
	}
	m.table(row("Address", "Port", "Interface", "Status", "Seen", "Replies leave by")...)
	rows, left := p.groups().shown()
	for _, x := range rows {
		m.row(row(m.code(x.addr), some(x.ports, 3), m.code(x.link), x.status,
			m.prose(x.seen), m.prose(x.way))...)
	}
	if left > 0 {
		m.printf("\n… and %s; all of them with `-o html`, `-o csv` or `-o json`.\n",
			count(left, "more address"))
	}
}

func (m *markdown) paths(all []bundle) {
	if len(all) == 0 {
		return
	}
	m.printf("\n## Paths (%s)\n", number(len(all)))
	m.table("Interface", "Family", "Gateway", "Table", "For sources", "Listeners",
		"Before", "After")
	for r := range each(&m.output, pathRows(all), tableRest) {
		gateway := r.Gateway
		if r.Source != "" {
			gateway += ", " + r.Source
		}
		m.row(m.code(r.Link), r.Family, m.prose(gateway), dash(numeral(r.Table)),
			dash(some(r.Prefixes, 3)), r.Listeners, m.prose(r.Before), m.prose(r.After))
	}
}

func (m *markdown) moves(p Plan) {
	near := nearby(p.Plan.Moves)
	if len(near) == 0 {
		return
	}
	m.printf("\n## %s (%s)\n", p.nearbyTitle(), number(len(near)))
	m.table("Interface", "Class", "Clients", "Before", "After")
	for x := range each(&m.output, near, tableRest) {
		m.row(m.code(x.Link), string(x.Class), some(clients(x), 3),
			m.prose(x.Before.String()), m.prose(x.After.String()))
	}
}

const (
	tableRest = "\n… and %d more; all of them with `-o html` or `-o json`.\n"
	listRest  = "- … and %d more; all of them with `-o html` or `-o json`\n"
)

func (m *markdown) proof(p *Proof) {
	if p == nil {
		return
	}
	m.printf("\n## Proof\n\n%s\n", m.prose(p.line()))
	m.lines("Differences", p.differences())
	m.lines(p.notRebuilt(), p.NotRebuilt)
}

func (m *markdown) lines(title string, list []string) {
	if len(list) == 0 {
		return
	}
	m.printf("\n%s:\n\n", title)
	for s := range each(&m.output, list, "- … and %d more; all of them with `-o json`\n") {
		m.printf("- %s\n", m.code(s))
	}
}

func (m *markdown) findings(list []routing.Finding) {
	if len(list) == 0 {
		return
	}
	m.printf("\n## Findings (%s)\n\n", number(len(list)))
	for f := range each(&m.output, gravest(list), listRest) {
		m.printf("- **%s** %s %s: %s\n", f.Severity, m.code(string(f.Code)),
			m.code(f.Subject), m.prose(f.Message))
		if f.Origin != "" {
			m.printf("  - at %s\n", m.code(origin(f)))
		}
		if f.Hint != "" {
			m.printf("  - do %s\n", m.command(f.Hint))
		}
	}
}

func (m *markdown) commands(title string, d routing.Diff) {
	ops := d.Ops()
	if len(ops) == 0 {
		return
	}
	m.printf("\n## %s (%s)\n\n```sh\n", title, number(len(ops)))
	const rest = "# … and %d more; all of them with -o html, -o json or -o iproute2\n"
	for op := range each(&m.output, ops, rest) {
		m.printf("%s\n", op.Command())
	}
	m.printf("```\n")
}

func (m *markdown) inputs(list []Input) {
	if len(list) == 0 {
		return
	}
	m.printf("\n## Files that this depends on (%s)\n", number(len(list)))
	m.table("File", "SHA-256")
	for in := range each(&m.output, list, tableRest) {
		m.row(m.code(in.File), m.code(in.SHA256))
	}
}
