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
	t.listeners(p.Plan.Outcomes, p.Seen)
	t.paths(p.Plan.Paths)
	t.moves(p.Plan.Moves)
	t.changes("Changes", p.Diff.Ops())
	t.findings(p.Plan.Findings)
	t.proof(p.Proof)
	t.planEnd(p)
	return t.writeTo(w)
}

func (t *page) planEnd(p Plan) {
	t.printf("\n")
	switch {
	case p.Diff.Empty() && len(p.Plan.State.Rules) == 0:
		t.wrap("", nothingNeeded(p.Plan))
	case p.Diff.Empty():
		t.printf("Nothing to do: everything is in place.\n")
	case p.Next != "":
		t.command("Nothing was changed. To do exactly this", oneLine(p.Next))
	default:
		t.printf("Digest: %s\n", p.Digest)
	}
}

// nothingNeeded explains why there is nothing to do. It promises no more than
// what is known: for other listeners it names what they rest on.
func nothingNeeded(p routing.Plan) string {
	if slices.ContainsFunc(p.Outcomes, routing.Outcome.Asks) {
		return "Nothing to do yet: the findings say what lasthop must know of the " +
			"unresolved listeners. A flag is for one command; the settings in " +
			"/etc/lasthop/lasthop.yaml are for all, and for the service."
	}
	n := counted(p.Outcomes, func(o routing.Outcome) string { return restsOn(p, o) })
	warned := slices.ContainsFunc(p.Findings,
		func(f routing.Finding) bool { return f.Severity != routing.Info })
	if n[known] == len(p.Outcomes) && !warned {
		return "Nothing to do: every reply leaves the way its request came in."
	}
	text := "Nothing to do. Listeners: " + kinds(n,
		func(n int, what string) string { return number(n) + " " + what },
		known, assumed, decided, hostLocal, switchedOff) + "."
	if warned {
		text += " The findings say what else may be."
	}
	return text
}

// What the way of a listener rests on.
const (
	known       = "by a known gateway"
	assumed     = "by an assumed gateway"
	decided     = "by the gateway that a person named"
	hostLocal   = "host-local"
	switchedOff = "switched off"
)

func restsOn(p routing.Plan, o routing.Outcome) string {
	path := p.PathOf(o)
	switch {
	case o.Status == routing.Off:
		return switchedOff
	case path == nil:
		return hostLocal
	case path.Source.Assumed():
		return assumed
	case path.Source == routing.FromPin || path.Source == routing.FromStatic:
		return decided
	}
	return known
}

// Text writes what was done and how to undo it.
func (a Apply) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	if a.Quiet {
		if len(a.Done) > 0 {
			t.printf("lasthop apply: %s; to take this back: %s\n",
				count(len(a.Done), "change"), oneLine(a.Undo))
		}
		return t.writeTo(w)
	}
	if a.Diff.Empty() {
		t.printf("%s: nothing to do, nothing was written\n", t.paint(bold, "lasthop apply"))
		return t.writeTo(w)
	}
	t.head("apply", a.Head)
	t.changes("Done", a.Done)
	t.checks(a.Checks, nil)
	t.findings(noNotes(a.Plan.Plan.Findings))
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
	t.changes("Not as planned", c.Diff.Ops())
	t.findings(c.Plan.Findings)
	t.printf("\n%s\n", c.oneLine())
	if !c.Diff.Empty() {
		t.printf("To make the kernel as planned:\n  %s\n", t.paint(bold, oneLine(c.Mend)))
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
		func(n int, v Verdict) string { return fmt.Sprintf("%d %s", n, v) },
		Symmetric, Asymmetric, NotKnown, NotHere, NotHereWrong, NoGateway, NotAsked)
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

const nearbyTitle = "Clients nearby whose replies move"

// nearby are the moves except those of clients behind the gateways, which the
// listeners show.
func nearby(moves []routing.Move) []routing.Move {
	return slices.DeleteFunc(slices.Clone(moves),
		func(m routing.Move) bool { return m.Class == routing.ClassOffLink })
}

func clients(m routing.Move) []string { return mapped(m.Clients, netip.Prefix.String) }

// moves lists the clients nearby whose replies leave another way.
func (t *page) moves(moves []routing.Move) {
	near := nearby(moves)
	if len(near) == 0 {
		return
	}
	t.heading(nearbyTitle+" (%d)", len(near))
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
		routing.FromHeld: "held from our own table",
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

func (t *page) changes(title string, ops []routing.Op) {
	if len(ops) == 0 {
		return
	}
	t.heading("%s (%d)", title, len(ops))
	for op := range each(&t.output, ops, textRest) {
		t.printf("  %s\n", oneLine(op.Command()))
	}
}

// lines lists what the kernel or a file has named, up to a limit.
func (t *page) lines(color string, list []string) {
	for s := range each(&t.output, list, textRest) {
		t.printf("  %s\n", t.paint(color, Escape(s)))
	}
}

const textRest = "  … and %d more; all of them with -o json\n"

// findings are written with the gravest first.
func (t *page) findings(list []routing.Finding) {
	if len(list) == 0 {
		return
	}
	t.heading("Findings (%d)", len(list))
	for f := range each(&t.output, gravest(list), textRest) {
		t.finding(f)
	}
}

// noNotes are the findings that may require an action.
func noNotes(list []routing.Finding) []routing.Finding {
	return slices.DeleteFunc(slices.Clone(list),
		func(f routing.Finding) bool { return f.Severity == routing.Info })
}

// gravest sorts findings by severity, the gravest first.
func gravest(list []routing.Finding) []routing.Finding {
	return slices.SortedStableFunc(slices.Values(list), func(a, b routing.Finding) int {
		return a.Severity.Rank() - b.Severity.Rank()
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
	t.printf("  %s\n", t.paint(code,
		fmt.Sprintf("%s: %s: %s", f.Severity, Escape(string(f.Code)), Escape(f.Subject))))
	t.wrap("    ", Escape(f.Message))
	if f.Origin != "" {
		t.wrap("    at: ", Escape(origin(f)))
	}
	if f.Hint != "" {
		t.wrap("    do: ", oneLine(f.Hint))
	}
}
