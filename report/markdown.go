package report

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"lasthop/routing"
)

// markdown collects a document in GitHub's Markdown.
type markdown struct {
	strings.Builder
	plain *regexp.Regexp
}

// plainText is prose that no Markdown takes for more: words with underscores inside, arrows, and marks of a sentence. No @, #, www.
// or ://, which become links and calls to people.
const plainText = `^(?:->|[\pL\pN]+(?:_[\pL\pN]+)*|[ ,.;:/()%='"+-])*$`

// Markdown writes the plan for a change ticket: as short as the text, every name in a code span.
func (p Plan) Markdown(w io.Writer) error {
	m := &markdown{plain: regexp.MustCompile(plainText)}
	m.printf("# Return routes for NGINX on %s\n\n%s\n\n", m.code(p.Host), m.prose(p.verdict()))
	m.printf("| | |\n|---|---|\n| Host | %s, Linux %s |\n| Time | %s |\n| lasthop | %s |\n| Digest | %s |\n| Findings | %s |\n",
		m.code(p.Host), m.code(p.Kernel), p.Time.UTC().Format("2006-01-02 15:04:05 UTC"), m.code(p.Lasthop), m.code(p.Digest), m.prose(severities(p.Plan.Findings)))
	m.listeners(p.Plan.Outcomes)
	m.paths(bundles(p.Plan))
	m.proof(p.Proof)
	m.findings(p.Plan.Findings)
	m.commands("Changes", p.Diff)
	m.commands("Undo", p.Back)
	if p.Next != "" {
		m.printf("\n## To do exactly this\n\n```sh\n%s\n```\n", oneLine(p.Next))
	}
	m.inputs(p.Inputs)
	_, err := io.WriteString(w, m.String())
	return err
}

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

// code puts a name into a code span, where only backticks and, in tables, pipes mean something.
func (m *markdown) code(name string) string {
	if name == "" {
		return "-"
	}
	return "`" + strings.ReplaceAll(m.line(name), "|", `\|`) + "`"
}

// line escapes a name, backticks too.
func (m *markdown) line(s string) string { return strings.ReplaceAll(Escape(s), "`", `\x60`) }

// prose leaves a sentence as it is, or makes it a code span where it could be more than words.
func (m *markdown) prose(s string) string {
	if m.plain.MatchString(s) && !strings.Contains(s, "://") && !strings.Contains(strings.ToLower(s), "www.") {
		return s
	}
	return m.code(s)
}

func (m *markdown) listeners(outcomes []routing.Outcome) {
	m.printf("\n## Listeners (%s)\n\n%s.\n\n| Address | Port | Interface | Status | Replies leave by |\n|---|---|---|---|---|\n",
		number(len(outcomes)), strings.Join(statuses(outcomes), ", "))
	rows, left := outcomeGroups(outcomes).shown()
	for _, x := range rows {
		m.printf("| %s | %s | %s | %s | %s |\n", m.code(x.addr), some(x.ports, 3), m.code(x.link), x.status, m.prose(x.way))
	}
	if left > 0 {
		m.printf("\n… and %s; all of them with `-o html`, `-o csv` or `-o json`.\n", count(left, "more address"))
	}
}

func (m *markdown) paths(all []bundle) {
	if len(all) == 0 {
		return
	}
	m.printf("\n## Paths (%s)\n\n| Interface | Family | Gateway | Table | For sources | Listeners | Before | After |\n|---|---|---|---|---|---|---|---|\n", number(len(all)))
	for _, b := range all[:listed(len(all))] {
		gatewayCell, table, sources := "not known", "-", "-"
		if b.path != nil {
			gatewayCell, table, sources = m.prose(gateway(*b.path)), dash(numeral(b.path.Table)), dash(some(prefixes(b.path.Prefixes), 3))
		}
		m.printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", m.code(b.link), b.family, gatewayCell, table, sources, b.fate(),
			m.prose(sentence(b.before)), m.prose(sentence(b.after)))
	}
	m.rest("\n… and %d more; all of them with `-o html` or `-o json`.\n", len(all))
}

// listed is how many of n things are listed one by one.
func listed(n int) int {
	if n > maxRows+1 {
		return maxRows
	}
	return n
}

// rest says how many of n things are not listed, and where they are.
func (m *markdown) rest(format string, n int) {
	if left := n - listed(n); left > 0 {
		m.printf(format, left)
	}
}

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
	for _, s := range list[:listed(len(list))] {
		m.printf("- %s\n", m.code(s))
	}
	m.rest("- … and %d more; all of them with `-o json`\n", len(list))
}

func (m *markdown) findings(list []routing.Finding) {
	if len(list) == 0 {
		return
	}
	m.printf("\n## Findings (%s)\n\n", number(len(list)))
	for _, f := range gravest(list)[:listed(len(list))] {
		m.printf("- **%s** %s %s: %s\n", f.Severity, m.code(string(f.Code)), m.code(f.Subject), m.prose(f.Message))
		if f.Origin != "" {
			m.printf("  - at %s\n", m.code(origin(f)))
		}
		if f.Hint != "" {
			m.printf("  - do %s\n", m.code(f.Hint))
		}
	}
	m.rest("- … and %d more; all of them with `-o html` or `-o json`\n", len(list))
}

func (m *markdown) commands(title string, d routing.Diff) {
	ops := d.Ops()
	if len(ops) == 0 {
		return
	}
	m.printf("\n## %s (%s)\n\n```sh\n", title, number(len(ops)))
	for _, op := range ops[:listed(len(ops))] {
		m.printf("%s\n", shellCommand(op))
	}
	m.rest("# … and %d more; all of them with -o html, -o json or -o iproute2\n", len(ops))
	m.printf("```\n")
}

func (m *markdown) inputs(list []Input) {
	if len(list) == 0 {
		return
	}
	m.printf("\n## Files that this depends on (%s)\n\n| File | SHA-256 |\n|---|---|\n", number(len(list)))
	for _, in := range list[:listed(len(list))] {
		m.printf("| %s | %s |\n", m.code(in.File), m.code(in.SHA256))
	}
	m.rest("\n… and %d more; all of them with `-o html` or `-o json`.\n", len(list))
}
