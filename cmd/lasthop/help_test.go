package main_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	lasthop "lasthop/cmd/lasthop"
	"lasthop/internal/help"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// printed returns what a command line prints, and fails if it fails.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := lasthop.Run(&stdout, &stderr, args...); code != 0 || stderr.Len() > 0 {
		t.Fatalf("%q: exit code %d, %s", args, code, stderr.String())
	}
	return stdout.String()
}

// fits returns what help prints, and fails if a line has more than 80 columns.
func fits(t *testing.T, args ...string) string {
	t.Helper()
	text := printed(t, args...)
	for line := range strings.Lines(text) {
		isYAML := slices.Contains(args, "settings") && !strings.HasPrefix(line, "# ")
		if n := utf8.RuneCountInString(line) - 1; n > 80 && !isYAML {
			t.Errorf("%q: %d columns: %s", args, n, line)
		}
	}
	return text
}

// TestHelpFits: if standard output is no terminal, all help fits 80 columns.
func TestHelpFits(t *testing.T) {
	fits(t)
	fits(t, "help", "findings")
	fits(t, "help", "settings")
	for _, code := range help.Codes() {
		fits(t, "help", code)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		fits(t, "completion", shell, "--help")
	}
}

// TestHelpHasFlags: the help of a command has each of its flags once, and the
// name of the flag's value once.
func TestHelpHasFlags(t *testing.T) {
	for _, c := range lasthop.Command().Commands() {
		if c.Hidden {
			continue
		}
		listed := map[string]int{}
		for line := range strings.Lines(fits(t, c.Name(), "--help")) {
			words := strings.Fields(strings.TrimPrefix(line, "  "))
			if !strings.HasPrefix(line, "  -") {
				continue
			}
			listed[words[slices.IndexFunc(words, isLong)]]++
		}
		want := map[string]int{}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" {
				want["--"+f.Name] = 1
			}
			value, text := help.Flag(f)
			if len(value) > 2 && strings.Contains(text, value) {
				t.Errorf("%s --%s names its value twice: %s", c.Name(), f.Name,
					text)
			}
			if strings.Contains(text, "`") {
				t.Errorf("%s --%s does not begin with its value: %s", c.Name(),
					f.Name, text)
			}
		})
		if d := cmp.Diff(want, listed); d != "" {
			t.Errorf("%s: -flags +help\n%s", c.Name(), d)
		}
	}
}

func isLong(word string) bool { return strings.HasPrefix(word, "--") }

// TestHelpLists: help has each command once, and no other.
func TestHelpLists(t *testing.T) {
	names := []string{"completion"}
	for _, c := range lasthop.Command().Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
		if short, _ := help.Of(c.Name()); !c.Hidden && short == "" {
			t.Errorf("%s has no help", c.Name())
		}
	}
	slices.Sort(names)
	listed := slices.Sorted(slices.Values(help.Names()))
	if d := cmp.Diff(names, listed); d != "" {
		t.Errorf("-commands +listed\n%s", d)
	}
}
