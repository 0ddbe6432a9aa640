package main_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// hopHost is a host with the daemon, in a mount namespace with a bpffs. Its
// only address for services is on lo; the router sends requests by eth1, and
// the host's default is by eth0.
type hopHost struct {
	*nstest.Street
	t                 *testing.T
	lasthop, dir, pid string
	router            string // its MAC on eth1
}

func newHopHost(t *testing.T) *hopHost {
	t.Helper()
	h := &hopHost{Street: nstest.NewStreet(t), t: t, dir: t.TempDir()}
	h.lasthop, _ = built(t, "127.0.0.1:80")
	h.Lines(h.Host, "addr add 192.0.2.10/32 dev lo",
		"route add default via 10.7.1.1 metric 200")
	h.Lines(h.Router, "route add 192.0.2.10/32 via 10.7.1.10")
	h.Serve(h.Host, "192.0.2.10:80")
	h.pid = h.hold()
	h.Router.Do(func() {
		if l, err := net.InterfaceByName("r1"); err == nil {
			h.router = l.HardwareAddr.String()
		}
	})
	run := h.command("run", "--config", "", "--listen", "192.0.2.10:80",
		"--return", "192.0.2.10=last-hop")
	var log strings.Builder
	run.Stderr = &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Signal(os.Interrupt)
		_ = run.Wait()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", log.String())
		}
	})
	h.until("the daemon is in sync", func() bool {
		out, code := h.run("status")
		if strings.Contains(out, "no-bpf") {
			t.Skipf("last-hop is not possible here:\n%s", out)
		}
		return code == 0 && strings.Contains(out, "Last hops (0)")
	})
	return h
}

// hold starts the process whose mounts the program should see.
func (h *hopHost) hold() string {
	h.t.Helper()
	c := exec.Command("unshare", "--mount", "sh", "-c",
		"mount -t bpf bpf /sys/fs/bpf && echo $$ && read _")
	stdin, err := c.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		h.t.Skipf("no mount namespace: %v", err)
	}
	h.t.Cleanup(func() { stdin.Close(); _ = c.Wait() })
	pid, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		h.t.Skip("no bpffs can be mounted here")
	}
	return strings.TrimSpace(pid)
}

func (h *hopHost) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", h.pid, "--mount", "--",
		h.lasthop, "--netns", h.Host.Path, "--run-dir", h.dir}, args...)...)
}

func (h *hopHost) run(args ...string) (out string, code int) {
	h.t.Helper()
	c := h.command(args...)
	text, err := c.CombinedOutput()
	if c.ProcessState == nil {
		h.t.Fatal(err)
	}
	return string(text), c.ProcessState.ExitCode()
}

func (h *hopHost) until(what string, is func() bool) {
	h.t.Helper()
	for end := time.Now().Add(nstest.Patience(20 * time.Second)); !is(); {
		if time.Now().After(end) {
			out, _ := h.run("status")
			h.t.Fatalf("not in time: %s\n%s", what, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// says runs a command until its output has lines of these forms.
func (h *hopHost) says(args string, want ...string) {
	h.t.Helper()
	h.until(fmt.Sprintf("%s says %q", args, want), func() bool {
		out, _ := h.run(strings.Fields(args)...)
		for _, w := range want {
			if !regexp.MustCompile("(?m)" + w).MatchString(out) {
				return false
			}
		}
		return true
	})
}

// TestFlow: the command says of a client's connection by which router it came,
// and where its replies go; and the same when that router is dead. The status
// counts it, and check does not call the route what it is not.
func TestFlow(t *testing.T) {
	h := newHopHost(t)
	h.says("flow 198.51.100.2", "^No connection of 198.51.100.2 is known here")
	h.says("flow 198.51.100.2 --local 192.0.2.10:80",
		"no entry: the route, eth0 via 10.7.0.1$")
	nstest.Ask(h.Client, "tcp", "198.51.100.2", "192.0.2.10:80", 3*time.Second)

	hop := `eth1 ` + h.router + ` \(10\.7\.1\.1`
	h.says("flow 198.51.100.2", `^Connections of 198.51.100.2 \(1\)$`,
		`^  tcp +\d+ +192\.0\.2\.10:80  connections\s+`+hop)
	h.says("flow 198.51.100.2 --local 192.0.2.10:81", "no entry")
	h.says("flow 198.51.100.3", "^No connection")
	out, code := h.run("flow", "198.51.100.2", "-o", "json")
	if code != 0 || !strings.Contains(out, `"answered_by": "hop"`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	fitsSchema(t, "flow", out)
	h.says("status --flows", `^Last hops \(1\): 1 alive$`,
		`^  eth1  `+h.router+`  10\.7\.1\.1.*alive, last new connection`,
		"1 connection, 1 handshake, 0 datagram flows$", "learned 1, moved 0, refused 0",
		"maps: connections 0 %, handshakes 0 %, datagrams 0 % full$")
	out, _ = h.run("status", "--flows", "-o", "json")
	fitsSchema(t, "status", out)
	h.says("check --listen 192.0.2.10:80 --return 192.0.2.10=last-hop",
		`192.0.2.10  80 .*symmetric\s+per connection, else eth0 via 10.7.0.1$`)

	h.Lines(h.Router, "link set r1 down")
	// the kernel forgets neighbours with the carrier
	h.says("flow 198.51.100.2", h.router+`\s+is\s+dead:\s+the\s+route,\s+eth0\s+via\s+10.7.0.1$`)
	h.says("status", `^Last hops \(1\): 1 dead$`, "DEAD: the route answers$")
}
