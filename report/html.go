package report

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"lasthop/routing"
)

// web holds the page: frame.html is the frame and the parts that every HTML
// report shares, drawings.html the ways of replies, plan.html, migrate.html and
// fleet.html the parts of a plan, of a migration and of a fleet.
//
//go:embed web
var web embed.FS

// functions are what the templates call. A template escapes each name, by
// escape or by a function that does so itself; html/template does the rest.
var functions = template.FuncMap{
	"anyTall": func(all []drawing) bool { return slices.ContainsFunc(all, drawing.tall) },
	"breaks":  breaks, "clients": clients, "dash": dash, "differences": (*Proof).differences,
	"endpoint": endpoint,
	"escape":   func(v any) string { return Escape(fmt.Sprint(v)) },
	"hosts":    func(n int) string { return count(n, "host") },
	"legend":   legend, "line": (*Proof).line,
	"more": func(r troubleRow) int { return len(r.Rest) + r.MoreDiffers }, "names": namesOf,
	"next": func(i int) int { return i + 1 }, "notRebuilt": (*Proof).notRebuilt,
	"oneLine": oneLine, "origin": origin, "phase": phaseTitle, "port": routing.Outcome.PortName,
	"shell": routing.Op.Command, "short": short, "some": some, "stepName": stepName,
	"tall":     drawing.tall,
	"unproved": FleetHost.unproved,
}

// frame is what every HTML page has: head, title, verdict, numbers, the drawing
// and the findings.
type frame struct {
	Title, Verdict string
	Tone           string // of the verdict: good, warn or bad
	Facts          []fact // who, where, when, from what
	Inputs         []Input
	Tiles          []tile
	Drawings       []drawing
	Undrawn        string // what the drawing leaves out
	Statuses       []tile // of the rows of the table, for its filter
	Findings       []severityGroup
	Style          template.CSS
	Script         template.JS
	Policy         string // the content security policy
}

type fact struct{ Name, Value string }

// tile is a number that the page begins with.
type tile struct{ Number, Label, Tone string }

type planPage struct {
	frame
	Listeners   []listenerRow // by address and port
	Looked      bool          // from packets
	Paths       []pathRow
	Nearby      string         // the title of Moves
	Moves       []routing.Move // of clients nearby
	Proof       *Proof
	Since       *Since
	Apply, Undo []routing.Op
	Next        string
}

// listenerRow is one row of the table of listeners. Tone is that of Seen: bad,
// warn or none.
type listenerRow struct {
	routing.Outcome
	Seen, Tone string
	Ways       []string // before and after
}

// names are a few names to show, and the further ones behind a click.
type names struct {
	First string
	More  []string
	Left  int // not even there
}

// Rest describes how many names are hidden.
func (n names) Rest() string { return number(len(n.More) + n.Left) }

// pathRow is one row of the table of paths. Source is "" if the gateway is not
// known.
type pathRow struct {
	Link, Family, Gateway, Source, Listeners, Before, After string
	Table                                                   uint32
	Prefixes                                                []string
}

type severityGroup struct {
	Severity, Title string
	Findings        []routing.Finding
}

// HTML writes the plan as one self-contained page: it needs no other file and
// no script from elsewhere.
func (p Plan) HTML(w io.Writer) error {
	all := bundles(p.Plan)
	sight, near := sightings(p.Seen), movesOf(p.Plan)
	rows := mapped(byAddress(p.Plan.Outcomes), func(o routing.Outcome) listenerRow {
		color, words := sight(o)
		tone := map[string]string{red: "bad", yellow: "warn"}[color]
		return listenerRow{o, words, tone, near.ways(o)}
	})
	page := planPage{p.frame(all), rows, p.Seen != nil, pathRows(all),
		p.nearbyTitle(), nearby(p.Plan.Moves), p.Proof, p.Since,
		p.Diff.Ops(), p.Back.Ops(), p.Next}
	return page.write(w, "plan.html", page)
}

// frame fills the frame of a plan.
func (p Plan) frame(all []bundle) frame {
	f := newFrame("Return routes for NGINX on "+cmp.Or(p.Host, "this host"), p.Head, all,
		p.Plan.Findings)
	f.Undrawn, f.Statuses = undrawn(p.Plan.Outcomes), statusTiles(p.Plan.Outcomes)
	f.Verdict, f.Tone = p.verdict()
	n := bySeverity(p.Plan.Findings)
	f.Facts = append(f.Facts, fact{"Digest of the plan", p.Digest})
	if p.Seen != nil {
		f.Facts = append(f.Facts, fact{"Packets", looked(p.Seen)})
	}
	f.Tiles = slices.Concat([]tile{newTile(len(p.Plan.Outcomes), "listeners", "")}, f.Statuses,
		[]tile{newTile(len(p.Plan.Paths), "paths", ""),
			newTile(len(p.Diff.Ops()), "changes", ""),
			newTile(n[routing.Error], "errors", "bad"),
			newTile(n[routing.Warning], "warnings", "warn"),
			newTile(n[routing.Info], "notes", "")})
	return f
}

// newTile has the tone if the count is not 0.
func newTile(n int, label, tone string) tile {
	if n == 0 {
		tone = ""
	}
	return tile{number(n), label, tone}
}

// newFrame takes style and script from their files; the policy allows these two
// and nothing else.
func newFrame(title string, h Head, drawn []bundle, findings []routing.Finding) frame {
	f := frame{Title: title, Inputs: h.Inputs, Drawings: drawings(drawn),
		Findings: severityGroups(findings),
		Facts: []fact{{"Host", Escape(cmp.Or(h.Host, "-"))},
			{"Kernel", "Linux " + Escape(h.Kernel)}, {"Time", utc(h.Time)},
			{"lasthop", Escape(h.Lasthop)}}}
	style, _ := web.ReadFile("web/page.css") // fails only for a file that is not embedded
	script, _ := web.ReadFile("web/page.js")
	f.Style, f.Script = template.CSS(style), template.JS(script)
	f.Policy = "default-src 'none'; style-src '" + hash(style) + "'; script-src '" +
		hash(script) + "'; base-uri 'none'; form-action 'none'"
	return f
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// write fills the frame with the parts that the named file defines.
func (frame) write(w io.Writer, file string, data any) error {
	t, err := template.New(file).Funcs(functions).ParseFS(web, "web/frame.html",
		"web/drawings.html", "web/"+file)
	if err != nil {
		return err
	}
	var b bytes.Buffer // a closed pipe is one error
	if err := t.ExecuteTemplate(&b, "frame", data); err != nil {
		return err
	}
	_, err = b.WriteTo(w)
	return err
}

// statusTiles counts the statuses that occur, and always the unresolved ones.
func statusTiles(outcomes []routing.Outcome) []tile {
	n := byStatus(outcomes)
	tone := map[routing.Status]string{routing.Ready: "good", routing.Armed: "good",
		routing.Unresolved: "bad"}
	var out []tile
	for _, s := range []routing.Status{routing.Ready, routing.Armed, routing.Unchanged,
		routing.LocalOnly, routing.Off, routing.Unresolved} {
		if n[s] > 0 || s == routing.Unresolved {
			out = append(out, newTile(n[s], string(s), tone[s]))
		}
	}
	return out
}

// undrawn lists what the drawing leaves out.
func undrawn(outcomes []routing.Outcome) string {
	n := byStatus(outcomes)
	left := n[routing.LocalOnly] + n[routing.Off]
	if left == 0 {
		return ""
	}
	return "Not drawn: " + count(left, "listener") + " without a gateway, or switched off."
}

func byAddress(outcomes []routing.Outcome) []routing.Outcome {
	return slices.SortedStableFunc(slices.Values(outcomes), func(a, b routing.Outcome) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Ports.First, b.Ports.First),
			cmp.Compare(a.Transport, b.Transport))
	})
}

// breaks allows a line to end inside long words: after the punctuation of
// addresses, names and paths. A copy of the text gains no character.
func breaks(s string) template.HTML {
	var b strings.Builder
	for i, word := range strings.Split(s, " ") {
		if i > 0 {
			b.WriteByte(' ')
		}
		begin := 0
		for end := range len(word) {
			// not more than needed: there are thousands of rows
			if end-begin >= 10 && len(word)-end >= 4 &&
				breaksAt(word[end-1], word[end]) {
				template.HTMLEscape(&b, []byte(word[begin:end]))
				b.WriteString("<wbr>")
				begin = end
			}
		}
		template.HTMLEscape(&b, []byte(word[begin:]))
	}
	return template.HTML(b.String())
}

// breaksAt reports whether a line may end between two characters: not in an
// IPv4 address, and not in "::".
func breaksAt(before, after byte) bool {
	switch before {
	case '.':
		return after > '9'
	case ':':
		return after != ':'
	}
	return strings.IndexByte("/-_,@=", before) >= 0 && after != '>'
}

// maxNames bounds the names of one row, so that the page does not grow with the
// square of a configuration.
const maxNames = 100

func namesOf(all []string, shown int) names {
	some := mapped(all[:min(len(all), maxNames)], Escape)
	shown = min(shown, len(some))
	return names{strings.Join(some[:shown], ", "), some[shown:], len(all) - len(some)}
}

// ways tells the ways before and after of one listener, in the words of fate.
func (m pathMoves) ways(o routing.Outcome) []string {
	switch {
	case o.Status == routing.LocalOnly, o.Status == routing.Off:
		return []string{"-", m.fate(o)}
	case sameWay(o.Before, o.After):
		return []string{o.Before.String(), m.same(o)}
	}
	return []string{o.Before.String(), o.After.String()}
}

func pathRows(all []bundle) []pathRow {
	return mapped(all, func(b bundle) pathRow {
		r := pathRow{Link: b.link, Family: b.family.String(), Listeners: b.fate(),
			Before: sentence(b.before), After: sentence(b.after)}
		r.Gateway, r.Source = b.gateway()
		if b.path != nil {
			r.Table, r.Prefixes = b.path.Table, prefixes(*b.path)
		}
		return r
	})
}

// severityGroups sorts findings by gravity.
func severityGroups(list []routing.Finding) []severityGroup {
	groups := []severityGroup{{"error", "Errors", nil}, {"warning", "Warnings", nil},
		{"info", "Notes", nil}}
	for _, f := range list {
		g := &groups[max(f.Severity.Rank(), 0)]
		g.Findings = append(g.Findings, f)
	}
	return slices.DeleteFunc(groups, func(g severityGroup) bool { return len(g.Findings) == 0 })
}
