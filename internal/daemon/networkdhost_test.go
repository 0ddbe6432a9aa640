package daemon

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// networkd is a real systemd-networkd for a server: in its network namespace,
// with a mount namespace and a bus of its own, so that networkctl works too.
type networkd struct {
	*server
	enter []string // nsenter, into both namespaces
	run   *exec.Cmd
}

const networkdProgram = "/lib/systemd/systemd-networkd"

// twoVeths are the links of networkd0 and networkd1, as nginxHost.Lines takes
// them.
const twoVeths = `
link add eth0 type veth peer name peer0
link add eth1 type veth peer name peer1
link set peer0 up
link set peer1 up
`

// networkd0 is eth0's file; networkd1 is the beginning of eth1's, withVIP and
// withGateway are further lines of it.
const (
	networkd0 = "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n" +
		"Address=10.0.0.10/24\nGateway=10.0.0.1\n"
	networkd1 = "[Match]\nName=eth1\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n" +
		"Address=10.0.1.10/24\n"
	withVIP     = "Address=10.0.1.100/24\n"
	withGateway = "[Route]\nGateway=10.0.1.1\nMetric=100\n"
)

// bareNetworkd prepares one for a server without links and without nginx.conf.
// It runs only after Start.
func bareNetworkd(t testing.TB) *networkd {
	t.Helper()
	n := &networkd{server: bareServer(t)}
	for _, name := range []string{"dbus-daemon", "networkctl", "busctl", "unshare",
		networkdProgram} {
		need(t, name)
	}
	if err := os.Mkdir(n.File("network"), 0o755); err != nil {
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
	c := n.Command("unshare", "--mount", "--propagation", "private",
		"../../testdata/lab/networkd.sh", n.File("network"))
	var stderr strings.Builder
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if address, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		n.t.Fatalf("networkd.sh: %q, %v\n%s", address, err, stderr.String())
	}
	return c.Process.Pid
}

// Inside returns a command that sees networkd's world.
func (n *networkd) Inside(args ...string) *exec.Cmd {
	return exec.Command(n.enter[0], slices.Concat(n.enter[1:], args)...)
}

// networkdVersion returns "systemd 252 (252.38-1~deb12u1)" and 252. (Not all
// versions of systemd-networkd itself tell it.)
func networkdVersion(t testing.TB) (line string, number int) {
	t.Helper()
	need(t, "networkctl")
	out, err := exec.Command("networkctl", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ = strings.Cut(string(out), "\n")
	if _, err := fmt.Sscanf(line, "systemd %d", &number); err != nil {
		t.Fatalf("networkctl --version: %q", line)
	}
	return line, number
}

// Start starts systemd-networkd; it ends with the test, or with
// Stop.
func (n *networkd) Start() {
	n.t.Helper()
	log, err := os.OpenFile(n.File("networkd.log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.run = n.Inside(networkdProgram)
	n.run.Stdout, n.run.Stderr = log, log
	if err := n.run.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.Stop)
	ping := []string{"busctl", "call", "org.freedesktop.network1", "/org/freedesktop/network1",
		"org.freedesktop.DBus.Peer", "Ping"}
	n.Until("networkd on the bus", func() bool { return n.Inside(ping...).Run() == nil })
}

// Stop stops it, if it runs.
func (n *networkd) Stop() {
	if n.run == nil {
		return
	}
	_ = n.run.Process.Signal(syscall.SIGTERM)
	err := n.run.Wait()
	n.run = nil
	if log, _ := os.ReadFile(n.File("networkd.log")); err != nil || n.t.Failed() {
		n.t.Logf("networkd: %v\n%s", err, log)
	}
}

// Network writes a *.network file.
func (n *networkd) Network(link, text string) {
	n.t.Helper()
	if err := os.WriteFile(n.File("network/"+link+".network"), []byte(text),
		0o644); err != nil {
		n.t.Fatal(err)
	}
}

// Ctl calls networkctl.
func (n *networkd) Ctl(args ...string) {
	n.t.Helper()
	c := n.Inside(append([]string{"networkctl"}, args...)...)
	if out, err := c.CombinedOutput(); err != nil {
		n.t.Fatalf("networkctl %v: %v\n%s", args, err, out)
	}
}

// Configured waits until networkd is done with a link.
func (n *networkd) Configured() {
	n.t.Helper()
	for _, link := range []string{"eth0", "eth1"} {
		n.Until(link+" to be configured", func() bool {
			out, err := n.Inside("networkctl", "status", link).Output()
			return err == nil && strings.Contains(string(out), "(configured)")
		})
	}
}
