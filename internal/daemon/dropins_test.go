package daemon

import (
	"bytes"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/routing"
	"lasthop/routing/sim"
)

// TestNetworkdDropIns: a real systemd-networkd loads what `plan -o networkd`
// prints, in the way that the text says. The kernel then has what `apply` gives
// it on the same host: the same routes and groups, and the same rules except
// for their protocol, which is static. (Several next hops are a set: networkd
// keeps the members of a group in no order.)
func TestNetworkdDropIns(t *testing.T) {
	t.Parallel()
	needDropIns(t)
	for _, tt := range []struct {
		name, eth0, eth1, listens string
		flags                     []string
		objects                   int // of the state, at least: groups, routes, rules
	}{
		{"two uplinks, IPv4 and IPv6", "Address=2001:db8::10/64\nGateway=2001:db8::1\n",
			withVIP + "Address=2001:db8:1::100/64\n" + withGateway + "[Route]\nGateway=2001:db8:1::1\nMetric=2000\n",
			"listen 10.0.1.100:80; listen [2001:db8:1::100]:80;", nil, 10},
		{"several gateways, fail_closed, direct", "",
			withVIP + "[Route]\nDestination=0.0.0.0/0\nMultiPathRoute=10.0.1.1@eth1 1\nMultiPathRoute=10.0.1.2@eth1 3\nMetric=100\n[Route]\nDestination=10.7.0.0/16\nGateway=10.0.1.7\nMTUBytes=1400\n",
			"listen 10.0.1.100:80; listen 10.0.0.10:80;", []string{"--fail-closed", "*", "--direct", "10.9.0.0/16"}, 15},
		{"several IPv6 gateways, a gateway outside, main-first, exact cover", "Address=2001:db8::10/64\nGateway=2001:db8::1\n",
			withVIP + "Address=2001:db8:1::100/64\n[Route]\nDestination=::/0\nMultiPathRoute=2001:db8:1::1@eth1 1\nMultiPathRoute=2001:db8:1::2@eth1 1\nMetric=2000\n",
			"listen 10.0.1.100:80; listen [2001:db8:1::100]:80; location / { proxy_bind $remote_addr transparent; proxy_pass http://10.0.1.50; }",
			[]string{"--gateway", "eth1=192.0.2.1", "--return", "eth1=main-first"}, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := bareNetworkd(t)
			n.Lines(twoVeths)
			n.Network("10-netplan-eth0",
				strings.Replace(networkd0, "Gateway=10",
					tt.eth0+"Gateway=10", 1))
			n.Network("10-netplan-eth1", networkd1+tt.eth1)
			n.Conf(tt.listens)
			n.Start()
			n.Configured()
			n.dropIns(t, tt.flags, tt.objects)
		})
	}
}

var allDropIns = flag.Bool("dropins", false,
	"load drop-ins for the host of every scenario; a minute")

// TestNetworkdScenarios does the same on the host of every scenario; networkd
// is configured to leave the host as it is.
func TestNetworkdScenarios(t *testing.T) {
	if !*allDropIns {
		t.Skip("-dropins")
	}
	t.Parallel()
	needDropIns(t)
	paths, err := filepath.Glob("../../testdata/scenario/*.txtar")
	if err != nil || len(paths) < 40 {
		t.Fatalf("%d scenarios, %v, want at least 40", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]string{}
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			if !strings.Contains(sections["flags"], "pure") {
				newScenarioNetworkd(t, sections).scenario(t,
					strings.Fields(sections["flags"]))
			}
		})
	}
}

// needDropIns skips a test where networkd is older than what `plan -o networkd`
// writes for: before 250 it has no Group=, no SuppressInterfaceGroup= and no
// next hops that are GatewayOnLink=.
func needDropIns(t *testing.T) {
	t.Helper()
	if line, number := networkdVersion(t); number < 250 {
		t.Skipf("%s: `plan -o networkd` is for 250 or newer", line)
	}
}

// newScenarioNetworkd makes the host of a scenario, and starts a networkd that
// changes nothing of it.
func newScenarioNetworkd(t *testing.T, sections map[string]string) *networkd {
	t.Helper()
	s, err := sim.Parse(sections["host"])
	if err != nil {
		t.Fatal(err)
	}
	n := bareNetworkd(t)
	n.Replace(sections["nginx.conf"])
	all, six := s.Batch()
	n.Batch(all)
	if six != "" {
		n.Lines("-6 " + strings.ReplaceAll(strings.TrimSpace(six), "\n", "\n-6 ") + "\n")
	}
	n.Until("the kernel to be done", func() bool {
		return len(sim.Drop(n.host()).Routes) == len(s.Host.Routes)
	})
	for _, l := range s.Host.Links {
		n.Network(l.Name, "[Match]\nName="+l.Name+"\n[Link]\nActivationPolicy=manual\n"+
			"[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"+
			"KeepConfiguration=yes\nConfigureWithoutCarrier=yes\n")
	}
	n.inside("sh", "-c", "printf '[Network]\\nManageForeignRoutes=no\\n"+
		"ManageForeignRoutingPolicyRules=no\\n' >/etc/systemd/networkd.conf")
	n.Start()
	return n
}

// scenario compares, if a plan needs any object.
func (n *networkd) scenario(t *testing.T, flags []string) {
	t.Helper()
	flags = append(flags, "-c", n.File("nginx.conf"))
	doc, _, _ := n.lasthop(append([]string{"plan", "-o", "networkd"}, flags...)...)
	n.succeeds("apply", flags...)
	want := routing.Owned(n.host(), routing.DefaultNumbers)
	n.succeeds("clear")
	if len(want.Rules) == 0 {
		return
	}
	before := n.host()
	n.write(doc)
	n.Ctl("reload")
	n.compare(t, before, want, doc)
}

func (n *networkd) dropIns(t *testing.T, flags []string, objects int) {
	t.Helper()
	flags = append(flags, "-c", n.File("nginx.conf"))
	before := n.host()
	n.succeeds("apply", flags...)
	want := routing.Owned(n.host(), routing.DefaultNumbers)
	if count := len(want.Groups) + len(want.Routes) + len(want.Rules); count < objects {
		t.Fatalf("apply makes only %d objects:\n%s", count, want)
	}
	n.succeeds("clear")
	if d := cmp.Diff(lines(before), lines(n.host())); d != "" {
		t.Fatalf("clear: -before +after\n%s", d)
	}
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	doc := n.inside(exe, append([]string{"plan", "-o", "networkd"}, flags...)...)
	n.write(doc)
	n.inside("test", "-s", "/etc/systemd/network/10-netplan-eth1.network.d/lasthop.conf")
	n.Ctl("reload")
	n.compare(t, before, want, doc)
	n.onTop(t, flags, before)
}

var hopLimit = regexp.MustCompile(`hoplimit \d+`)

// compare compares what was not there before with what apply has made.
func (n *networkd) compare(t *testing.T, before routing.Host, want routing.State, doc string) {
	t.Helper()
	var got routing.State
	n.Until("networkd to load the files", func() bool {
		got = n.exported(before)
		return len(got.Groups) == len(want.Groups) && len(got.Routes) == len(want.Routes) &&
			len(got.Rules) == len(want.Rules)
	})
	for i := range got.Rules {
		if got.Rules[i].Protocol != 4 {
			t.Errorf("networkd marks a rule with protocol %d, not static",
				got.Rules[i].Protocol)
		}
		got.Rules[i].Protocol = routing.DefaultNumbers.Protocol
	}
	for _, r := range slices.Concat(want.Routes, got.Routes) {
		slices.SortFunc(r.Hops, func(a, b routing.Hop) int { return a.Via.Compare(b.Via) })
	}
	version, number := networkdVersion(t)
	for i := range want.Routes {
		if number < 255 { // it knows no HopLimit=
			want.Routes[i].Opaque = strings.TrimSpace(hopLimit.ReplaceAllString(
				want.Routes[i].Opaque, ""))
		}
	}
	if d := cmp.Diff(want.String(), got.String()); d != "" {
		t.Errorf("-apply +networkd\n%s\n%s", d, doc)
	}
	t.Logf("%s: %d groups, %d routes, %d rules as apply makes them", version,
		len(got.Groups), len(got.Routes), len(got.Rules))
}

// onTop runs lasthop while the files are loaded: nothing becomes asymmetric,
// even if the files are deleted then. After clear, and before the files are
// loaded again, their rules are without routes, as the head of the files says.
func (n *networkd) onTop(t *testing.T, flags []string, before routing.Host) {
	t.Helper()
	n.succeeds("apply", flags...)
	n.succeeds("check", flags...)
	t.Logf("apply on top of them adds\n%s", strings.Join(n.owned(), "\n"))
	n.inside("sh", "-c", "rm /etc/systemd/network/*.network.d/lasthop.conf")
	n.Ctl("reload")
	n.Until("networkd to take its rules away", func() bool {
		return !slices.ContainsFunc(n.host().Rules, func(r routing.Rule) bool {
			return r.Protocol == 4
		})
	})
	n.Configured()
	n.succeeds("apply", flags...)
	n.succeeds("check", flags...)
	n.succeeds("clear")
	if d := cmp.Diff(lines(before), lines(n.host())); d != "" {
		t.Errorf("the files are deleted, but something stays: -before +after\n%s", d)
	}
}

// exported is what the host has and had not before.
func (n *networkd) exported(before routing.Host) routing.State {
	h := n.host()
	s := routing.Owned(h, routing.DefaultNumbers)
	s.Rules = slices.DeleteFunc(h.Rules, func(r routing.Rule) bool {
		return slices.Contains(before.Rules, r)
	})
	s.Sort()
	return s
}

// write writes the files as their own first lines say.
func (n *networkd) write(doc string) {
	n.t.Helper()
	program := regexp.MustCompile(`sudo (awk '.*') DROPINS`).FindStringSubmatch(doc)
	if program == nil {
		n.t.Fatalf("no command in\n%s", doc)
	}
	c := n.Inside("sh", "-c", program[1])
	c.Stdin = strings.NewReader(doc)
	if out, err := c.CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v\n%s", program[1], err, out)
	}
}

// inside runs a command that sees networkd's world.
func (n *networkd) inside(name string, args ...string) string {
	n.t.Helper()
	c := n.Inside(append([]string{name}, args...)...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		n.t.Fatalf("%s %v: %v\n%s%s", name, args, err, &stdout, &stderr)
	}
	return stdout.String()
}

// succeeds runs a command of lasthop in the namespace, which must work.
func (n *networkd) succeeds(command string, args ...string) {
	n.t.Helper()
	if stdout, stderr, code := n.lasthop(append([]string{command}, args...)...); code != 0 {
		n.t.Fatalf("lasthop %s %v: exit %d\n%s%s", command, args, code, stdout, stderr)
	}
}

// lines returns the parts of a host that count here, as lines.
func lines(h routing.Host) []string {
	s := routing.State{Routes: h.Routes, Rules: h.Rules}
	for _, l := range h.Links {
		s.Groups = append(s.Groups, routing.LinkGroup{Link: l.Name, Group: l.Group})
	}
	return strings.Split(fmt.Sprint(s), "\n")
}
