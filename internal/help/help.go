// Package help is what lasthop says of itself. For each command there is a
// text file, commands/NAME.txt; the findings are docs/findings.md; the settings
// are deploy/lasthop.yaml. `--help`, `lasthop help` and the manual page come
// from these. What a command takes is not said here: its flags are given.
package help

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"lasthop/report"

	"github.com/spf13/pflag"
)

//go:embed commands/*.txt
var commands embed.FS

// Of returns the help of a command: its first paragraph, a few words on a
// line, and all that follows, in paragraphs with lines of at most 80 columns.
// Both are "" for a command without a file.
func Of(command string) (short, long string) {
	text, _ := commands.ReadFile("commands/" + command + ".txt")
	short, long, _ = strings.Cut(string(text), "\n\n")
	return strings.TrimSpace(short), strings.TrimSpace(long)
}

// group is a title and what is listed below it, by name.
type group struct {
	title string
	names []string
}

// Sections are all commands as `lasthop help` lists them.
var Sections = []group{
	{"Look, and change nothing", []string{"plan", "check", "explain", "observe", "flow",
		"capture"}},
	{"Change routes and rules", []string{"apply", "clear"}},
	{"The service", []string{"run", "status", "reload", "test"}},
	{"From a BIG-IP", []string{"migrate"}},
	{"About lasthop", []string{"help", "version", "completion"}},
}

// flagGroups are the groups of flags behind those of the command itself.
var flagGroups = []group{
	{"Which host and NGINX", []string{"nginx-conf", "listen", "netns", "host"}},
	{"How replies go back", []string{"config", "gateway", "return", "address", "direct",
		"fail-closed"}},
	{"Output", []string{"output", "quiet"}},
}

// Names returns all commands, in the order of Sections.
func Names() (names []string) {
	for _, s := range Sections {
		names = append(names, s.names...)
	}
	return names
}

// page writes for a terminal of so many columns.
type page struct {
	strings.Builder
	width int
}

// widest is how wide text gets on a terminal that is wider.
const widest = 100

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// fold writes a text, wrapped; all lines but the first are indented as far as
// first is long.
func (p *page) fold(first, text string) {
	p.line("%s", report.Fold(first, text, min(p.width, widest)))
}

// paragraphs writes text of Markdown: each paragraph and each item of a list is
// wrapped, and what is indented stays as it is.
func (p *page) paragraphs(text string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		first, body := "", ""
		flush := func() {
			if body != "" {
				p.fold(first, body)
			}
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			item, listed := strings.CutPrefix(line, "- ")
			switch {
			case strings.HasPrefix(line, "\t") || first == "" &&
				strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "```"):
				flush()
				body = ""
				if !strings.HasPrefix(line, "```") {
					p.line("%s", strings.Replace(line, "\t", "    ", 1))
				}
			case listed:
				flush()
				first, body = "- ", item
			default:
				body += " " + line
			}
		}
		flush()
		p.line("")
	}
}

// row writes a name and a text in two columns; a name that is too long has a
// line of its own.
func (p *page) row(name, text string, column int) {
	first := fmt.Sprintf("  %-*s", column, name)
	if len(name) > column-2 {
		p.line("  %s", name)
		first = strings.Repeat(" ", 2+column)
	}
	p.fold(first, text)
}

// All writes the list of all commands.
func All(w io.Writer, width int) error {
	p := &page{width: width}
	_, long := Of("lasthop")
	p.paragraphs(long)
	p.line("Usage: lasthop COMMAND [FLAGS]")
	for _, s := range Sections {
		p.line("\n%s:", s.title)
		for _, name := range s.names {
			short, _ := Of(name)
			p.row(name, short, 12)
		}
	}
	p.line("")
	p.row("lasthop COMMAND --help", "explains a command", 24)
	p.row("lasthop help findings", "lists the codes of findings; lasthop help CODE "+
		"explains one", 24)
	p.row("lasthop help settings", "prints a sample of lasthop.yaml with each key", 24)
	_, err := io.WriteString(w, p.String())
	return err
}

// Command writes the help of a command: usage as cobra has it, what it does,
// and its flags in groups.
func Command(w io.Writer, name, usage, long string, flags *pflag.FlagSet, width int) error {
	p := &page{width: width}
	p.paragraphs(long)
	p.line("Usage: %s", usage)
	shared := map[string]bool{"help": true}
	for _, g := range flagGroups {
		for _, n := range g.names {
			shared[n] = true
		}
	}
	var own []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !shared[f.Name] {
			own = append(own, f.Name)
		}
	})
	for _, g := range slices.Concat([]group{{"Flags of " + name, own}}, flagGroups) {
		p.flags(g, flags)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// flags writes a group of flags, as far as the command has them.
func (p *page) flags(g group, flags *pflag.FlagSet) {
	title := "\n" + g.title + ":"
	for _, name := range g.names {
		f := flags.Lookup(name)
		if f == nil || f.Hidden {
			continue
		}
		if title != "" {
			p.line("%s", title)
			title = ""
		}
		value, text := Flag(f)
		left := "--" + f.Name
		if f.Shorthand != "" {
			left = "-" + f.Shorthand + ", " + left
		}
		p.row(strings.TrimSpace(left+" "+value), text, 21)
	}
}

// Flag returns the name of a flag's value, "" if it has none, and its help with
// its default. The help of a flag begins with the name in backquotes.
func Flag(f *pflag.Flag) (value, text string) {
	value, text = "", f.Usage
	if rest, ok := strings.CutPrefix(text, "`"); ok {
		value, text, _ = strings.Cut(rest, "` ")
	}
	switch d := f.DefValue; {
	case f.Value.Type() == "stringArray":
		text += " (repeatable)"
	case d != "" && d != "false" && d != "0s":
		text += " (default: " + d + ")"
	}
	return value, text
}
