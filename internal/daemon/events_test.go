package daemon

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// wantFresh waits until what is installed is what a first start on the host as
// it is would install, and stays so.
func (s *server) wantFresh(what string) {
	s.t.Helper()
	var diff string
	same := func() bool {
		var want []string
		for _, op := range routing.Compare(routing.State{}, s.freshState()).Ops() {
			want = append(want, op.String())
		}
		diff = cmp.Diff(want, s.owned())
		return diff == ""
	}
	for end := time.Now().Add(10 * time.Second); !same(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: a fresh start would install otherwise: -fresh +here\n%s",
				what, diff)
		}
	}
	if s.quiet(); !same() {
		s.t.Errorf("%s: it did not stay as a fresh start would have it: -fresh +here\n%s",
			what, diff)
	}
	if st := s.status(); !st.InSync {
		s.t.Errorf("%s: not in sync: %q, missing %v", what, st.Wrong, st.Diff.Ops())
	}
}

// TestRunHostChanges: after each change of the host the state is that of a
// fresh start.
func TestRunHostChanges(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, lines, then string }{
		{"admin down and up", "link set eth1 down", "link set eth1 up\nroute add default via 10.0.1.1 dev eth1 metric 100\n-6 addr add 2001:db8:1::100/64 dev eth1 nodad\n-6 route add default via 2001:db8:1::1 dev eth1 metric 2000"},
		{"carrier loss", "link set peer1 down", "link set peer1 up"},
		{"primary address deleted and added again", "addr del 10.0.1.10/24 dev eth1", "addr add 10.0.1.10/24 dev eth1\naddr replace 10.0.1.100/24 dev eth1\naddr replace 10.0.1.101/24 dev eth1\nroute replace default via 10.0.1.1 dev eth1 metric 100"},
		{"a listener's address deleted and added again", "addr del 10.0.1.100/24 dev eth1", "addr add 10.0.1.100/24 dev eth1"},
		{"rename", "link set eth1 down\nlink set eth1 name wan1\nlink set wan1 up\nroute add default via 10.0.1.1 dev wan1 metric 100", "link set wan1 down\nlink set wan1 name eth1\nlink set eth1 up\nroute add default via 10.0.1.1 dev eth1 metric 100"},
		{"interface deleted and made again", "link del eth1", "link add eth1 type veth peer name peer1\nlink set peer1 up\nlink set eth1 up\naddr add 10.0.1.10/24 dev eth1\naddr add 10.0.1.100/24 dev eth1\nroute add default via 10.0.1.1 dev eth1 metric 100"},
		{"lease renewed with another gateway", "addr replace 10.0.1.10/24 dev eth1 valid_lft 3600 preferred_lft 3600\nroute del default via 10.0.1.1 dev eth1 metric 100\nroute add default via 10.0.1.2 dev eth1 metric 100", "route del default via 10.0.1.2 dev eth1 metric 100\nroute add default via 10.0.1.1 dev eth1 metric 100"},
		{"router advertisements", "-6 route replace default via 2001:db8:1::1 dev eth1 metric 2000 expires 1800", "-6 route replace default via 2001:db8:1::1 dev eth1 metric 2000 expires 900"},
		{"a bridge with containers", "link add br0 type bridge\nlink set br0 up\naddr add 172.17.0.1/16 dev br0", "link del br0"},
		{"a route to pods", "route add 10.244.0.0/16 via 10.0.1.7 dev eth1", "route del 10.244.0.0/16 via 10.0.1.7 dev eth1"},
		{"an address that is no listener's", "addr add 10.0.2.77/24 dev eth2", "addr del 10.0.2.77/24 dev eth2"},
		{"a catch-all rule in front, as wg-quick makes it", "link add wg0 type bridge\nlink set wg0 up\nroute add default dev wg0 table 51820\nrule add priority 300 not fwmark 51820 table 51820", "rule del priority 300\nlink del wg0"},
		{"a second router in the subnet", "route replace default via 10.0.1.3 dev eth1 metric 50", "route del default via 10.0.1.3 dev eth1 metric 50"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443; listen " +
				"[2001:db8:1::100]:80;")
			s.start()
			s.wantFresh("the start")
			s.Lines(tt.lines)
			s.wantFresh(tt.name)
			s.Lines(tt.then)
			s.wantFresh("and back")
		})
	}
}

// TestRunRuleset: on a host that forwards, a rule of the packet filter that
// looks up forwarded packets immediately makes the covers exact, and so does
// forwarding that begins. They are wide again as soon as the rule has gone.
func TestRunRuleset(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.10:80; listen 10.0.1.100:80; listen 10.0.1.101:80;")
	s.Sysctl("net.ipv4.ip_forward=1")
	s.start()
	exact := func() bool {
		return slices.ContainsFunc(s.owned(), func(op string) bool {
			return strings.Contains(op, "from 10.0.1.10 iif lo")
		})
	}
	if exact() {
		t.Errorf("exact without a reason: %q", s.owned())
	}
	s.Run("nft", "table inet fw { chain prerouting { type filter hook prerouting priority "+
		"raw; fib saddr . iif oif missing drop; }; }")
	s.Until("the covers are exact", exact)
	s.wantFresh("a ruleset that looks up")
	for _, setting := range []string{"net.ipv4.ip_forward=0", "net.ipv4.ip_forward=1"} {
		s.Sysctl(setting)
		s.Until(setting, func() bool { return exact() == strings.HasSuffix(setting, "1") })
		s.wantFresh(setting)
	}
	s.Run("nft", "flush ruleset")
	s.Until("the covers are wide", func() bool { return !exact() })
	s.wantFresh("an empty ruleset")
}

// TestRunHeldGateway: a default route that vanishes for a while, as a lease's
// or a router's does, takes no path with it.
func TestRunHeldGateway(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	before := s.owned()
	s.Lines("route del default via 10.0.1.1 dev eth1 metric 100")
	s.Until("the finding", func() bool {
		return slices.ContainsFunc(s.status().Plan.Findings,
			func(f routing.Finding) bool { return f.Code == "held-gateway" })
	})
	s.quiet()
	if d := cmp.Diff(before, s.owned()); d != "" {
		t.Errorf("a lost gateway changed what is installed: -before +after\n%s", d)
	}
	s.Lines("route add default via 10.0.1.1 dev eth1 metric 100")
	s.Until("the finding to go", func() bool {
		return !slices.ContainsFunc(s.status().Plan.Findings,
			func(f routing.Finding) bool { return f.Code == "held-gateway" })
	})
	s.wantFresh("the gateway is back")
}

// TestRunNeedlessFollows: a path that nothing needs any more stays for a
// minute, and follows the host as long.
func TestRunNeedlessFollows(t *testing.T) {
	t.Parallel()
	s := bareServer(t)
	s.Lines("link add eth0 type veth peer name peer0\nlink set peer0 up\n" +
		"link set eth0 up\naddr add 10.0.0.10/24 dev eth0\n" +
		"route add default via 10.0.0.1 dev eth0\nlink add wg0 type bridge\n" +
		"link set wg0 up\nroute add default dev wg0 table 51820\n")
	s.Conf("listen 10.0.0.10:80;")
	s.start()
	s.Lines("rule add not fwmark 51820 table 51820")
	s.Until("a path", func() bool { return has(s.owned(), "default via 10.0.0.1 dev eth0") })
	s.Lines("rule del not fwmark 51820 table 51820")
	s.quiet()
	if d := s.owned(); !has(d, "default via 10.0.0.1 dev eth0") {
		t.Fatalf("the path is gone at once: %v", d)
	}
	s.Lines("route replace default via 10.0.0.5 dev eth0\n" +
		"rule add pref 30000 to 198.51.100.66 blackhole\n")
	s.Until("the new gateway and the ban", func() bool {
		o := s.owned()
		return has(o, "default via 10.0.0.5 dev eth0") && !has(o, "via 10.0.0.1 ") &&
			has(o, "from 10.0.0.0/24 to 198.51.100.66 iif lo blackhole")
	})
	s.loop(func() {
		if in := time.Until(s.d.agenda[doForget]); in <= 0 || in > forgetAfter {
			t.Errorf("the path is forgotten in %v", in)
		}
		for path, since := range s.d.reconciler.needless {
			s.d.reconciler.needless[path] = since.Add(-forgetAfter)
		}
		s.d.sync()
	})
	if o := s.owned(); len(o) > 0 {
		t.Errorf("the path is there a minute later: %q", o)
	}
}

// deleteOwned deletes everything that lasthop owns as another program would,
// with one call of ip.
func (s *server) deleteOwned() {
	s.t.Helper()
	o := routing.Owned(s.host(), routing.DefaultNumbers)
	var four, six strings.Builder
	for _, op := range routing.Compare(o, routing.State{}).Ops() {
		line := strings.TrimPrefix(op.String(), "ip ")
		if rest, ok := strings.CutPrefix(line, "-6 "); ok {
			fmt.Fprintln(&six, rest)
		} else {
			fmt.Fprintln(&four, line)
		}
	}
	for family, lines := range map[string]string{"-4": four.String(), "-6": six.String()} {
		// an object that goes with another one is no error
		c := s.Command("ip", family, "-force", "-batch", "-")
		c.Stdin = strings.NewReader(lines)
		if out, err := c.CombinedOutput(); err != nil && c.ProcessState.ExitCode() != 1 {
			s.t.Fatalf("ip -batch: %v\n%s", err, out)
		}
	}
}

// TestRunHeals: what another program deletes comes back, each heal is logged,
// and foreign objects stay.
func TestRunHeals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443; listen [2001:db8:1::100]:80;")
	s.start()
	want, foreign := s.owned(), s.foreign()
	if len(want) < 15 {
		t.Fatalf("only %d objects to delete", len(want))
	}
	for n := range 5 {
		s.log.Take()
		s.deleteOwned()
		s.Until("all to be back", func() bool { return cmp.Diff(want, s.owned()) == "" })
		s.quiet()
		if log := s.log.Take(); !strings.Contains(log,
			"deleted by another program, restored") {
			t.Errorf("round %d: nothing was said:\n%s", n, log)
		}
		s.Lines("rule del priority 5198") // one alone
		s.Until("it to be back", func() bool { return cmp.Diff(want, s.owned()) == "" })
		s.quiet() // the next look knows of no deletion
		s.d.pardon(t)
	}
	if d := cmp.Diff(foreign, s.foreign()); d != "" {
		t.Errorf("foreign objects have changed: -before +after\n%s", d)
	}
	if st := s.quiet(); st.Counts.Heals < 5*len(want) || st.Counts.Fights != 0 || !st.InSync {
		t.Errorf("counts %+v, in sync %t, %q", st.Counts, st.InSync, st.Wrong)
	}
}

// pardon makes the daemon forget what it has healed, as time would.
func (d *daemon) pardon(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	d.calls <- func() { d.reconciler.healer.fights = fights{}; close(done) }
	<-done
}

// TestRunFight: lasthop backs off from an adversary that deletes in a loop,
// with one line for each step.
func TestRunFight(t *testing.T) {
	s := newServer(t)
	s.start()
	want := s.owned()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("nsenter", "--net="+s.Path, "ip", "rule", "del",
					"priority", "5199").Run()
			}
		}
	}()
	s.Until("three steps", func() bool { return s.status().Counts.Fights >= 3 })
	close(stop)
	<-stopped
	log := s.log.Take()
	if heals := strings.Count(log, "deleted by another program, restored"); heals > patience+4 {
		t.Errorf("%d heals were made before and between 3 steps", heals)
	}
	if steps := strings.Count(log, "backing off"); steps != s.status().Counts.Fights {
		t.Errorf("%d lines for %d steps", steps, s.status().Counts.Fights)
	}
	for _, wait := range []string{"wait=1s", "wait=2s", "wait=4s"} {
		if strings.Count(log, wait) != 1 {
			t.Errorf("no single line says %s:\n%s", wait, log)
		}
	}
	if st := s.status(); st.InSync || !has(st.Wrong, "keeps deleting") {
		t.Errorf("in sync %t, wrong %q", st.InSync, st.Wrong)
	}
	s.Until("the last heal", func() bool {
		return cmp.Diff(want, s.owned()) == "" && s.status().InSync
	})
}
