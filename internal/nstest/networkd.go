package nstest

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

// Networkd is a real systemd-networkd beside a server: in its network
// namespace, with a mount namespace and a bus of its own, so that networkctl
// works too.
type Networkd struct {
	server *Server
	enter  []string // nsenter, into both namespaces
	run    *exec.Cmd
}

const networkd = "/lib/systemd/systemd-networkd"

// TwoVeths are the links of Networkd0 and Networkd1, as Server.Lines takes
// them.
const TwoVeths = `
link add eth0 type veth peer name peer0
link add eth1 type veth peer name peer1
link set peer0 up
link set peer1 up
`

// Networkd0 is eth0's file; Networkd1 is the beginning of eth1's, WithVIP and
// WithGateway are further lines of it.
const (
	Networkd0 = "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n" +
		"Address=10.0.0.10/24\nGateway=10.0.0.1\n"
	Networkd1 = "[Match]\nName=eth1\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n" +
		"Address=10.0.1.10/24\n"
	WithVIP     = "Address=10.0.1.100/24\n"
	WithGateway = "[Route]\nGateway=10.0.1.1\nMetric=100\n"
)

// NewNetworkd prepares one. It runs only after Start.
func NewNetworkd(s *Server) *Networkd {
	s.T.Helper()
	n := &Networkd{server: s}
	for _, name := range []string{"dbus-daemon", "networkctl", "busctl", "unshare", networkd} {
		Need(s.T, name)
	}
	if err := os.Mkdir(s.File("network"), 0o755); err != nil {
		s.T.Fatal(err)
	}
	n.enter = []string{"nsenter", "--net=" + s.Path,
		fmt.Sprintf("--mount=/proc/%d/ns/mnt", n.bus()), "--"}
	return n
}

// bus starts the bus and returns its process, in whose mount namespace networkd
// will run.
func (n *Networkd) bus() int {
	n.server.T.Helper()
	c := n.server.Command("unshare", "--mount", "--propagation", "private",
		"../../testdata/lab/networkd.sh", n.server.File("network"))
	var stderr strings.Builder
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		n.server.T.Fatal(err)
	}
	n.server.T.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if address, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		n.server.T.Fatalf("networkd.sh: %q, %v\n%s", address, err, stderr.String())
	}
	return c.Process.Pid
}

// Inside is a command one that sees networkd's world.
func (n *Networkd) Inside(args ...string) *exec.Cmd {
	return exec.Command(n.enter[0], slices.Concat(n.enter[1:], args)...)
}

// NetworkdVersion returns "systemd 252 (252.38-1~deb12u1)" and 252. (Not all
// versions of systemd-networkd itself tell it.)
func NetworkdVersion(t testing.TB) (line string, number int) {
	t.Helper()
	Need(t, "networkctl")
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
func (n *Networkd) Start() {
	n.server.T.Helper()
	log, err := os.OpenFile(n.server.File("networkd.log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.server.T.Fatal(err)
	}
	defer log.Close()
	n.run = n.Inside(networkd)
	n.run.Stdout, n.run.Stderr = log, log
	if err := n.run.Start(); err != nil {
		n.server.T.Fatal(err)
	}
	n.server.T.Cleanup(n.Stop)
	ping := []string{"busctl", "call", "org.freedesktop.network1", "/org/freedesktop/network1",
		"org.freedesktop.DBus.Peer", "Ping"}
	n.server.Until("networkd on the bus", func() bool { return n.Inside(ping...).Run() == nil })
}

// Stop stops it, if it runs.
func (n *Networkd) Stop() {
	if n.run == nil {
		return
	}
	_ = n.run.Process.Signal(syscall.SIGTERM)
	err := n.run.Wait()
	n.run = nil
	if log, _ := os.ReadFile(n.server.File("networkd.log")); err != nil || n.server.T.Failed() {
		n.server.T.Logf("networkd: %v\n%s", err, log)
	}
}

// Network writes a *.network file.
func (n *Networkd) Network(link, text string) {
	n.server.T.Helper()
	if err := os.WriteFile(n.server.File("network/"+link+".network"), []byte(text),
		0o644); err != nil {
		n.server.T.Fatal(err)
	}
}

// Ctl calls networkctl.
func (n *Networkd) Ctl(args ...string) {
	n.server.T.Helper()
	c := n.Inside(append([]string{"networkctl"}, args...)...)
	if out, err := c.CombinedOutput(); err != nil {
		n.server.T.Fatalf("networkctl %v: %v\n%s", args, err, out)
	}
}

// Configured waits until networkd is done with a link.
func (n *Networkd) Configured() {
	n.server.T.Helper()
	for _, link := range []string{"eth0", "eth1"} {
		n.server.Until(link+" to be configured", func() bool {
			out, err := n.Inside("networkctl", "status", link).Output()
			return err == nil && strings.Contains(string(out), "(configured)")
		})
	}
}
