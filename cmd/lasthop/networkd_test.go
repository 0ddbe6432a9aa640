package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"lasthop/routing"
)

// networkd is a real systemd-networkd beside a server: in its network
// namespace, with a mount namespace and a bus of its own, so that networkctl
// works too.
type networkd struct {
	*server
	exe   string
	enter []string // nsenter, into both namespaces
	run   *exec.Cmd
}

const twoVeths = `
link add eth0 type veth peer name peer0
link add eth1 type veth peer name peer1
link set peer0 up
link set peer1 up
`

const networkd0 = "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n" +
	"Address=10.0.0.10/24\nGateway=10.0.0.1\n"

// networkd1 is eth1's file, with more lines.
func networkd1(more string) string {
	return "[Match]\nName=eth1\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n" +
		"Address=10.0.1.10/24\n" + more
}

const (
	withVIP     = "Address=10.0.1.100/24\n"
	withGateway = "[Route]\nGateway=10.0.1.1\nMetric=100\n"
)

func newNetworkd(t *testing.T) *networkd {
	t.Helper()
	n := bareNetworkd(t)
	n.lines(twoVeths)
	return n
}

// bareNetworkd is one without links.
func bareNetworkd(t *testing.T) *networkd {
	t.Helper()
	for _, name := range []string{"dbus-daemon", "networkctl", "busctl", "unshare"} {
		needCommand(t, name)
	}
	n := &networkd{exe: "/lib/systemd/systemd-networkd"}
	needCommand(t, n.exe)
	n.server = bareServer(t)
	if err := os.Mkdir(n.path("network"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.enter = []string{"nsenter", "--net=" + n.Path,
		fmt.Sprintf("--mount=/proc/%d/ns/mnt", n.bus()), "--"}
	return n
}

// bus starts the bus and returns its process, in whose mount namespace networkd
// will run.
func (n *networkd) bus() int {
	n.t.Helper()
	script, err := filepath.Abs("../../testdata/lab/networkd.sh")
	if err != nil {
		n.t.Fatal(err)
	}
	c := n.Command("unshare", "--mount", "--propagation", "private", script, n.path("network"))
	var stderr strings.Builder
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if address, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		n.t.Fatalf("networkd.sh: %q, %v\n%s", address, err, stderr.String())
	}
	return c.Process.Pid
}

// command is one that sees networkd's world.
func (n *networkd) command(args ...string) *exec.Cmd {
	return exec.Command(n.enter[0], slices.Concat(n.enter[1:], args)...)
}

func (n *networkd) version() string {
	out, _ := n.command(n.exe, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// startNetworkd starts systemd-networkd; it ends with the test, or with
// stopNetworkd.
func (n *networkd) startNetworkd() {
	n.t.Helper()
	log, err := os.OpenFile(n.path("networkd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.run = n.command(n.exe)
	n.run.Stdout, n.run.Stderr = log, log
	if err := n.run.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.stopNetworkd)
	ping := []string{"busctl", "call", "org.freedesktop.network1", "/org/freedesktop/network1",
		"org.freedesktop.DBus.Peer", "Ping"}
	n.until("networkd on the bus", func() bool { return n.command(ping...).Run() == nil })
}

func (n *networkd) stopNetworkd() {
	if n.run == nil {
		return
	}
	_ = n.run.Process.Signal(syscall.SIGTERM)
	err := n.run.Wait()
	n.run = nil
	if log, _ := os.ReadFile(n.path("networkd.log")); err != nil || n.t.Failed() {
		n.t.Logf("networkd: %v\n%s", err, log)
	}
}

// file writes a *.network file.
func (n *networkd) file(link, text string) {
	n.t.Helper()
	if err := os.WriteFile(n.path("network/"+link+".network"), []byte(text),
		0o644); err != nil {
		n.t.Fatal(err)
	}
}

// ctl calls networkctl.
func (n *networkd) ctl(args ...string) {
	n.t.Helper()
	if out, err := n.command(append([]string{"networkctl"},
		args...)...).CombinedOutput(); err != nil {
		n.t.Fatalf("networkctl %v: %v\n%s", args, err, out)
	}
}

// configured waits until networkd is done with a link.
func (n *networkd) configured() {
	n.t.Helper()
	for _, link := range []string{"eth0", "eth1"} {
		n.until(link+" to be configured", func() bool {
			out, err := n.command("networkctl", "status", link).Output()
			return err == nil && strings.Contains(string(out), "(configured)")
		})
	}
}

// has says whether eth1 has an address, and main a default route by it.
func (n *networkd) has() (vip, gateway bool) {
	n.t.Helper()
	return strings.Contains(n.IP("-o addr show dev eth1"), " 10.0.1.100/"),
		strings.Contains(n.IP("route show default"), "dev eth1")
}

// removes installs what is ours, stops the daemon, lets networkd do its thing,
// and returns what is gone for good.
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
	n.file("eth1", networkd1(withGateway))
	n.ctl("reload")
	n.waitFor(false, true)
	n.file("eth1", networkd1(withVIP+withGateway))
	n.ctl("reload")
	n.waitFor(true, true)
	after := n.owned()
	return slices.DeleteFunc(before, func(line string) bool {
		return slices.Contains(after, line)
	})
}

// waitFor waits until networkd is done with what it was told, and eth1 has the
// VIP and its gateway, or has them no more.
func (n *networkd) waitFor(vip, gateway bool) {
	n.t.Helper()
	n.until(fmt.Sprintf("VIP %t, gateway %t", vip, gateway), func() bool {
		v, g := n.has()
		return v == vip && g == gateway
	})
	n.configured()
}

// TestNetworkd: a real systemd-networkd is reconfigured, stopped and started
// beside the daemon. What it removes of ours is back after each step.
func TestNetworkd(t *testing.T) {
	t.Parallel()
	n := newNetworkd(t)
	n.file("eth0", networkd0)
	n.file("eth1", networkd1(withVIP+withGateway))
	n.conf("listen 10.0.1.100:80;")
	n.startNetworkd()
	n.configured()
	gone := n.removes()
	t.Logf("%s, told of another address and back, removes %d objects of ours:\n%s", n.version(),
		len(gone), strings.Join(gone, "\n"))
	n.start()
	n.wantFresh("the start beside networkd")
	for _, step := range []struct {
		what         string
		do           func()
		vip, gateway bool // are there afterwards
	}{
		{"reload of the same", func() { n.ctl("reload") }, true, true},
		{"reload without the VIP", func() { n.file("eth1", networkd1(withGateway)); n.ctl("reload") }, false, true},
		{"reload with it again", func() { n.file("eth1", networkd1(withVIP+withGateway)); n.ctl("reload") }, true, true},
		{"reload without the gateway", func() { n.file("eth1", networkd1(withVIP)); n.ctl("reload") }, true, false},
		{"reload with it again", func() { n.file("eth1", networkd1(withVIP+withGateway)); n.ctl("reload") }, true, true},
		{"eth1 reconfigured", func() { n.ctl("reconfigure", "eth1") }, true, true},
		{"eth0 reconfigured", func() { n.ctl("reconfigure", "eth0") }, true, true},
		{"eth1 down and up", func() { n.ctl("down", "eth1"); n.ctl("up", "eth1") }, true, true},
		{"restart", func() { n.stopNetworkd(); n.startNetworkd() }, true, true},
		{"restart with another file", func() {
			n.stopNetworkd()
			n.file("eth1", networkd1(withGateway))
			n.startNetworkd()
			n.ctl("reconfigure", "eth1") // 252 leaves the address alone until then
		}, false, true},
		{"restart with the first again", func() { n.stopNetworkd(); n.file("eth1", networkd1(withVIP+withGateway)); n.startNetworkd() }, true, true},
	} {
		n.log.take()
		step.do()
		n.waitFor(step.vip, step.gateway)
		// without, what is held is more than a fresh start would know
		if n.quiet(); step.gateway {
			n.wantFresh(step.what)
		}
		t.Logf("%s: %d lines in the log", step.what, strings.Count(n.log.take(), "\n"))
	}
	n.namesNetworkd(t)
}

// namesNetworkd deletes what is ours as networkd would, while it runs: the log
// says that it may have been, and the finding how to stop it.
func (n *networkd) namesNetworkd(t *testing.T) {
	t.Helper()
	want := n.owned()
	n.d.pardon(t)
	n.log.take()
	n.deleteOurs()
	n.until("all to be back", func() bool { return slices.Equal(n.owned(), want) })
	st, said := n.quiet(), 0
	for line := range strings.Lines(n.log.take()) {
		if !strings.Contains(line, "deleted by someone else, restored") {
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
	if found == networkdSpares("/") {
		t.Errorf("finding networkd-deletes-rules is %t", found)
	}
}
