package main_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guide holds docs/migrating-from-big-ip.md to what the labs do: they tell it
// each command line that they run.
type guide struct {
	mu    sync.Mutex
	lines []string
}

// notHere are commands of the page that no lab can run, each with the reason.
var notHere = map[string]string{
	"systemctl enable --now lasthop": "no systemd in a namespace; TestUnitRuns of " +
		"package deploy starts the unit",
}

func (g *guide) ran(lines ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, lines...)
}

// wantAllRun wants each command of the page to be among the lines, or to be
// named with a reason.
func (g *guide) wantAllRun(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../../docs/migrating-from-big-ip.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := pageCommands(string(page))
	if len(commands) < 20 {
		t.Errorf("%d commands are on the page: are they found?", len(commands))
	}
	for _, c := range commands {
		ran := slices.ContainsFunc(g.lines, commandPattern(c).MatchString)
		if reason := notHere[c]; ran == (reason != "") {
			t.Errorf("%q: the labs ran it: %v; named as not runnable: %q", c,
				ran, reason)
		}
	}
	for c := range notHere {
		if !slices.Contains(commands, c) {
			t.Errorf("%q is not on the page", c)
		}
	}
}

var (
	indented = regexp.MustCompile(`(?m)^ {4}(\S.*)$`)
	code     = regexp.MustCompile("`([^`]+)`")
	command  = regexp.MustCompile(`^(lasthop|tmsh|tcpdump|ip|sysctl|nginx|systemctl|arping) `)
	variable = regexp.MustCompile(`[A-Z][A-Z]+`)
)

// pageCommands returns the commands of a page: lines of indented blocks,
// without their comments, and code that begins with the name of a command and
// has more than that.
func pageCommands(page string) (out []string) {
	var all []string
	for _, m := range indented.FindAllStringSubmatch(page, -1) {
		line, _, _ := strings.Cut(m[1], "  #")
		all = append(all, strings.TrimSpace(line))
	}
	for _, m := range code.FindAllStringSubmatch(page, -1) { // it may be broken over lines
		if line := strings.Join(strings.Fields(m[1]), " "); command.MatchString(line) {
			all = append(all, line)
		}
	}
	for _, line := range all {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// commandPattern matches a command with anything in place of each word in
// capitals.
func commandPattern(command string) *regexp.Regexp {
	return regexp.MustCompile("^" +
		variable.ReplaceAllString(regexp.QuoteMeta(command), `\S+`) + "$")
}

// TestPageCommands: it finds the commands of a page, and distinguishes the
// lines that were run.
func TestPageCommands(t *testing.T) {
	const page = "Text `lasthop` and `ip route add NETWORK via ROUTER\ndev IF`, " +
		"`lasthop.yaml`:\n\n    tmsh save sys ucs /var/tmp/lb1.ucs   # a comment\n\n" +
		"1. `arping -U -c 3 -I IF A`\n   is text, `nginx -t`; twice: `nginx -t`.\n"
	want := []string{"tmsh save sys ucs /var/tmp/lb1.ucs",
		"ip route add NETWORK via ROUTER dev IF", "arping -U -c 3 -I IF A", "nginx -t"}
	if d := cmp.Diff(want, pageCommands(page)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	p := commandPattern(want[1])
	if !p.MatchString("ip route add 10.0.0.0/8 via 10.0.1.1 dev eth1") ||
		p.MatchString("ip route add 10.0.0.0/8 via 10.0.1.1 dev eth1 metric 5") {
		t.Errorf("%s matches others", p)
	}
}
