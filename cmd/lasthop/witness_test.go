package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/nstest"
)

// darkClients ask for the address of a dark host.
var darkClients = []string{"198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5",
	"198.51.100.6"}

// darkHost is a host whose replies leave as the routes and lasthop's model say,
// and reach no client. The router sends requests for the address by eth1. Their
// replies should leave by eth0, which has the address, and the host asks there
// for the router with it as the sender (arp_announce is 0). The router is
// strict, does not answer, and no reply leaves. Clients ask all the time.
type darkHost struct {
	*nstest.Street
	lasthop, conf string
}

func newDarkHost(t *testing.T) *darkHost {
	t.Parallel()
	d := &darkHost{Street: nstest.NewStreet(t)}
	d.lasthop, d.conf = built(t, "10.7.0.100:80")
	d.Host.IP("addr add 10.7.0.100/24 dev eth0")
	d.Router.IP("route add 10.7.0.100 via 10.7.1.10")
	d.Router.Sysctl("net.ipv4.conf.all.rp_filter=1")
	d.Serve(d.Host, "10.7.0.100:80")
	for _, a := range darkClients[2:] {
		d.Client.IP("addr add " + a + "/24 dev c0")
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			nstest.Knock(d.Client, "10.7.0.100:80", 10, darkClients...)()
		}
	}()
	return d
}

// command is lasthop, told about the host.
func (d *darkHost) command(args ...string) *exec.Cmd {
	return exec.Command(d.lasthop, append(args, "--netns", d.Host.Path, "-c", d.conf,
		"--config", "")...)
}

// run runs it, and returns its exit code and standard output. Its texts name
// two clients at most.
func (d *darkHost) run(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	c := d.command(args...)
	var stdout, stderr strings.Builder
	c.Stdout, c.Stderr = &stdout, &stderr
	_ = c.Run()
	d.few(t, stdout.String()+stderr.String())
	return c.ProcessState.ExitCode(), stdout.String()
}

func (d *darkHost) few(t *testing.T, text string) {
	t.Helper()
	named := 0
	for _, a := range darkClients {
		if strings.Contains(text, a) {
			named++
		}
	}
	if named > 2 {
		t.Errorf("%d clients are named:\n%s", named, text)
	}
}

// TestCheckObserve: observing finds what no question to the kernel shows.
func TestCheckObserve(t *testing.T) {
	d := newDarkHost(t)
	if code, out := d.run(t, "check"); code != 0 ||
		!regexp.MustCompile(`(?m)^  10\.7\.0\.100 +80 +eth0 +symmetric +eth0 via 10\.7\.0\.1$`).
			MatchString(out) {
		t.Fatalf("the kernel's answers alone: exit code %d\n%s", code, out)
	}
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"check --observe 5s", []string{
			`(?m)^  10\.7\.0\.100 +80 +eth0 +symmetric +UNANSWERED +eth0 via 10\.7\.0\.1$`,
			`(?m)^  error: seen-otherwise: 10\.7\.0\.100:80$`,
			`(?m)^  error: dark: 10\.7\.0\.100:80$`,
			`(?m)^not ok: 1 listener: 1 symmetric; packets: 2 errors, 1 warning$`}},
		{"check -q --observe 3s", []string{
			`^not ok: 1 listener: 1 symmetric; packets: 2 errors, 1 warning\n$`}},
		{"check -o json --observe 3s", []string{`"outcome": "dark"`}},
		{"observe --for 3s", []string{`(?m)^  10\.7\.0\.100:80 +off-link +\d+ +UNANSWERED\s+` +
			`eth1 10\.7\.1\.1\s+->\s+none:\s+10\.7\.0\.1\s+on\s+eth0\s+does\s+not\s+answer$`}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, out := d.run(t, strings.Fields(tt.args)...)
			for _, want := range tt.want {
				if code != 2 || !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("exit code %d, want 2; want %s in\n%s",
						code, want, out)
				}
			}
		})
	}
	d.examples(t)
	d.Host.Sysctl("net.ipv4.conf.eth0.arp_announce=2")
	if code, out := d.run(t, "observe", "--for", "3s"); code != 2 ||
		!strings.Contains(out, "eth1 10.7.1.1 -> eth0 10.7.0.1") {
		t.Errorf("asked by another address, the router answers, and replies leave: "+
			"exit code %d\n%s", code, out)
	}
}

// examples: a way names two of its clients, and says how many they were.
func (d *darkHost) examples(t *testing.T) {
	_, out := d.run(t, "observe", "--for", "3s", "-o", "json")
	var doc struct {
		Seen []struct {
			Ways []struct {
				Clients  int
				Examples []string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Seen) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, w := range doc.Seen[0].Ways {
		if w.Clients < 3 || len(w.Examples) != 2 {
			t.Errorf("%d clients, of which %v are named", w.Clients, w.Examples)
		}
	}
	file := d.conf + ".json"
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"text", "json", "html", "markdown", "csv"} {
		_, out := d.run(t, "plan", "--evidence", file, "-o", format)
		if !strings.Contains(strings.ToLower(out), "dark") {
			t.Errorf("plan -o %s lacks the evidence:\n%s", format, out)
		}
	}
	if _, out := d.run(t, "explain", "10.7.0.100", "--evidence", file); !strings.Contains(out,
		"Packets (1 way)") {
		t.Errorf("explain lacks the evidence:\n%s", out)
	}
}

// TestObserveInterrupted: on a terminal a line says how far the look is; an
// interrupt ends the look, and prints what was seen.
func TestObserveInterrupted(t *testing.T) {
	d := newDarkHost(t)
	for _, args := range [][]string{{"observe", "--for", "60s"},
		{"check", "--observe", "60s"}} {
		t.Run(args[0], func(t *testing.T) {
			c := d.command(args...)
			var stdout bytes.Buffer
			c.Stdout = &stdout
			c.Env = append(os.Environ(), "TERM=vt100")
			screen := terminal(t, c)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
			defer late.Stop()
			told := regexp.MustCompile(`\r\x1b\[Klooking: [3-9] of 60 s, ` +
				`[1-9]\d* packets, [1-9]\d* connections$`)
			var all []byte
			for b := make([]byte, 4096); !told.Match(all); {
				n, err := screen.Read(b)
				if all = append(all, b[:n]...); err != nil {
					t.Fatalf("%v: the terminal shows %q", err, all)
				}
			}
			_ = c.Process.Signal(os.Interrupt)
			_ = c.Wait()
			if code := c.ProcessState.ExitCode(); code != 2 ||
				!strings.Contains(stdout.String(), "UNANSWERED") {
				t.Errorf("exit code %d, want 2\n%s", code, stdout.String())
			}
			d.few(t, stdout.String()+string(all))
		})
	}
}

// terminal makes a terminal the standard error of a command, and returns its
// other end.
func terminal(t *testing.T, c *exec.Cmd) *os.File {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	c.Stderr = line
	return screen
}
