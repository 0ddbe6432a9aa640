package report

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// Text writes the plan for people: the status of each listener, the paths, the
// changes, notes, and what to do next.
func (p Plan) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	t.head("plan", p.Head)
	sentence, tone := p.verdict()
	writeVerdict(t, sentence, tone)
	writeLegend(t, p)
	p.Since.text(t)
	t.listeners(p)
	problems, notes := split(p.Plan.Findings)
	t.findings("Findings", problems)
	t.paths(p.Plan.Paths)
	t.moves(p)
	writePlanned(t, p)
	t.findings("Notes", notes)
	t.proof(p.Proof)
	guide(t, p.Plan.Findings)
	writeVerdict(t, sentence, tone)
	writeEnd(t, p)
	return t.writeTo(w)
}

// writeVerdict writes a verdict in the color of its tone.
func writeVerdict(t *page, sentence, tone string) {
	t.printf("\n")
	t.wrapIn(map[string]string{"good": green, "warn": yellow, "bad": red}[tone], "", sentence)
}

// writeLegend explains the marks of rows and the arrow between ways, if there
// are any.
func writeLegend(t *page, p Plan) {
	var parts []string
	if !p.Diff.Empty() {
		parts = append(parts,
			"Marks: ~ changes, + is new, - is removed, none: stays as it is.")
	}
	if slices.ContainsFunc(p.Plan.Outcomes, func(o routing.Outcome) bool {
		return !sameWay(o.Before, o.After)
	}) {
		parts = append(parts, "Replies to clients behind a router: without lasthop -> "+
			"with this plan.")
	}
	if len(parts) > 0 {
		t.wrap("", strings.Join(parts, " "))
	}
}

func writeEnd(t *page, p Plan) {
	switch {
	case p.Diff.Empty():
	case p.Next != "":
		t.command("Nothing was changed. To do exactly this", oneLine(p.Next))
	default:
		t.printf("Digest: %s\n", p.Digest)
	}
}

// Text writes what was done and how to take it back.
func (a Apply) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	if a.Quiet {
		if len(a.Done) > 0 {
			t.printf("lasthop apply: %s", count(len(a.Done), "change"))
			if a.Undo != "" { // a daemon keeps its changes
				t.printf("; to take this back: %s", oneLine(a.Undo))
			}
			t.printf("\n")
		}
		return t.writeTo(w)
	}
	if a.Diff.Empty() {
		t.printf("%s: nothing to do, nothing was written\n", t.paint(bold, "lasthop apply"))
		if n := byStatus(a.Plan.Plan.Outcomes)[routing.Unresolved]; n > 0 {
			t.printf("Unresolved: %s; lasthop plan says what is missing\n",
				count(n, "listener"))
		}
		return t.writeTo(w)
	}
	t.head("apply", a.Head)
	t.changes("Done", a.Done)
	t.checks(a.Checks, nil)
	problems, _ := split(a.Plan.Plan.Findings)
	t.findings("Findings", problems)
	guide(t, problems)
	t.command("\nTo take this back", oneLine(a.Undo))
	return t.writeTo(w)
}

// Text writes how each listener's replies leave now, or one line with Quiet.
func (c Check) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	if c.Quiet {
		t.printf("%s\n", c.oneLine())
		return t.writeTo(w)
	}
	t.head("check", c.Head)
	t.checks(c.Checks, c.Seen)
	t.findings("Findings", c.Plan.Findings)
	t.changes("Not as planned", c.Diff.Ops())
	guide(t, c.Plan.Findings)
	t.printf("\n")
	t.wrap("", c.oneLine())
	if !c.Diff.Empty() {
		t.command("To make the kernel as planned", oneLine(c.Remedy))
	}
	return t.writeTo(w)
}

// Bad counts the listeners whose replies do not leave the way their requests
// come in, or leave by an unknown way.
func (c Check) Bad() (bad int) {
	for _, x := range c.Checks {
		if x.Verdict.Bad() {
			bad++
		}
	}
	return bad
}

// Missing counts what lasthop owns and is gone, or was changed.
func (c Check) Missing() int { return len(c.Diff.Additions().Ops()) }

func (c Check) oneLine() string {
	word := "ok"
	if !c.Wanted() {
		word = "not ok"
	}
	verdicts := kinds(counted(c.Checks, func(x Checked) Verdict { return x.Verdict }),
		func(n int, v Verdict) string { return fmt.Sprintf("%d %s", n, v) }, verdicts...)
	if n := c.Missing(); n > 0 && c.Bad() == 0 {
		verdicts += fmt.Sprintf("; %s wanted", count(n, "change"))
	}
	if c.Plan.FellBack() {
		verdicts += "; strict in place of last-hop"
	}
	if list := c.Contradictions(); len(list) > 0 {
		verdicts += "; packets: " + severities(list)
	}
	return fmt.Sprintf("%s: %s: %s", word, count(len(c.Checks), "listener"), verdicts)
}

// Text writes what was removed, or with DryRun what would be.
func (c Clear) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	switch {
	case c.Diff.Empty():
		t.printf("%s: nothing to do, nothing here is lasthop's\n",
			t.paint(bold, "lasthop clear"))
	case c.DryRun:
		for _, op := range c.Diff.Ops() {
			t.printf("%s\n", oneLine(op.Command()))
		}
	default:
		t.head("clear", c.Head)
		t.changes("Removed", c.Done)
	}
	return t.writeTo(w)
}

// Text writes the version in one line.
func (v Version) Text(w io.Writer, _ Style) error {
	t := &page{}
	t.printf("lasthop %s (%s, %s", v.Lasthop, v.Go, v.Platform)
	if v.Revision != "" {
		t.printf(", revision %.12s", v.Revision)
	}
	if v.Modified {
		t.printf(", modified")
	}
	t.printf(")\n")
	return t.writeTo(w)
}

func (t *page) head(command string, h Head) {
	t.wrap("", fmt.Sprintf("%s on %s, Linux %s", t.paint(bold, "lasthop "+command),
		Escape(h.Host), Escape(h.Kernel)))
	var mains []string
	for _, in := range h.Inputs {
		if in.Main {
			mains = append(mains, Escape(in.File))
		}
	}
	if len(mains) == 0 {
		return
	}
	more := ""
	if n := len(h.Inputs) - len(mains); n > 0 {
		more = " and " + count(n, "included file")
	}
	t.wrap("from ", some(mains, 4)+more)
}

func (t *page) paths(paths []routing.Path) {
	if len(paths) == 0 {
		return
	}
	t.heading("Paths (%d)", len(paths))
	var rows []row
	for _, p := range paths {
		does := "nothing needed"
		if p.Table != 0 {
			does = fmt.Sprintf("table %d for %s", p.Table,
				some(prefixes(p), 3))
			if p.LastHop {
				does += ", last-hop"
			}
		}
		rows = append(rows, newRow("", Escape(p.Link), p.Family.String(),
			Escape(gateway(p)), does))
	}
	t.table(rows)
}

// nearbyTitle is the title of the clients nearby: once all is installed, their
// replies do not move any more.
func (p Plan) nearbyTitle() string {
	if p.Diff.Empty() {
		return "Clients nearby whose replies lasthop moves"
	}
	return "Clients nearby whose replies move"
}

// nearby are the moves except those of clients behind the gateways, which the
// listeners show.
func nearby(moves []routing.Move) []routing.Move {
	return slices.DeleteFunc(slices.Clone(moves),
		func(m routing.Move) bool { return m.Class == routing.ClassOffLink })
}

func clients(m routing.Move) []string { return mapped(m.Clients, netip.Prefix.String) }

// moves lists the clients nearby whose replies leave another way.
func (t *page) moves(p Plan) {
	near := nearby(p.Plan.Moves)
	if len(near) == 0 {
		return
	}
	t.heading("%s (%d)", p.nearbyTitle(), len(near))
	var rows []row
	var rest output
	for m := range each(&rest, near, textRest) {
		rows = append(rows, newRow("", Escape(m.Link), string(m.Class),
			some(clients(m), 3),
			Escape(m.Before.String())+" -> "+Escape(m.After.String())))
	}
	t.table(rows)
	t.printf("%s", rest.String())
}

// gateway names the gateways of a path and their source: "10.0.1.1, from the
// DHCP lease".
func gateway(p routing.Path) string { return gatewayName(p) + ", " + gatewaySource(p) }

func gatewayName(p routing.Path) string {
	return cmp.Or(some(gateways(p), 3), "no gateway (point to point)")
}

func gatewaySource(p routing.Path) string {
	source := map[routing.GatewaySource]string{routing.FromPin: "pinned",
		routing.FromHeld: "held from lasthop's own table",
		routing.FromMain: "from main's default"}[p.Source]
	if source == "" {
		source = "from the " + string(p.Source)
	}
	if p.Detail != "" && p.Detail != string(p.Source) {
		source += " (" + strings.TrimPrefix(p.Detail, string(p.Source)+" ") + ")"
	}
	if p.Source.Assumed() {
		source += ", assumed"
	}
	return source
}

func prefixes(p routing.Path) []string { return mapped(p.Prefixes, netip.Prefix.String) }

// gateways are the addresses of a path's gateways; none point to point.
func gateways(p routing.Path) []string {
	vias := mapped(p.Gateways(), func(h routing.Hop) string { return text(h.Via) })
	return slices.DeleteFunc(vias, func(via string) bool { return via == "" })
}

// changes lists writes as commands. Each is one line, however long, so that it
// can be copied.
func (t *page) changes(title string, ops []routing.Op) {
	writeOps(t, title, ops, func(routing.Op) byte { return 0 })
}

// writePlanned lists what the plan writes, with marks: what it adds, what it
// replaces and what it deletes.
func writePlanned(t *page, p Plan) {
	added := map[string]bool{} // what takes them back deletes them
	for _, op := range p.Back.Ops() {
		if op.Delete {
			added[object(op)] = true
		}
	}
	writeOps(t, "Changes", p.Diff.Ops(), func(op routing.Op) byte {
		switch {
		case op.Group != nil: // a link has one before and after
			return '~'
		case op.Delete:
			return '-'
		case added[object(op)]:
			return '+'
		}
		return '~'
	})
}

// object is what a write makes or deletes.
func object(op routing.Op) string {
	op.Delete = true
	return op.String()
}

func writeOps(t *page, title string, ops []routing.Op, mark func(routing.Op) byte) {
	if len(ops) == 0 {
		return
	}
	t.heading("%s (%d)", title, len(ops))
	for op := range each(&t.output, ops, textRest) {
		t.printf("%s\n", marked(mark(op), "  "+oneLine(op.Command())))
	}
}

// lines lists what the kernel or a file has named, up to a limit.
func (t *page) lines(color string, list []string) {
	for s := range each(&t.output, list, textRest) {
		t.wrapIn(color, "  ", Escape(s))
	}
}

const textRest = "  … and %d more; all of them with -o json\n"

// findings are written with the gravest first.
func (t *page) findings(title string, list []routing.Finding) {
	if len(list) == 0 {
		return
	}
	t.heading("%s (%d)", title, len(list))
	above := ""
	for f := range each(&t.output, gravest(list), textRest) {
		t.finding(f)
		remedy(t, "    ", f.Hint, above)
		above = f.Hint
	}
}

// split returns the findings of which something may have to be done, and those
// that are good to know.
func split(list []routing.Finding) (problems, notes []routing.Finding) {
	for _, f := range list {
		if f.Severity == routing.Info {
			notes = append(notes, f)
		} else {
			problems = append(problems, f)
		}
	}
	return problems, notes
}

// gravest sorts findings by severity, the gravest first. Those of a severity
// with the same remedy follow each other.
func gravest(list []routing.Finding) []routing.Finding {
	first := map[string]int{} // where a remedy is needed first
	for i, f := range slices.Backward(list) {
		first[f.Hint] = i
	}
	return slices.SortedStableFunc(slices.Values(list), func(a, b routing.Finding) int {
		return cmp.Or(a.Severity.Rank()-b.Severity.Rank(), first[a.Hint]-first[b.Hint])
	})
}

func bySeverity(list []routing.Finding) map[routing.Severity]int {
	return counted(list, func(f routing.Finding) routing.Severity { return f.Severity })
}

// severities counts findings: "2 errors, 1 warning".
func severities(list []routing.Finding) string {
	nouns := map[routing.Severity]string{routing.Error: "error", routing.Warning: "warning",
		routing.Info: "note"}
	say := func(n int, s routing.Severity) string { return count(n, nouns[s]) }
	return cmp.Or(kinds(bySeverity(list), say, routing.Error, routing.Warning, routing.Info),
		"none")
}

// origin is where a finding is from: a place in a file, or a rule, which `ip
// rule` prints with a tab.
func origin(f routing.Finding) string { return strings.ReplaceAll(f.Origin, "\t", " ") }

func (t *page) finding(f routing.Finding) {
	code := map[routing.Severity]string{routing.Error: red, routing.Warning: yellow}[f.Severity]
	t.wrapIn(code, "  ",
		fmt.Sprintf("%s: %s: %s", f.Severity, Escape(string(f.Code)), Escape(f.Subject)))
	t.wrap("    ", Escape(f.Message))
	if f.Origin != "" {
		t.wrap("    at: ", Escape(origin(f)))
	}
}
