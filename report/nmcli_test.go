package report

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

func nmcliOf(t *testing.T, p Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := NMCLI(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// changeOf is the part of a script that depends on the plan.
func changeOf(script string) string {
	_, rest, _ := strings.Cut(script, "\nchange() {\n\tall=0\n")
	part, _, _ := strings.Cut(rest, "\tfor table in 20431; do\n")
	return part
}

// TestNMCLI compares one script; that the kernel gets what is meant is
// testdata/systems/nmcli.sh, with a real NetworkManager.
func TestNMCLI(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	p.Host = "web\nreboot"
	want := `	modify eth1 \
		"${1}ipv4.routes" '0.0.0.0/0 10.0.1.1 0 table=20431' \
		"${1}ipv4.routes" '10.0.1.0/24 0 table=20431' \
		"${1}ipv4.routing-rules" 'priority 5198 from 10.0.1.0/24 iif lo table 254 suppress_prefixlength 7' \
		"${1}ipv4.routing-rules" 'priority 5199 from 10.0.1.0/24 iif lo table 20431' || all=1
`
	script := nmcliOf(t, p)
	if d := cmp.Diff(want, changeOf(script)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	head, _, _ := strings.Cut(script, "set -eu\n")
	for line := range strings.Lines(head) {
		if !strings.HasPrefix(line, "#") {
			t.Errorf("the head has the line %q", line)
		}
	}
	for _, want := range []string{"(1): suppress_ifgroup", "(2): the link group"} {
		if !strings.Contains(head, want) {
			t.Errorf("the head does not say %q\n%s", want, head)
		}
	}
}

// TestNMCLIWords: routes and rules with all that NetworkManager has words for,
// and what it has none for and replies can do without.
func TestNMCLIWords(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	s := &p.Plan.State
	def, rule := s.Routes[0], s.Rules[1]
	outside, several, ban := def, def, def
	outside.Dst = netip.MustParsePrefix("10.9.0.0/16")
	outside.Hops = []routing.Hop{{Link: "eth1", Via: netip.MustParsePrefix("192.0.2.1/32").Addr(),
		Weight: 1, OnLink: true}}
	outside.MTU, outside.Opaque = 1400, "initcwnd lock 20 quickack 1 hoplimit 64"
	several.Hops = []routing.Hop{{Link: "eth1", Via: def.Hops[0].Via, Weight: 3},
		{Link: "eth0", Weight: 1}}
	ban.Type, ban.Hops, ban.Metric = routing.Unreachable, nil, 4294967295
	s.Routes = []routing.Route{outside, several, ban}
	rule.To, rule.Mark, rule.Mask = netip.MustParsePrefix("10.8.0.0/16"), 0, 3
	rule.Opaque, rule.OIF = "tos 0x10 ipproto tcp dport 80-90", "eth0"
	reject := rule
	reject.Action, reject.Table, reject.Opaque = routing.RejectProhibit, 0, ""
	s.Rules = []routing.Rule{rule, reject}
	want := `	modify eth0 \
		"${1}ipv4.routes" '0.0.0.0/0 0 table=20431 weight=1' || all=1
	modify eth1 \
		"${1}ipv4.routes" '10.9.0.0/16 192.0.2.1 0 table=20431 onlink=true mtu=1400 lock-initcwnd=true initcwnd=20 quickack=true' \
		"${1}ipv4.routes" '0.0.0.0/0 10.0.1.1 0 table=20431 weight=3' \
		"${1}ipv4.routes" '0.0.0.0/0 4294967295 table=20431 type=unreachable' \
		"${1}ipv4.routing-rules" 'priority 5199 from 10.0.1.0/24 to 10.8.0.0/16 tos 0x10 ipproto 6 dport 80-90 fwmark 0x0/0x3 iif lo oif eth0 table 20431' \
		"${1}ipv4.routing-rules" 'priority 5199 from 10.0.1.0/24 to 10.8.0.0/16 fwmark 0x0/0x3 iif lo oif eth0 type prohibit' || all=1
`
	script := nmcliOf(t, p)
	if d := cmp.Diff(want, changeOf(script)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if !strings.Contains(script, "(1): the metric hoplimit of a route\n") {
		t.Errorf("the head does not name the metric\n%s", script)
	}
}

// TestNMCLIRefuses: what would be wrong, or less than what the host has, is an
// error.
func TestNMCLIRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*routing.Plan)
		want   string
	}{
		{"a word of the shell", func(p *routing.Plan) { p.State.Routes[0].Hops[0].Link = "$(id)" }, `interface name "$(id)"`},
		{"an option", func(p *routing.Plan) { p.State.Routes[0].Hops[0].Link = "-rf" }, `interface name "-rf"`},
		{"a name in a rule", func(p *routing.Plan) { p.State.Rules[0].OIF = "a'b" }, `interface name "a'b"`},
		{"goto", func(p *routing.Plan) { p.State.Rules[0].Action = routing.Goto }, "the action of the rule"},
		{"realms", func(p *routing.Plan) { p.State.Rules[0].Opaque = "realms 7" }, "a selector of the rule"},
		{"a VRF's", func(p *routing.Plan) { p.State.Rules[0].Opaque = "l3mdev" }, "a selector of the rule"},
		{"several IPv6 gateways", func(p *routing.Plan) {
			p.State.Routes[0].Dst = netip.MustParsePrefix("::/0")
			p.State.Routes[0].Hops = []routing.Hop{{Link: "eth1"}, {Link: "eth1"}}
		}, "several gateways"},
		{"an IPv6 gateway", func(p *routing.Plan) {
			p.State.Routes[0].Hops[0].Via = netip.MustParsePrefix("fe80::1/128").Addr()
		}, "the IPv6 gateway"},
		{"a rule by hand", func(p *routing.Plan) { p.Paths[0].Source = routing.FromRule }, "no longer leave by eth1 as your rules say"},
		{"last-hop", func(p *routing.Plan) { p.State.Filters = make([]routing.Filter, 1) }, "the mode last-hop"},
	} {
		p := makePlan(t, listener("10.0.1.100", 80))
		tt.change(&p.Plan)
		var b bytes.Buffer
		if err := NMCLI(&b, p); err == nil || !strings.Contains(err.Error(), tt.want) ||
			b.Len() > 0 {
			t.Errorf("%s: %v and %d bytes, want %q", tt.name, err, b.Len(), tt.want)
		}
	}
	script := nmcliOf(t, makePlan(t))
	if !strings.Contains(script, "# Nothing is needed: apply does nothing.\n") {
		t.Error(script)
	}
}

// TestNMCLIScript runs the script with an nmcli that answers and writes down
// what it shall change: who has no profile is told so before anything is
// changed, and a change that fails is taken back.
func TestNMCLIScript(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	several := p.Plan.State.Routes[0]
	several.Hops = []routing.Hop{{Link: "eth0", Weight: 1}}
	p.Plan.State.Routes = append(p.Plan.State.Routes, several)
	script := nmcliOf(t, p)
	for _, tt := range []struct{ name, verb, answer, calls, stderr string }{
		{"apply", "apply", "", "modify u-eth0 +,reapply eth0,modify u-eth1 +,reapply eth1", ""},
		{"undo", "undo", "", "modify u-eth0 -,reapply eth0,modify u-eth1 -,reapply eth1,flush 20431 static", ""},
		{"not managed", "apply", `[ "$2 $5" != "GENERAL.CON-UUID eth1" ] || uuid=`, "", "eth1 has no connection profile of NetworkManager (100 (connected)): other software manages it"},
		{"made of what was found", "apply", `state='100 (connected (externally))'`, "", "eth0 has no connection profile"},
		{"of several interfaces", "apply", `multi='3 (multiple)'`, "", "the connection profile of eth0 is for several interfaces"},
		{"no NetworkManager", "apply", `exit 8`, "", "does not run"},
		{"a word that is too new", "apply", `case "$*" in *modify*eth1*+ipv4*) echo unknown >&2; exit 2 ;; esac`,
			"modify u-eth0 +,reapply eth0,modify u-eth0 -,reapply eth0,modify u-eth1 -,reapply eth1,flush 20431 static", "unknown\nerror: nothing is changed"},
		{"one is gone", "undo", `[ "$4 $5" != "show eth0" ] || exit 10`, "modify u-eth1 -,reapply eth1,flush 20431 static", "does not know eth0"},
	} {
		calls, stderr, err := runNMCLI(t, script, tt.verb, tt.answer)
		if calls != tt.calls || !strings.Contains(stderr, tt.stderr) ||
			(err == nil) != (tt.stderr == "") {
			t.Errorf("%s: %v, %q\ngot  %s\nwant %s and %q", tt.name, err, stderr, calls,
				tt.calls, tt.stderr)
		}
	}
}

// runNMCLI returns the calls that change something.
func runNMCLI(t *testing.T, script, verb, answer string) (calls, stderr string, err error) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	nmcli := `#!/bin/sh
state='100 (connected)' uuid=u-$5 multi='0 (default)'
` + answer + `
case "$*" in
*STATE*) echo "$state" ;;
*CON-UUID*) echo "$uuid" ;;
*multi-connect*) echo "$multi" ;;
'connection modify'*) printf 'modify %s %.1s,' "$3" "$4" >>` + log + ` ;;
*) printf 'reapply %s,' "$3" >>` + log + ` ;;
esac
`
	for name, text := range map[string]string{"nmcli": nmcli, "ip": "#!/bin/sh\n" +
		`[ "$1" != -4 ] || printf 'flush %s %s,' $5 $7 >>` + log + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("sh", "-s", verb)
	c.Stdin = strings.NewReader(script)
	c.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	var e bytes.Buffer
	c.Stderr = &e
	err = c.Run()
	out, _ := os.ReadFile(log)
	return strings.TrimSuffix(string(out), ","), e.String(), err
}
