package report

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// hostile are names that the kernel takes for links, and that a shell, printf
// or a terminal could take for more.
var hostile = []string{"eth1", "a'b", "$(id)", "x;reboot", "`id`", `back\n`, "100%d", "*", "~",
	"#no", "e\x1b[31m", "l\u202ertl", "\u3000", "\xff"}

func scriptDiff(link string) routing.Diff {
	rule := routing.NewRule(routing.IPv6, 5103, 20123)
	rule.From, rule.OIF, rule.Protocol = netip.MustParsePrefix("2001:db8:1::/64"), link, 76
	route := routing.Route{RouteKey: routing.RouteKey{Table: 20123, Dst: routing.IPv4.All()},
		Type: routing.Unicast, Protocol: 76,
		Hops: []routing.Hop{{Link: link, Via: netip.MustParseAddr("10.0.1.1"), Weight: 1,
			OnLink: true}}}
	return routing.Diff{SetRoutes: []routing.Route{route},
		SetGroups: []routing.LinkGroup{{Link: link, Group: 76}},
		AddRules:  []routing.Rule{rule}}
}

func scriptOf(t *testing.T, d routing.Diff) string {
	t.Helper()
	p := Plan{Head: Head{Lasthop: "devel", Host: "web\n\x1b1", Time: time.Unix(0, 0)}, Diff: d,
		Digest: "sha256:12"}
	undo := routing.Diff{DelRules: d.AddRules, DelRoutes: d.SetRoutes, UnsetGroups: d.SetGroups}
	var b bytes.Buffer
	if err := Script(&b, p, undo); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// runScript runs it with an `ip` that writes down its arguments, one a line,
// and then does what answer says.
func runScript(t *testing.T, script, verb, answer string) (calls, stderr string, code int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	ip := "#!/bin/sh\nprintf '%s\\n' \"$@\" -- >>" + log + "\n" + answer + "\n"
	if err := os.WriteFile(filepath.Join(dir, "ip"), []byte(ip), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-s", verb)
	c.Stdin = strings.NewReader(script)
	c.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	var e bytes.Buffer
	c.Stderr = &e
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	out, _ := os.ReadFile(log) // not there where `ip` was not called
	return string(out), e.String(), c.ProcessState.ExitCode()
}

// TestScriptQuotes runs the script with names of links that are traps: `ip`
// must get exactly the words of the plan.
func TestScriptQuotes(t *testing.T) {
	for _, link := range hostile {
		d := scriptDiff(link)
		script := scriptOf(t, d)
		if strings.ContainsAny(script, "\x1b\u202e") || !utf8.ValidString(script) {
			t.Errorf("link %q: the script holds what a terminal may not get:\n%s",
				link, script)
		}
		for verb, diff := range map[string]routing.Diff{"apply": d,
			"undo": {DelRules: d.AddRules, DelRoutes: d.SetRoutes,
				UnsetGroups: d.SetGroups}} {
			var want strings.Builder
			for _, op := range diff.Ops() {
				want.WriteString(
					strings.Join(append(strings.Split(op.String(), " ")[1:],
						"--"), "\n") + "\n")
			}
			got, stderr, code := runScript(t, script, verb, "")
			if code != 0 || stderr != "" {
				t.Errorf("link %q: %s exits %d: %s", link, verb, code, stderr)
			}
			if diff := cmp.Diff(want.String(), got); diff != "" {
				t.Errorf("link %q: %s: -want +got\n%s", link, verb, diff)
			}
		}
	}
}

// TestScriptFailures: an object that is there already, or gone already, is no
// failure; any other error ends the script, with the command that failed.
func TestScriptFailures(t *testing.T) {
	const exists, denied, gone = "RTNETLINK answers: File exists",
		"RTNETLINK answers: Operation not permitted", "RTNETLINK answers: No such process"
	script := scriptOf(t, scriptDiff("eth1"))
	fail := func(pattern, message string) string {
		return `case "$*" in *"` + pattern + `"*) echo '` + message +
			`' >&2; exit 2 ;; esac`
	}
	for _, tt := range []struct {
		name, verb, answer, stderr string
		calls, code                int
	}{
		{"rule is there", "apply", fail("rule add", exists), "", 3, 0},
		{"rule is forbidden", "apply", fail("rule add", denied), "ip -6 rule add pref 5103 from 2001:db8:1::/64 oif eth1 lookup 20123 protocol 76: " + denied + "\n", 3, 1},
		{"route is forbidden", "apply", fail("route replace", denied), denied + "\n", 1, 2},
		{"everything is gone", "undo", fail("", gone), "", 3, 0},
		{"delete is forbidden", "undo", fail("rule del", denied), "ip -6 rule del pref 5103 from 2001:db8:1::/64 oif eth1 lookup 20123 protocol 76: " + denied + "\n", 1, 1},
		{"no verb", "", "", "usage: sh sh apply|undo\n", 0, 1},
	} {
		calls, stderr, code := runScript(t, script, tt.verb, tt.answer)
		if n := strings.Count(calls, "--\n"); n != tt.calls || stderr != tt.stderr ||
			code != tt.code {
			t.Errorf("%s: %d calls, exit %d, %q, want %d, %d, %q", tt.name, n, code,
				stderr, tt.calls, tt.code, tt.stderr)
		}
	}
}
