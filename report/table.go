package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// page collects text; it is written in one piece, so that a closed pipe is one error.
type page struct {
	strings.Builder
	style Style
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

func (p *page) paint(code, text string) string {
	if !p.style.Color || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// heading begins a part of the report.
func (p *page) heading(format string, args ...any) {
	p.printf("\n%s\n", p.paint(bold, fmt.Sprintf(format, args...)))
}

func (p *page) writeTo(w io.Writer) error {
	_, err := io.WriteString(w, p.String())
	return err
}

// row is one line of a table.
type row struct {
	cells []string
	color string
}

// table writes rows in aligned columns. A last cell that does not fit goes to a line of its own.
func (p *page) table(rows []row) {
	width := widths(rows)
	left := 0
	for _, w := range width[:max(0, len(width)-1)] {
		left += w + 2
	}
	for _, r := range rows {
		last := r.cells[len(r.cells)-1]
		apart := left+2+utf8.RuneCountInString(last) > cmp.Or(p.style.Width, 80)
		p.printf("%s\n", p.paint(r.color, line(r.cells, width, apart)))
	}
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

func line(cells []string, width []int, apart bool) string {
	var b strings.Builder
	for i, cell := range cells {
		if last := i == len(cells)-1; last && apart && cell != "" {
			return strings.TrimRight(b.String(), " ") + "\n      " + cell
		}
		b.WriteString("  " + cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
	}
	return strings.TrimRight(b.String(), " ")
}

// wrap breaks a sentence into lines; the first begins with first, the others are indented by as much.
func (p *page) wrap(first, sentence string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(first))
	limit := cmp.Or(p.style.Width, 80)
	text := first
	empty := true
	for _, word := range strings.Fields(sentence) {
		switch {
		case empty:
			text += word
		case utf8.RuneCountInString(text)+1+utf8.RuneCountInString(word) > limit:
			p.printf("%s\n", text)
			text = indent + word
		default:
			text += " " + word
		}
		empty = false
	}
	p.printf("%s\n", text)
}

// some lists up to n things, else the first few and how many more there are.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n-1], ", "), len(list)-n+1)
}

// count writes a number with its noun: "1 change", "2 changes".
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
