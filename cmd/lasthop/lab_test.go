package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The VIPs of the lab in the order of its reports, and the interface that each
// one is on.
var labVIPs = []struct{ addr, link string }{
	{"10.0.0.100", "eth0"}, {"10.0.1.100", "eth1"}, {"10.0.2.100", "eth2"},
	{"2001:db8:1::100", "eth1"}, {"2001:db8:2::100", "eth2"}, {"2001:db8::100", "eth0"},
}

const (
	allOK   = "http ok, ping ok, tcp ok, udp ok"
	allLost = "http lost, ping lost, tcp lost, udp lost"
	tcpLost = "http lost, ping ok, tcp lost, udp ok"
)

// lab is testdata/lab with the real nginx in it, up while the test runs.
type lab struct {
	t *testing.T
	// nsenter, into the mount namespace where the lab's network namespaces
	// have their names
	enter   []string
	script  string
	lasthop string
}

// newLab raises a lab of the test's own, with lasthop built.
func newLab(t *testing.T) *lab {
	t.Helper()
	script, err := filepath.Abs("../../testdata/lab/lab.sh")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(script, "possible").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the lab needs root or user namespaces: %s", out)
		}
		t.Skipf("the lab needs root or user namespaces: %s", out)
	}
	l := &lab{t: t, script: script, lasthop: filepath.Join(t.TempDir(), "lasthop")}
	if out, err := exec.Command("go", "build", "-o", l.lasthop,
		".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	// root: of a chroot, too
	l.enter = []string{"nsenter", "--target", l.hold(), "--mount", "--net", "--root"}
	if os.Geteuid() != 0 {
		l.enter = append(l.enter, "--user", "--preserve-credentials")
	}
	return l
}

// hold starts the process that the lab lives with, and returns its id once the
// lab is up.
func (l *lab) hold() string {
	l.t.Helper()
	c := exec.Command(l.script, "run", "sh", "-c", "echo $$; read _")
	var stderr strings.Builder
	c.Stderr = &stderr
	stdin, err := c.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { stdin.Close(); c.Wait() })
	pid, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		l.t.Fatalf("raise the lab: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(pid)
}

func (l *lab) command(args ...string) *exec.Cmd {
	return exec.Command(l.enter[0],
		append(slices.Concat(l.enter[1:], []string{"--", l.script}), args...)...)
}

// do runs a command of lab.sh and returns what it printed.
func (l *lab) do(args ...string) string {
	l.t.Helper()
	var stderr strings.Builder
	c := l.command(args...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		l.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// host runs a command line on the NGINX host.
func (l *lab) host(command string) string {
	l.t.Helper()
	return l.do(append([]string{"at", "host"}, strings.Fields(command)...)...)
}

// run runs lasthop on the NGINX host.
func (l *lab) run(args string) string {
	l.t.Helper()
	return l.host(l.lasthop + " " + args)
}

// wantExit runs lasthop for its exit status.
func (l *lab) wantExit(t *testing.T, want int, args ...string) {
	t.Helper()
	got := 0
	out, err :=
		l.command(append([]string{"at", "host", l.lasthop}, args...)...).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("lasthop %s: exit status %d, want %d\n%s", strings.Join(args, " "),
			got, want, out)
	}
}

// answers asks every VIP from a namespace of the lab: address -> "http ok, ping
// ok, tcp lost, udp ok".
func (l *lab) answers(from ...string) map[string]string {
	l.t.Helper()
	got := make(map[string]string)
	for line := range strings.Lines(l.do(append([]string{"probe"}, from...)...)) {
		vip, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		if got[vip] != "" {
			said = ", " + said
		}
		got[vip] += said
	}
	return got
}

// wantAnswers has a subtest for each VIP. An answer that is wanted gets three
// tries on a busy machine, a loss only one.
func (l *lab) wantAnswers(t *testing.T, want func(link string) string, from ...string) {
	t.Helper()
	wants := make(map[string]string)
	for _, vip := range labVIPs {
		wants[vip.addr] = want(vip.link)
	}
	got := l.answers(from...)
	for range 2 {
		if lostTooMuch(got, wants) {
			got = l.answers(from...)
		}
	}
	for _, vip := range labVIPs {
		t.Run(vip.link+" "+vip.addr, func(t *testing.T) {
			if got[vip.addr] != wants[vip.addr] {
				t.Errorf("from %v: got %s, want %s", from, got[vip.addr],
					wants[vip.addr])
			}
			t.Log(got[vip.addr])
		})
	}
}

func lostTooMuch(got, want map[string]string) bool {
	for vip := range want {
		if strings.Count(got[vip], "lost") > strings.Count(want[vip], "lost") {
			return true
		}
	}
	return false
}

func everyVIP(string) string { return allOK }

func onlyEth0(link string) string {
	if link == "eth0" {
		return allOK
	}
	return allLost
}

// wantLeft compares the interfaces that the replies to a namespace left by
// since the last `forget`.
func (l *lab) wantLeft(t *testing.T, want func(link string) string, to string) {
	t.Helper()
	got, wants := make(map[string][]string), make(map[string][]string)
	out := l.do("left", to)
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		got[f[0]] = append(got[f[0]], f[1])
	}
	for _, vip := range labVIPs {
		wants[vip.addr] = []string{want(vip.link)}
	}
	if diff := cmp.Diff(wants, got); diff != "" {
		t.Errorf("interfaces that the replies left by (-want +got):\n%s", diff)
	}
	t.Logf("packets:\n%s", out)
}

func ownLink(link string) string          { return link }
func always(s string) func(string) string { return func(string) string { return s } }

// drops returns one of the firewall's counters.
func (l *lab) drops(t *testing.T, reason string) int {
	t.Helper()
	for line := range strings.Lines(l.do("drops")) {
		if f := strings.Fields(line); f[0] == reason {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the firewall does not count %s", reason)
	return 0
}

// TestLabFirewallLosesReplies shows that what fails before `apply` fails
// because of the firewall, and counts it there.
func TestLabFirewallLosesReplies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, tt := range []struct {
		mode    string
		want    func(string) string
		reasons []string
	}{
		{"strict", onlyEth0, []string{"rp_filter", "reverse_path6"}},
		{"stateful", onlyEth0, []string{"out_of_state"}},
		{"open", everyVIP, nil},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			l.do("firewall", tt.mode)
			l.do("forget")
			l.wantAnswers(t, tt.want, "client")
			l.wantLeft(t, always("eth0"), "client")
			for _, reason := range tt.reasons {
				if n := l.drops(t, reason); n == 0 {
					t.Errorf("the firewall dropped nothing by %s", reason)
				} else {
					t.Logf("the firewall dropped %d packets by %s", n, reason)
				}
			}
		})
	}
}

// TestLabApply is the product in one test: lost before, answered after, by the
// right interface, for each kind of client.
func TestLabApply(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	t.Run("before/client", func(t *testing.T) { l.wantAnswers(t, onlyEth0, "client") })
	// TCP dies at the firewall; the rest reaches the client around it
	t.Run("before/LAN of eth0", func(t *testing.T) {
		l.wantAnswers(t, func(link string) string {
			if link == "eth0" {
				return allOK
			}
			return tcpLost
		}, "lan")
	})
	t.Run("before/check exits 2", func(t *testing.T) { l.wantExit(t, 2, "check") })
	l.run("apply")
	t.Run("after/check exits 0", func(t *testing.T) { l.wantExit(t, 0, "check") })
	t.Run("after/proved to user nobody", l.wantProof)
	for _, tt := range []struct {
		name, from string
		left       func(string) string
	}{
		{"after/client", "client", ownLink},
		{"after/LAN of eth0", "lan", ownLink},
		{"after/container", "ctr", always("br0")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.do("forget")
			l.wantAnswers(t, everyVIP, tt.from)
			l.wantLeft(t, tt.left, tt.from)
		})
	}
}

// wantProof makes user nobody prove the plan, a user that may read the program
// and the configuration; if the tests run without root, their own user does.
func (l *lab) wantProof(t *testing.T) {
	dir := filepath.Dir(l.lasthop)
	conf, err := os.ReadFile("../../testdata/lab/nginx.conf")
	if err := errors.Join(err, os.WriteFile(dir+"/nginx.conf", conf, 0o644),
		os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	command := l.lasthop + " plan --prove -c " + dir + "/nginx.conf"
	if os.Geteuid() == 0 {
		command = "setpriv --reuid 65534 --regid 65534 --clear-groups " + command
	}
	snapshot := l.do("snapshot")
	if out := l.host(command); !strings.Contains(out, ", all as planned\n") ||
		strings.Contains(out, "could not rebuild") {
		t.Errorf("not proved:\n%s", out)
	}
	if d := cmp.Diff(snapshot, l.do("snapshot")); d != "" {
		t.Errorf("the proof has changed the host: -before +after\n%s", d)
	}
}

// TestLabStrictHost has the reverse path checks on the NGINX host as well.
func TestLabStrictHost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.do("reverse_path", "host", "1")
	t.Run("before", func(t *testing.T) { l.wantAnswers(t, onlyEth0, "client") })
	l.run("apply")
	for _, from := range []string{"client", "lan", "ctr"} {
		t.Run("after/"+from, func(t *testing.T) { l.wantAnswers(t, everyVIP, from) })
	}
}

// TestLabPinnedGateways takes the other gateways out of main, as on the host of
// a hand-made recipe.
func TestLabPinnedGateways(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	pins := ""
	for n := 1; n <= 2; n++ {
		l.host(fmt.Sprintf("ip route del default dev eth%d", n))
		l.host(fmt.Sprintf("ip -6 route del default dev eth%d", n))
		pins += fmt.Sprintf(" --gateway eth%[1]d=10.0.%[1]d.1 --gateway "+
			"eth%[1]d=2001:db8:%[1]d::1", n)
	}
	t.Run("before", func(t *testing.T) { l.wantAnswers(t, onlyEth0, "client") })
	l.run("apply" + pins)
	l.do("forget")
	t.Run("after", func(t *testing.T) { l.wantAnswers(t, everyVIP, "client") })
	t.Run("left by", func(t *testing.T) { l.wantLeft(t, ownLink, "client") })
}

// The client's second address, that the host bans.
var banned = []string{"client", "198.51.100.66", "2001:db8:c::66"}

func (l *lab) ban() {
	l.t.Helper()
	l.host("ip route add blackhole 198.51.100.66")
	l.host("ip -6 route add blackhole 2001:db8:c::66")
}

// TestLabBan holds that a blackhole in main bans its client after `apply`, and
// no other client.
func TestLabBan(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.run("apply")
	t.Run("before the ban", func(t *testing.T) { l.wantAnswers(t, everyVIP, banned...) })
	l.ban()
	t.Run("banned", func(t *testing.T) { l.wantAnswers(t, always(allLost), banned...) })
	t.Run("not banned", func(t *testing.T) { l.wantAnswers(t, everyVIP, "client") })
}

// TestLabByHand pins what README says of the usual recipe: it helps the client,
// and loses the container and the ban.
func TestLabByHand(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for n := range 3 {
		l.host(fmt.Sprintf("ip route add default via 10.0.%[1]d.1 "+
			"dev eth%[1]d table 10%[1]d", n))
		l.host(fmt.Sprintf("ip rule add from 10.0.%[1]d.0/24 table 10%[1]d", n))
		l.host(fmt.Sprintf("ip -6 route add default via 2001:db8:%[1]d::1 "+
			"dev eth%[1]d table 10%[1]d", n))
		l.host(fmt.Sprintf("ip -6 rule add from 2001:db8:%[1]d::/64 table 10%[1]d", n))
	}
	t.Run("client answered", func(t *testing.T) { l.wantAnswers(t, everyVIP, "client") })
	t.Run("container lost", func(t *testing.T) { l.wantAnswers(t, always(allLost), "ctr") })
	l.ban()
	t.Run("ban without effect", func(t *testing.T) { l.wantAnswers(t, everyVIP, banned...) })
}

// monitor counts rtnetlink's events of changes of rules, routes and links on
// the host.
type monitor struct {
	l     *lab
	lines *bufio.Scanner
}

func (l *lab) monitor(t *testing.T) *monitor {
	t.Helper()
	c := l.command("at", "host", "ip", "monitor", "rule", "route", "link")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	m := &monitor{l: l, lines: bufio.NewScanner(out)}
	seen := make(chan bool)
	go func() { m.until("4001:"); close(seen) }()
	// it says nothing when it is ready: knock
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		l.host("ip rule add pref 4001 lookup 4001")
		l.host("ip rule del pref 4001")
		select {
		case <-seen:
			m.since(4002) // what is left of the knocking
			return m
		default:
		}
	}
	t.Fatal("ip monitor says nothing")
	return nil
}

// until returns the lines before the first one with the text in it.
func (m *monitor) until(text string) (lines []string) {
	for m.lines.Scan() {
		if strings.Contains(m.lines.Text(), text) {
			return lines
		}
		lines = append(lines, m.lines.Text())
	}
	return append(lines, "ip monitor ended")
}

// since returns what happened since the last call; pref is of a rule that marks
// the place, new in each call.
func (m *monitor) since(pref int) []string {
	m.l.t.Helper()
	m.l.host(fmt.Sprintf("ip rule add pref %d lookup %d", pref, pref))
	lines := m.until(fmt.Sprintf("%d:", pref))
	m.l.host(fmt.Sprintf("ip rule del pref %d", pref))
	m.until(fmt.Sprintf("%d:", pref))
	return lines
}

// TestLabSecondApply counts the kernel's own notifications.
func TestLabSecondApply(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.monitor(t)
	l.run("apply")
	if first := m.since(4003); len(first) < 8 {
		t.Errorf("the first apply changed %d things: the count misses some:\n%s",
			len(first), strings.Join(first, "\n"))
	} else {
		t.Logf("first apply: %d messages", len(first))
	}
	var second struct{ Done []any }
	if err := json.Unmarshal([]byte(l.run("apply -o json")), &second); err != nil ||
		len(second.Done) > 0 {
		t.Errorf("the second apply says that it did %v (%v)", second.Done, err)
	}
	if second := m.since(4004); len(second) > 0 {
		t.Errorf("the second apply wrote:\n%s", strings.Join(second, "\n"))
	} else {
		t.Log("second apply: 0 messages")
	}
}

// Foreign objects: near lasthop's by number, by protocol, by table, and of
// every kind that has been lost somewhere before.
const foreign = `
ip rule add pref 5102 from 10.9.0.0/16 lookup 500
ip rule add pref 5203 from 10.8.0.0/16 iif lo lookup 501 protocol 76
ip rule add from 10.7.0.0/16 fwmark 0x80/0x80 lookup 500
ip -6 rule add pref 5102 from 2001:db8:9::/48 lookup 500
ip -6 rule add pref 5203 from 2001:db8:8::/48 lookup 501 protocol 76
ip route add 192.0.2.0/24 via 10.0.1.1 table 500 proto static
ip route add default via 10.0.2.1 dev eth2 table 501 proto 76
ip route add 192.0.2.0/24 via 10.0.1.7 dev eth1 table 20500 proto static onlink
ip route add blackhole 203.0.113.66
ip route add 203.0.113.0/24 proto bird nexthop via 10.0.1.1 weight 2 nexthop via 10.0.2.1
ip -6 route add 2001:db8:a::/48 via 2001:db8:1::1 dev eth1 table 500 proto static
ip -6 route add 2001:db8:b::/48 via 2001:db8:2::1 dev eth2 proto 76
ip -6 route add 2001:db8:d::/48 via 2001:db8:2::1 dev eth2 expires 600
ip -6 route add unreachable 2001:db8:e::/48
ip link set dev br0 group 7
`

// TestLabClear compares the host's rules, routes and links byte for byte.
func TestLabClear(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for line := range strings.Lines(strings.TrimSpace(foreign)) {
		l.host(strings.TrimSpace(line))
	}
	before := l.do("snapshot")
	l.run("apply")
	l.run("apply --gateway eth2=none")
	l.run("apply")
	if l.do("snapshot") == before {
		t.Fatal("apply has changed nothing, so clear proves nothing")
	}
	t.Run("answers", func(t *testing.T) { l.wantAnswers(t, everyVIP, "client") })
	l.run("clear")
	t.Run("as before", func(t *testing.T) {
		after := l.do("snapshot")
		if diff := cmp.Diff(strings.Split(before, "\n"),
			strings.Split(after, "\n")); diff != "" {
			t.Errorf("clear leaves (-before +after):\n%s", diff)
		}
		t.Logf("%d lines of ip -d rule, ip route show table all and ip -d link, both "+
			"families, are as before", strings.Count(before, "\n"))
	})
	t.Run("lost again", func(t *testing.T) { l.wantAnswers(t, onlyEth0, "client") })
}
