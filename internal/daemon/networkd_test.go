package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/doctor"
	"lasthop/routing"
)

// has reports whether eth1 has an address, and main a default route by it.
func (n *networkd) has() (vip, gateway bool) {
	n.t.Helper()
	return strings.Contains(n.IP("-o addr show dev eth1"), " 10.0.1.100/"),
		strings.Contains(n.IP("route show default"), "dev eth1")
}

// removes installs what lasthop owns, stops the daemon, lets networkd do its
// thing, and returns what is gone for good.
func (n *networkd) removes() []string {
	n.t.Helper()
	n.start()
	n.wantFresh("the start")
	if err := n.end(); err != nil {
		n.t.Fatal(err)
	}
	before := n.owned()
	if len(before) < 5 {
		n.t.Fatalf("only %q to lose", before)
	}
	n.Network("eth1", networkd1+withGateway)
	n.Ctl("reload")
	n.waitFor(false, true)
	n.Network("eth1", networkd1+withVIP+withGateway)
	n.Ctl("reload")
	n.waitFor(true, true)
	after := n.owned()
	return slices.DeleteFunc(before, func(line string) bool {
		return slices.Contains(after, line)
	})
}

// waitFor waits until networkd has done its commands, and eth1 has the VIP and
// its gateway, or no longer has them.
func (n *networkd) waitFor(vip, gateway bool) {
	n.t.Helper()
	n.Until(fmt.Sprintf("VIP %t, gateway %t", vip, gateway), func() bool {
		v, g := n.has()
		return v == vip && g == gateway
	})
	n.Configured()
}

// TestNetworkd: a real systemd-networkd is reconfigured, stopped and started
// while the daemon runs. What it removes of lasthop is back after each step.
func TestNetworkd(t *testing.T) {
	t.Parallel()
	n := bareNetworkd(t)
	n.Lines(twoVeths)
	n.Network("eth0", networkd0)
	n.Network("eth1", networkd1+withVIP+withGateway)
	n.Conf("listen 10.0.1.100:80;")
	n.Start()
	n.Configured()
	gone := n.removes()
	version, _ := networkdVersion(t)
	t.Logf("%s, told of another address and back, removes %d objects of lasthop:\n%s", version,
		len(gone), strings.Join(gone, "\n"))
	n.start()
	n.wantFresh("the start while networkd runs")
	for _, step := range []struct {
		what         string
		do           func()
		vip, gateway bool // are there afterwards
	}{
		{"reload of the same", func() { n.Ctl("reload") }, true, true},
		{"reload without the VIP", func() { n.Network("eth1", networkd1+withGateway); n.Ctl("reload") }, false, true},
		{"reload with it again", func() { n.Network("eth1", networkd1+withVIP+withGateway); n.Ctl("reload") }, true, true},
		{"reload without the gateway", func() { n.Network("eth1", networkd1+withVIP); n.Ctl("reload") }, true, false},
		{"reload with it again", func() { n.Network("eth1", networkd1+withVIP+withGateway); n.Ctl("reload") }, true, true},
		{"eth1 reconfigured", func() { n.Ctl("reconfigure", "eth1") }, true, true},
		{"eth0 reconfigured", func() { n.Ctl("reconfigure", "eth0") }, true, true},
		{"eth1 down and up", func() { n.Ctl("down", "eth1"); n.Ctl("up", "eth1") }, true, true},
		{"restart", func() { n.Stop(); n.Start() }, true, true},
		{"restart with another file", func() {
			n.Stop()
			n.Network("eth1", networkd1+withGateway)
			n.Start()
			n.Ctl("reconfigure", "eth1") // 252 leaves the address alone until then
		}, false, true},
		{"restart with the first again", func() { n.Stop(); n.Network("eth1", networkd1+withVIP+withGateway); n.Start() }, true, true},
	} {
		n.log.Take()
		step.do()
		n.waitFor(step.vip, step.gateway)
		// without, what is held is more than a fresh start would know
		if n.quiet(); step.gateway {
			n.wantFresh(step.what)
		}
		t.Logf("%s: %d lines in the log", step.what, strings.Count(n.log.Take(), "\n"))
	}
	n.namesNetworkd(t)
}

// namesNetworkd deletes what lasthop owns as networkd would, while it runs: the
// log says that it may have been, and the finding how to stop it.
func (n *networkd) namesNetworkd(t *testing.T) {
	t.Helper()
	want := n.owned()
	n.d.pardon(t)
	n.log.Take()
	n.deleteOwned()
	n.Until("all to be back", func() bool { return slices.Equal(n.owned(), want) })
	st, said := n.quiet(), 0
	for line := range strings.Lines(n.log.Take()) {
		if !strings.Contains(line, "deleted by another program, restored") {
			continue
		}
		if said++; !strings.Contains(line, "systemd-networkd?") {
			t.Errorf("networkd is not named: %s", line)
		}
	}
	if said == 0 {
		t.Error("the log says nothing of what was deleted")
	}
	found := slices.ContainsFunc(st.Plan.Findings, func(f routing.Finding) bool {
		return f.Code == "networkd-deletes-rules"
	})
	if _, want := doctor.Networkd("/", "systemd-networkd?"); found != want {
		t.Errorf("finding networkd-deletes-rules is %t", found)
	}
}
