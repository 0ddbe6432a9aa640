package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Style says how text may look.
type Style struct {
	Color bool
	All   bool // list every listener, however many there are
}

// most is how many addresses and changes are listed one by one.
const most = 24

const (
	red    = "31"
	yellow = "33"
	green  = "32"
	bold   = "1"
)

func (s Style) paint(code, text string) string {
	if !s.Color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// JSON writes the document, indented.
func JSON(w io.Writer, doc any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// Text writes a plan for people: what becomes of each listener, by which paths, what would be written, what to know, what to do next.
func Text(w io.Writer, doc Document, s Style) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s (Linux %s)\n", s.paint(bold, "lasthop "+doc.Kind), Clean(doc.Host), Clean(doc.Kernel))
	for _, in := range doc.Inputs {
		fmt.Fprintf(&b, "  read %s\n", Clean(in.File))
	}
	listeners(&b, doc, s)
	paths(&b, doc, s)
	changes(&b, doc, s)
	Findings(&b, doc.Findings, s)
	next(&b, doc, s)
	_, err := io.WriteString(w, b.String())
	return err
}

// group is what listeners have in common in the report: the address, or where there are many, all but the address.
type group struct {
	link, status, way string
	addrs             []string
	ports             []string
}

func listeners(b *strings.Builder, doc Document, s Style) {
	fmt.Fprintf(b, "\n%s\n", s.paint(bold, fmt.Sprintf("Listeners (%d) and the way of their replies to clients behind a router", len(doc.Listeners))))
	groups := grouped(doc.Listeners, true)
	if len(groups) > most && !s.All {
		groups = grouped(doc.Listeners, false)
	}
	rows := [][]string{}
	for _, g := range groups {
		rows = append(rows, []string{some(g.addrs, "address", "addresses"), some(g.ports, "port", "ports"), cmp.Or(Clean(g.link), "-"), g.status, g.way})
	}
	table(b, rows, func(row []string) string {
		switch {
		case strings.HasPrefix(row[3], "unresolved"):
			return red
		case row[3] == "ready" || row[3] == "armed":
			return green
		}
		return ""
	}, s)
	if len(doc.Listeners) == 0 {
		b.WriteString("  none\n")
	}
}

// grouped merges listeners that have all in common but the port, or but port and address.
func grouped(list []Listener, byAddr bool) []*group {
	var out []*group
	index := map[string]*group{}
	for _, l := range list {
		g := &group{link: l.Interface, status: l.Status, way: wayText(l)}
		if l.Reason != "" && l.Reason != l.Status {
			g.status += " (" + l.Reason + ")"
		}
		key := g.link + "\x00" + g.status + "\x00" + g.way
		if byAddr {
			key += "\x00" + l.Address
		}
		if index[key] == nil {
			index[key] = g
			out = append(out, g)
		}
		g = index[key]
		if !slices.Contains(g.addrs, l.Address) {
			g.addrs = append(g.addrs, l.Address)
		}
		if port := portText(l); !slices.Contains(g.ports, port) {
			g.ports = append(g.ports, port)
		}
	}
	return out
}

func portText(l Listener) string {
	p := strconv.Itoa(int(l.Port))
	if l.LastPort != 0 {
		p += "-" + strconv.Itoa(int(l.LastPort))
	}
	if l.Transport == "udp" {
		p += "/udp"
	}
	return p
}

func wayText(l Listener) string {
	switch {
	case l.Before == nil:
		return "on this host and its links"
	case l.Now != nil && l.Status != "armed" && *noTable(l.Now) != *noTable(l.After):
		return "now " + wayWords(l.Now) + ", wanted " + wayWords(l.After)
	case l.Now != nil:
		return wayWords(l.After)
	case *noTable(l.Before) == *noTable(l.After):
		return wayWords(l.After) + ", as now"
	}
	return wayWords(l.Before) + " -> " + wayWords(l.After)
}

func noTable(w *Way) *Way {
	c := *w
	c.Table = 0
	return &c
}

func wayWords(w *Way) string {
	switch {
	case w.Result != "":
		return w.Result
	case w.More != "":
		return Clean(w.Interface) + " via " + w.Gateway + ", " + Clean(w.More)
	case w.Gateway == "":
		return Clean(w.Interface)
	}
	return Clean(w.Interface) + " via " + w.Gateway
}

// some lists up to three things, else the first and how many there are.
func some(list []string, one, many string) string {
	if len(list) <= 3 {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s … %d %s", list[0], len(list), many)
}

// table writes rows in columns, the last one as it is.
func table(b *strings.Builder, rows [][]string, color func([]string) string, s Style) {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString("  " + cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))))
			}
		}
		text := line.String()
		if code := color(row); code != "" {
			text = s.paint(code, text)
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}

func paths(b *strings.Builder, doc Document, s Style) {
	if len(doc.Paths) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", s.paint(bold, fmt.Sprintf("Paths (%d)", len(doc.Paths))))
	rows := [][]string{}
	for _, p := range doc.Paths {
		does := "nothing needed"
		if p.Table != 0 {
			does = fmt.Sprintf("table %d for %s", p.Table, some(p.Prefixes, "prefix", "prefixes"))
		}
		via := strings.Join(p.Gateways, ",")
		rows = append(rows, []string{Clean(p.Interface), p.Family, cmp.Or(via, "no router"), p.Source, does})
	}
	table(b, rows, func([]string) string { return "" }, s)
}

func changes(b *strings.Builder, doc Document, s Style) {
	title := map[string]string{"apply": "Written", "clear": "Removed"}[doc.Kind]
	if doc.Kind == "check" {
		title = "Missing or left over"
		if len(doc.Changes) == 0 {
			return
		}
	}
	fmt.Fprintf(b, "\n%s\n", s.paint(bold, fmt.Sprintf("%s (%d)", cmp.Or(title, "Changes"), len(doc.Changes))))
	if len(doc.Changes) == 0 {
		b.WriteString("  nothing: what is there is what is wanted\n")
	}
	for i, c := range doc.Changes {
		if i == 2*most && !s.All {
			fmt.Fprintf(b, "  … and %d more; all of them: -o iproute2\n", len(doc.Changes)-i)
			break
		}
		b.WriteString("  " + Clean(c.Text) + "\n")
	}
}

// Findings writes what an operator must know, each with its remedy.
func Findings(b *strings.Builder, findings []Finding, s Style) {
	if len(findings) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", s.paint(bold, fmt.Sprintf("Findings (%d)", len(findings))))
	for _, f := range findings {
		severity := s.paint(map[string]string{"error": red, "warning": yellow}[f.Severity]+"", f.Severity)
		if f.Severity == "info" {
			severity = "info"
		}
		fmt.Fprintf(b, "  %s %s: %s\n", severity, f.Code, Clean(f.Message))
		if f.Origin != "" {
			fmt.Fprintf(b, "      at: %s\n", Clean(f.Origin))
		}
		if f.Hint != "" {
			fmt.Fprintf(b, "      do: %s\n", Clean(f.Hint))
		}
	}
}

// next ends the report with what to do.
func next(b *strings.Builder, doc Document, s Style) {
	b.WriteString("\n")
	switch doc.Kind {
	case "plan":
		fmt.Fprintf(b, "digest %s\n", doc.Digest)
		switch {
		case len(doc.Changes) > 0:
			fmt.Fprintf(b, "To do just this: %s\n", s.paint(bold, "lasthop apply --expect "+doc.Digest))
		case len(doc.Rules) == 0:
			b.WriteString("This host needs nothing: replies leave as they should.\n")
		default:
			b.WriteString("Nothing to do.\n")
		}
	case "apply":
		if len(doc.Changes) == 0 {
			b.WriteString("Nothing to do.\n")
		} else if doc.Undo != "" {
			fmt.Fprintf(b, "To take it back: %s\n", s.paint(bold, doc.Undo))
		}
	}
}

// Clean makes text from files and from the network safe for a terminal and a log: control characters, line breaks and
// characters that change the direction of writing are shown as escapes.
func Clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r == unicode.ReplacementChar || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
