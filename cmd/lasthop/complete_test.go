package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	lasthop "lasthop/cmd/lasthop"

	"github.com/google/go-cmp/cmp"
)

// completions returns what a shell is offered for the last word.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := lasthop.Run(&stdout, &stderr, append([]string{"__complete"},
		args...)...); code != 0 {
		t.Fatalf("%q: exit code %d, %s", args, code, stderr.String())
	}
	lines := strings.Fields(stdout.String())
	return lines[:len(lines)-1] // the last says what the shell does besides
}

// TestFormats: each command completes -o to the formats that it does not
// refuse.
func TestFormats(t *testing.T) {
	for _, c := range lasthop.Command().Commands() {
		if c.Hidden || c.Flag("output") == nil {
			continue
		}
		offered := completions(t, c.Name(), "-o", "")
		var taken []string
		for _, format := range append(formats, "nginx", "prometheus") {
			// fails after the look at the format
			args := []string{c.Name(), "-o", format}
			for _, where := range []string{"host", "netns"} {
				if c.Flag(where) != nil {
					args = append(args, "--"+where, "/none")
				}
			}
			if strings.Contains(c.Use, " ") {
				args = append(args, "10.0.0.1")
			}
			var stdout, stderr bytes.Buffer
			lasthop.Run(&stdout, &stderr, args...)
			if !strings.Contains(stderr.String(), "not one of this command") {
				taken = append(taken, format)
			}
		}
		slices.Sort(offered)
		slices.Sort(taken)
		if d := cmp.Diff(taken, offered); d != "" {
			t.Errorf("%s: -taken +offered\n%s", c.Name(), d)
		}
	}
}

// script writes the completion script of a shell, and returns its path.
func completionScript(t *testing.T, shell string) string {
	t.Helper()
	var script bytes.Buffer
	if code := lasthop.Run(&script, os.Stderr, "completion", shell); code != 0 {
		t.Fatalf("completion %s: exit code %d", shell, code)
	}
	file := filepath.Join(t.TempDir(), shell)
	if err := os.WriteFile(file, script.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestShells: each shell accepts its script.
func TestShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			file := completionScript(t, shell)
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(err)
			}
			out, err := exec.Command(shell, "-n", file).CombinedOutput()
			if err != nil {
				t.Errorf("%s -n: %v\n%s", shell, err, out)
			}
		})
	}
}

// TestBash: bash completes the last word, of which it replaces the part after a
// =.
func TestBash(t *testing.T) {
	const library = "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(library); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "lasthop"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	script := ". " + library + "; . " + completionScript(t, "bash") + `
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=$* COMP_TYPE=9
COMP_POINT=${#COMP_LINE}
__start_lasthop
echo "${COMPREPLY[@]}"`
	for line, want := range map[string]string{
		"lasthop che":                       "check",
		"lasthop plan -o mark":              "markdown",
		"lasthop plan --gateway eth1=s":     "static",
		"lasthop plan --return=eth1=m":      "main-first",
		"lasthop migrate --autolasthop dis": "disable",
	} {
		c := exec.Command("bash", append([]string{"-c", script, "bash"},
			strings.Fields(line)...)...)
		c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := c.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", line, got, err, want)
		}
	}
}
