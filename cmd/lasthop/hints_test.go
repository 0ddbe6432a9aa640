package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lasthop/routing"
)

// TestHintsAreQuoted: in no scenario does a remedy or a write hold a link's
// name that a shell would take for a command of its own.
func TestHintsAreQuoted(t *testing.T) {
	t.Parallel()
	eth := regexp.MustCompile(`\beth([0-9])\b`)
	quoted := regexp.MustCompile(`'[^']*'`)
	command := regexp.MustCompile(`(--[a-z-]+ \S*|\bip (-6 )?(link|rule|route|addr)[a-z ]* .*|` +
		`sysctl .*|/proc/.*)e;[0-9]`)
	said := 0
	eachScenario(t, func(t *testing.T, s *scenario) {
		data, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), filepath.Base(s.path))
		data = eth.ReplaceAll(data, []byte("e;$1"))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		renamed := readScenario(t, path)
		h := renamed.sim.Host
		d := renamed.decide(t, h)
		in := renamed.on(h)
		for _, f := range append(routing.Examine(in.Host, d.Plan, in.Binds, in.Policy),
			d.Plan.Findings...) {
			if strings.Contains(f.Hint, "e;") {
				said++
			}
			if m := command.FindString(quoted.ReplaceAllString(f.Hint, "''")); m != "" {
				t.Errorf("%s: %s holds %s", f.Code, f.Hint, m)
			}
		}
		for _, op := range d.Diff.Ops() {
			left := quoted.ReplaceAllString(op.Command(), "")
			if strings.Contains(left, ";") {
				t.Errorf("%s", op.Command())
			}
		}
	})
	if said < 30 {
		t.Errorf("%d hints name a link: the test shows nothing", said)
	}
}
