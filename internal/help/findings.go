package help

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"lasthop/deploy"
	"lasthop/docs"
	"lasthop/internal/hint"
	"lasthop/report"
)

// section is one finding's part of docs/findings.md.
type section struct{ chapter, code, text string }

// sections are all, in the order of the page.
func sections() (out []section) {
	for _, chapter := range strings.Split(docs.Findings, "\n## ")[1:] {
		parts := strings.Split(chapter, "\n### ")
		title, _, _ := strings.Cut(parts[0], "\n")
		for _, part := range parts[1:] {
			code, text, _ := strings.Cut(part, "\n")
			out = append(out, section{title, strings.TrimSpace(code),
				strings.TrimSpace(text)})
		}
	}
	return out
}

// Codes returns the codes of all findings, in the order of docs/findings.md.
func Codes() (codes []string) {
	for _, s := range sections() {
		codes = append(codes, s.code)
	}
	return codes
}

// link is a link of Markdown, of which people read the text alone.
var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// topics are what help explains besides commands and codes.
var topics = []string{"findings", "settings"}

// Topic writes the page of a topic: findings, settings, or a finding by its
// code.
func Topic(w io.Writer, topic string, width int) error {
	switch topic {
	case "findings":
		return codes(w, width)
	case "settings", "lasthop.yaml":
		return sample(w, width)
	}
	return finding(w, topic, width)
}

// finding writes what docs/findings.md says of a code. The error of a code that
// there is not names the one nearest to it.
func finding(w io.Writer, code string, width int) error {
	for _, s := range sections() {
		if s.code != code {
			continue
		}
		p := &page{width: width}
		p.line("%s\n", code)
		p.paragraphs(link.ReplaceAllString(s.text, "$1"))
		_, err := io.WriteString(w, strings.TrimRight(p.String(), "\n")+"\n")
		return err
	}
	return hint.New(fmt.Errorf("%q is neither a command nor the code of a finding", code),
		Suggest("help ", code))
}

// codes writes all codes, chapter by chapter, with their severities.
func codes(w io.Writer, width int) error {
	p, chapter := &page{width: width}, ""
	for _, s := range sections() {
		if s.chapter != chapter {
			chapter = s.chapter
			p.line("%s:", chapter)
		}
		line, _, _ := strings.Cut(s.text, "\n")
		severity, _, _ := strings.Cut(strings.TrimPrefix(line, "Severity: "), ".")
		p.row(s.code, severity, 30)
	}
	p.line("\nlasthop help CODE explains one.")
	_, err := io.WriteString(w, p.String())
	return err
}

// sample writes the sample of lasthop.yaml, its comments wrapped. A key that is
// a comment has no space after its #, and two or more below another key.
func sample(w io.Writer, width int) error {
	p, comment := &page{width: width}, ""
	for line := range strings.Lines(deploy.Settings + "\n") {
		if said, ok := strings.CutPrefix(line, "# "); ok && !strings.HasPrefix(said, " ") {
			comment += said
			continue
		}
		if comment != "" {
			text := report.Fold("", comment, min(p.width, widest)-len("# "))
			p.line("# %s", strings.ReplaceAll(text, "\n", "\n# "))
		}
		comment = ""
		p.WriteString(line)
	}
	_, err := io.WriteString(w, strings.TrimRight(p.String(), "\n")+"\n")
	return err
}

// Words are all that help explains: commands, topics and codes.
func Words() []string { return slices.Concat(Names(), topics, Codes()) }

// Suggest returns the remedy for a word that is no command after "lasthop ",
// or, if before is "help ", nothing that help explains: the nearest word, or
// how to list all of them.
func Suggest(before, typed string) string {
	near := nearest(typed, Words())
	if near == "" {
		return "lasthop help lists the commands, lasthop help findings the codes"
	}
	if !slices.Contains(Names(), near) {
		before = "help "
	}
	return "did you mean: lasthop " + before + near
}

// nearest returns the word that is fewest edits away from a mistyped one; ""
// if each is more than two edits, and more than a third of its length, away.
func nearest(typed string, words []string) (near string) {
	least := max(2, len(typed)/3) + 1
	for _, word := range words {
		n := distance(typed, word)
		if strings.HasPrefix(word, typed) && len(typed) > 2 {
			n = 1
		}
		if n < least {
			near, least = word, n
		}
	}
	return near
}

// distance is how many bytes have to be put in, taken out or replaced to make
// one word the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			n := diagonal
			if a[i] != b[j] {
				n = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], n
		}
	}
	return row[len(b)]
}
