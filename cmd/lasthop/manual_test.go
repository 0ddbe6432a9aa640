package main_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	lasthop "lasthop/cmd/lasthop"
	"lasthop/internal/help"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// The manual pages are prose, deploy/man/*.in, with what the program says of
// itself: the help of each command and flag, and the sample lasthop.yaml, which
// has every key. They are in mdoc, because mandoc and groff both read it, and
// mandoc checks it. docs/configuration.md has the keys in Markdown.

// page is what a template is filled with.
var page = template.FuncMap{
	"description": func() string {
		about, _, _ := strings.Cut(lasthop.Command().Long, "\n\nExit codes:")
		return prose(about)
	},
	"commands": manualCommands,
	"options":  func() string { return manualFlags(lasthop.Shared(), nil) },
	"about":    func() string { return prose(sample()[0].text) },
	"keys":     manualKeys,
	"mdabout": func() string {
		_, about, _ := strings.Cut(sample()[0].text, ": ")
		return "The file says " + strings.TrimSpace(about)
	},
	"mdkeys": markdownKeys,
}

// TestManual: the pages are what the program says now, and mandoc has nothing
// to say about them.
func TestManual(t *testing.T) {
	for name, dir := range map[string]string{"lasthop.8": "deploy/man",
		"lasthop.yaml.5": "deploy/man", "configuration.md": "docs"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("../..", dir, name)
			text, err := os.ReadFile(filepath.Join("../../deploy/man", name+".in"))
			if err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			if err := template.Must(template.New(name).Funcs(page).Parse(
				string(text))).Execute(&want, nil); err != nil {
				t.Fatal(err)
			}
			if flag.Lookup("update").Value.String() == "true" {
				if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if d := gocmp.Diff(want.String(), string(got)); d != "" {
				t.Errorf("%v; go test ./cmd/lasthop -run TestManual -update; "+
					"-want +got\n%s", err, d)
			}
			if dir == "deploy/man" {
				mandoc(t, file)
			}
		})
	}
}

// mandoc has mandoc look for mistakes, style included. That a page is not
// installed here is none.
func mandoc(t *testing.T, file string) {
	t.Helper()
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Skip(err)
	}
	out, _ := exec.Command("mandoc", "-T", "lint", "-W", "style", file).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "mandoc: "+file) &&
			!strings.Contains(line, "referenced manual not found") {
			t.Error(line)
		}
	}
}

func manualCommands() string {
	var b strings.Builder
	for _, c := range lasthop.Command().Commands() {
		if c.Hidden {
			continue
		}
		name, args, _ := strings.Cut(c.Use, " ")
		fmt.Fprintf(&b, ".It Cm %s", name)
		if args != "" {
			fmt.Fprintf(&b, " Ar %s", args)
		}
		text := cmp.Or(strings.TrimPrefix(c.Long, name+" "), c.Short+".")
		fmt.Fprintf(&b, "\n%s\n", prose(capital(text)))
		own := manualFlags(c.LocalNonPersistentFlags(), lasthop.Shared())
		if own != "" {
			fmt.Fprintf(&b, ".Bl -tag -width Ds\n%s\n.El\n", own)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// manualFlags lists flags but for those that are told of elsewhere.
func manualFlags(s, elsewhere *pflag.FlagSet) string {
	var b strings.Builder
	s.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" ||
			elsewhere != nil && elsewhere.Lookup(f.Name) != nil {
			return
		}
		b.WriteString(".It ")
		if f.Shorthand != "" {
			fmt.Fprintf(&b, "Fl %s , ", f.Shorthand)
		}
		fmt.Fprintf(&b, "Fl -%s", f.Name)
		value, usage := help.Flag(f)
		if value != "" {
			fmt.Fprintf(&b, " Ar %s", value)
		}
		fmt.Fprintf(&b, "\n%s\n", prose(capital(usage)+"."))
	})
	return strings.TrimSuffix(b.String(), "\n")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// block is a part of the sample: its text, and its lines.
type block struct{ text, lines string }

// sample returns the blocks of lasthop.yaml; the first is about the file.
func sample() (blocks []block) {
	data, err := os.ReadFile("../../deploy/lasthop.yaml")
	if err != nil {
		panic(err)
	}
	for _, part := range strings.Split(strings.TrimSpace(string(data)), "\n\n") {
		var b block
		for line := range strings.Lines(part) {
			if said, ok := strings.CutPrefix(line, "# "); ok && b.lines == "" {
				b.text += said
			} else {
				b.lines += strings.TrimPrefix(line, "#")
			}
		}
		blocks = append(blocks, b)
	}
	return blocks
}

func manualKeys() string {
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, part := range sample()[1:] {
		key, _, _ := strings.Cut(part.lines, ":")
		fmt.Fprintf(&b, ".It Ic %s\n%s\n.Bd -literal\n%s\n.Ed\n", key, prose(part.text),
			roff(strings.TrimRight(part.lines, "\n")))
	}
	b.WriteString(".El")
	return b.String()
}

// markdownKeys are the keys for docs/configuration.md, with each example as it
// is in the file without its comment sign.
func markdownKeys() string {
	var b strings.Builder
	for _, part := range sample()[1:] {
		key, _, _ := strings.Cut(part.lines, ":")
		fmt.Fprintf(&b, "### %s\n\n%s\n", key, part.text)
		for line := range strings.Lines(part.lines) {
			b.WriteString("    " + line)
		}
		b.WriteString("\n\n")
	}
	return strings.TrimSpace(b.String())
}

// roff escapes text.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "--", `\-\-`, "'", `\(aq`, "`", `\(ga`).Replace(s)
	return regexp.MustCompile(`(?m)^\.`).ReplaceAllString(s, `\&.`)
}

// prose is help as mdoc: paragraphs, each sentence on lines of its own, and
// what is in backticks as a literal.
func prose(text string) string {
	var paragraphs []string
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		var lines []string
		for i, part := range strings.Split(strings.Join(strings.Fields(p), " "), "`") {
			if i%2 == 1 {
				lines = append(lines, ".Ql "+roff(part))
				continue
			}
			rest := strings.TrimLeft(part, ".,:;)")
			if n := len(part) - len(rest); n > 0 && i > 0 {
				lines[len(lines)-1] += " " + part[:n]
			}
			lines = append(lines, wrap(rest)...)
		}
		paragraphs = append(paragraphs, strings.Join(lines, "\n"))
	}
	return strings.Join(paragraphs, "\n.Pp\n")
}

// wrap breaks text at the ends of sentences, and before column 80.
func wrap(text string) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if word = roff(word); line != "" && len(line)+1+len(word) > 78 {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
		if strings.ContainsAny(word[len(word)-1:], ".?!") {
			lines, line = append(lines, line), ""
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
