package report

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// maxRows is how many addresses, changes and the like are listed one by one.
const maxRows = 40

// output collects a document. It is written in one piece, so that a closed pipe
// is one error.
type output struct{ strings.Builder }

func (o *output) printf(format string, args ...any) { fmt.Fprintf(o, format, args...) }

func (o *output) writeTo(w io.Writer) error {
	_, err := io.WriteString(w, o.String())
	return err
}

// listed is how many of n things are listed one by one.
func listed(n int) int {
	if n > maxRows+1 {
		return maxRows
	}
	return n
}

// each yields the things of a list that are listed one by one. It then writes,
// in the words of rest, how many are left out.
func each[T any](o *output, list []T, rest string) iter.Seq[T] {
	return func(yield func(T) bool) {
		n := listed(len(list))
		for _, x := range list[:n] {
			if !yield(x) {
				return
			}
		}
		if n < len(list) {
			o.printf(rest, len(list)-n)
		}
	}
}

// page collects text for people.
type page struct {
	output
	style Style
}

func (t *page) paint(code, text string) string {
	if !t.style.Color || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// heading begins a part of the report.
func (t *page) heading(format string, args ...any) {
	t.printf("\n")
	t.wrapIn(bold, "", fmt.Sprintf(format, args...))
}

// command names a command line and what it is for, if there is one.
func (t *page) command(purpose, line string) {
	if line != "" {
		t.printf("%s:\n  %s\n", purpose, t.paint(bold, line))
	}
}

// row is one line of a table.
type row struct {
	cells []string
	color string
	mark  byte // in the margin; 0 for none
}

func newRow(color string, cells ...string) row { return row{cells: cells, color: color} }

// table writes rows in aligned columns. A cell that does not fit goes to a line
// of its own: a last cell, and one that is wider than the space left of its
// column. Two spaces or more are between columns, that of the marks included:
// awk -F'  +' finds an address in the same field of each row.
func (t *page) table(rows []row) {
	limit, margin := t.style.columns(), ""
	if slices.ContainsFunc(rows, func(r row) bool { return r.mark != 0 }) {
		margin = " "
	}
	limit -= len(margin)
	width := widths(rows)
	fit(width[:max(0, len(width)-1)], rows, limit)
	for _, r := range rows {
		text := strings.ReplaceAll("\n"+line(r.cells, width, limit), "\n", "\n"+margin)
		t.printf("%s\n", t.paint(r.color, marked(r.mark, text[1:])))
	}
}

// marked writes a mark into the margin of a line.
func marked(mark byte, line string) string {
	if mark == 0 {
		return line
	}
	return string(mark) + line[1:]
}

func widths(rows []row) []int {
	var width []int
	for _, r := range rows {
		for i, cell := range r.cells {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	return width
}

// fit narrows the widest columns, each time to its next smaller cell, until
// they all fit side by side.
func fit(width []int, rows []row, limit int) {
	for {
		total, widest := 0, 0
		for i, w := range width {
			total += w + 2
			if w > width[widest] {
				widest = i
			}
		}
		if total <= limit || width[widest] == 0 {
			return
		}
		next := 0
		for _, r := range rows {
			if n := utf8.RuneCountInString(r.cells[widest]); n < width[widest] {
				next = max(next, n)
			}
		}
		width[widest] = next
	}
}

// line writes cells beginning at their columns.
func line(cells []string, width []int, limit int) string {
	const (
		apart = "      " // before a cell that does not fit
		least = 32       // columns of a last cell that is folded
	)
	var b strings.Builder
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	column, end := 0, 0 // where the column of the cell begins, where the line ends
	for i, cell := range cells {
		n := utf8.RuneCountInString(cell)
		switch {
		case cell == "":
		case column+2+n > limit && end <= column && (i == 0 ||
			i == len(cells)-1 && column+2+least <= limit):
			margin := strings.Repeat(" ", column+2)
			b.WriteString(foldCell(margin, cell, limit)[end:])
			end = limit
		case column+2+n > limit && end > 0:
			b.WriteString("\n" + foldCell(apart, cell, limit))
			end = limit
		default:
			if end > column {
				b.WriteString("\n")
				end = 0
			}
			b.WriteString(strings.Repeat(" ", column+2-end) + cell)
			end = column + 2 + n
		}
		column += width[i] + 2
	}
	return b.String()
}

// foldCell is Fold, but breaks a cell "before -> after" at its arrow if that
// makes two lines.
func foldCell(margin, cell string, limit int) string {
	before, after, arrow := strings.Cut(cell, " -> ")
	room := limit - len(margin)
	if arrow && utf8.RuneCountInString(cell) > room &&
		utf8.RuneCountInString(before) <= room &&
		utf8.RuneCountInString("-> "+after) <= room {
		return margin + before + "\n" + margin + "-> " + after
	}
	return Fold(margin, cell, limit)
}

// proseWidth is the widest that sentences are: longer lines are hard to read.
const proseWidth = 100

// wrap is Fold for the width of the page.
func (t *page) wrap(first, sentence string) { t.wrapIn("", first, sentence) }

// wrapIn is wrap in a color.
func (t *page) wrapIn(color, first, sentence string) {
	t.printf("%s\n", t.paint(color, Fold(first, sentence, min(t.style.columns(), proseWidth))))
}

// writeRemedy is wrap for what is copied: no word is broken, however long it
// is.
func writeRemedy(t *page, first, remedy string) {
	limit := min(t.style.columns(), proseWidth)
	t.printf("%s\n", foldWords(first, strings.Fields(remedy), limit))
}

// Fold breaks a sentence into lines of at most limit columns, and words that
// are longer than a line. The first line begins with first; the further ones
// are indented by as much.
func Fold(first, sentence string, limit int) string {
	room := max(1, limit-utf8.RuneCountInString(first))
	var words []string
	for _, word := range strings.Fields(sentence) {
		for rest := []rune(word); len(rest) > 0; {
			n := min(room, len(rest))
			words, rest = append(words, string(rest[:n])), rest[n:]
		}
	}
	return foldWords(first, words, limit)
}

func foldWords(first string, words []string, limit int) string {
	indent := "\n" + strings.Repeat(" ", utf8.RuneCountInString(first))
	var b strings.Builder
	b.WriteString(first)
	end := utf8.RuneCountInString(first)
	for i, word := range words {
		n := utf8.RuneCountInString(word)
		switch {
		case i > 0 && end+1+n > limit:
			b.WriteString(indent)
			end = len(indent) - 1
		case i > 0:
			b.WriteString(" ")
			end++
		}
		b.WriteString(word)
		end += n
	}
	return b.String()
}

// some lists up to n things, else the first few and the number of further ones.
func some(list []string, n int) string { return someOf(list, n, 0) }

// someOf is some for a list that already leaves out more.
func someOf(list []string, n, more int) string {
	if len(list)+more > n {
		n = min(n-1, len(list)) // for "and 2 more": one is never left out alone
		return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "),
			len(list)-n+more)
	}
	return strings.Join(list, ", ")
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// counted counts values by what they have in common.
func counted[T any, K comparable](list []T, of func(T) K) map[K]int {
	n := map[K]int{}
	for _, x := range list {
		n[of(x)]++
	}
	return n
}

// kinds says in order how many there are of each kind: "3 ready, 1 unresolved".
func kinds[K comparable](n map[K]int, say func(int, K) string, order ...K) string {
	var parts []string
	for _, kind := range order {
		if n[kind] > 0 {
			parts = append(parts, say(n[kind], kind))
		}
	}
	return strings.Join(parts, ", ")
}

// count writes a number with its noun: "1 change", "2 changes".
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return number(n) + " " + noun + "es"
	}
	return number(n) + " " + noun + "s"
}
