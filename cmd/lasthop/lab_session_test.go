package main_test

import (
	"bufio"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// admins is what an administrator has set up for sessions of administrators:
// replies of 10.0.1.77 are marked and leave by eth2, where the firewall sends
// its requests in; and an overlay with the rules and the table of Tailscale,
// whose peer is in namespace lan.
const admins = `
host ip addr add 10.0.1.77/24 dev eth1
host ip route add default via 10.0.2.1 dev eth2 table 202
host ip rule add pref 20000 fwmark 2 lookup 202
host nft add table inet admin
host nft add chain inet admin outbound { type route hook output priority mangle ; }
host nft add rule inet admin outbound ip saddr 10.0.1.77 tcp sport 7000 meta mark set 2
fw ip route add 10.0.1.77 via 10.0.2.10 dev lan2
host ip link add tailscale0 type veth peer name ts netns lan
host ip link set tailscale0 up
host ip addr add 100.64.0.1/32 dev tailscale0
host ip route add 100.100.0.5 dev tailscale0 table 52
host ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
host ip rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
host ip rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
host ip rule add pref 5270 lookup 52
lan ip link set ts up
lan ip addr add 100.100.0.5/32 dev ts
lan ip route add 100.64.0.1 dev ts src 100.100.0.5
lan ip route add 10.0.2.100 dev ts src 100.100.0.5
`

// echo is a connection whose other end sends back each line.
type echo struct {
	in    io.WriteCloser
	lines chan string
}

// process is a command in a namespace, and no shell around it that would take
// its signals.
func (l *lab) process(ns string, args ...string) *exec.Cmd {
	return exec.Command(l.enter[0], slices.Concat(l.enter[1:],
		[]string{"--", "nsenter", "--net=/run/netns/" + ns, "--"}, args)...)
}

// echo connects from a namespace to an address as socat names it.
func (l *lab) echo(t *testing.T, from, to string) echo {
	t.Helper()
	c := l.process(from, "socat", "-", to)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	e := echo{in, make(chan string)}
	done := make(chan struct{})
	go func() {
		defer close(e.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case e.lines <- s.Text():
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		in.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return e
}

// answers reports whether a line comes back. A packet that is lost is sent
// again for as long.
func (e echo) answers(line string) bool {
	if _, err := io.WriteString(e.in, line+"\n"); err != nil {
		return false
	}
	select {
	case got := <-e.lines:
		return got == line
	case <-time.After(5 * time.Second):
		return false
	}
}

// background starts a command in a namespace; stop ends it, at the latest with
// the test.
func (l *lab) background(t *testing.T, ns string, args ...string) (stop func()) {
	t.Helper()
	c := l.process(ns, args...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = c.Process.Signal(syscall.SIGTERM); _ = c.Wait() })
	t.Cleanup(stop)
	return stop
}

// TestLabSessions: sessions that are not NGINX's go on through apply, run and
// clear: a marked one to an address of a path, one that the host itself has
// opened with a mark, and those of an overlay's peer.
func TestLabSessions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for line := range strings.Lines(strings.TrimSpace(admins)) {
		l.do(append([]string{"at"}, strings.Fields(line)...)...)
	}
	for _, ns := range []string{"host", "fw"} {
		l.background(t, ns, "socat", "TCP-LISTEN:7000,fork,reuseaddr", "EXEC:cat")
	}
	const mark = "setsockopt-int=1:36:0x80000" // SOL_SOCKET, SO_MARK
	sessions := map[string]echo{}
	for name, x := range map[string][2]string{
		"marked":             {"client", "TCP:10.0.1.77:7000,retry=50,interval=0.1"},
		"by the host":        {"host", "TCP:10.0.1.1:7000,retry=50,interval=0.1,bind=10.0.1.100," + mark},
		"overlay":            {"lan", "TCP:100.64.0.1:7000,retry=50,interval=0.1"},
		"overlay to our VIP": {"lan", "TCP:10.0.2.100:7000,retry=50,interval=0.1"},
	} {
		sessions[name] = l.echo(t, x[0], x[1])
	}
	alive := func(when string) {
		t.Helper()
		for name, s := range sessions {
			if !s.answers(when) {
				t.Errorf("%s: the session %s gets no answer", when, name)
			}
		}
	}
	alive("before")
	const listen = " --listen 10.0.1.77:7000"
	out := l.run("apply" + listen)
	if !strings.Contains(out, "10.0.1.77") {
		t.Errorf("not in the plan:\n%s", out)
	}
	alive("apply")
	stop := l.background(t, "host",
		append([]string{l.lasthop, "run"}, strings.Fields(listen)...)...)
	soon(t, "the daemon", func() bool {
		return l.command("at", "host", l.lasthop, "status").Run() == nil
	})
	l.host("ip rule del pref 5199") // it puts it back
	soon(t, "the rule", func() bool {
		return strings.Contains(l.host("ip rule"), "5199:")
	})
	alive("run")
	stop()
	l.run("clear")
	alive("clear")
}

// TestLabHalfOpen: check names an address whose clients do not get the SYN-ACK.
func TestLabHalfOpen(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.run("apply")
	l.wantFindings(t, nil)
	for _, line := range []string{"add table ip deaf",
		"add chain ip deaf inbound { type filter hook input priority 0 ; }",
		"add rule ip deaf inbound ip saddr 10.0.1.100 drop"} {
		l.do(append([]string{"at", "client", "nft"}, strings.Fields(line)...)...)
	}
	for range 3 {
		l.background(t, "client", "socat", "-u", "TCP:10.0.1.100:80", "-")
	}
	soon(t, "the finding", func() bool {
		return slices.Equal(l.findings(t), []string{"half-open 10.0.1.100:80"})
	})
}
