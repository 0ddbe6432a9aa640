package main_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/nstest"
)

const confirmHost = `
link add eth0 type veth peer name peer0
link add eth1 type veth peer name peer1
link set eth0 up
link set eth1 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.10/24 dev eth1
addr add 10.0.1.100/24 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
`

// withLog runs the rest of the command line where $1 is the log daemon's
// socket.
const withLog = `mount --make-rprivate / && mount -t tmpfs none /run && ln -s "$1" /run/log &&
	if [ -e /dev/log ]; then mount --bind "$1" /dev/log; fi && shift && exec "$@"`

// TestConfirmStalled: --confirm goes back in time, and the command ends with 1,
// whatever does not read: standard output, standard error, the log daemon.
func TestConfirmStalled(t *testing.T) {
	t.Parallel()
	lasthop, conf := built(t, "10.0.1.100:80")
	for _, tt := range []struct {
		name                string
		stdout, stderr, log bool // stalled
	}{
		{"nothing", false, false, false},
		{"standard output", true, false, false},
		{"standard error", false, true, false},
		{"the log daemon", false, false, true},
		{"everything", true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := nstest.New(t)
			ns.Batch(confirmHost)
			run := filepath.Join(t.TempDir(), "run")
			c := ns.Command("unshare", "--mount", "sh", "-c", withLog, "sh",
				logSocket(t, tt.log), lasthop, "apply", "--run-dir", run,
				"-c", conf, "--confirm", "300ms")
			var stdout, stderr strings.Builder
			c.Stdout, c.Stderr = &stdout, &stderr
			if tt.stdout {
				c.Stdout = stalled(t)
			}
			if tt.stderr {
				c.Stderr = stalled(t)
			}
			wantFailure(t, c)
			if !tt.stdout && !strings.Contains(stdout.String(), "lasthop clear") {
				t.Errorf("no report:\n%s", stdout.String())
			}
			want := "error: not confirmed in time: lasthop undid the change, all is " +
				"as before"
			if !tt.stderr && !strings.Contains(stderr.String(), want) {
				t.Errorf("it does not say what it did:\n%s", stderr.String())
			}
			if rules := ns.IP("rule"); strings.Contains(rules, "proto 76") {
				t.Errorf("not taken back:\n%s", rules)
			}
		})
	}
}

// built builds lasthop, and writes the configuration of an NGINX that listens
// on an address.
func built(t *testing.T, listen string) (lasthop, conf string) {
	t.Helper()
	dir := t.TempDir()
	lasthop, conf = filepath.Join(dir, "lasthop"), filepath.Join(dir, "nginx.conf")
	build := exec.Command("go", "build", "-o", lasthop, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	text := "events {}\nhttp { server { listen " + listen + "; } }\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return lasthop, conf
}

// wantFailure runs a command that must end with 1, and soon.
func wantFailure(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = c.Process.Kill() })
	defer late.Stop()
	_ = c.Wait()
	if code := c.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1: %v", code, c.ProcessState)
	}
}

// stalled is the write end of a pipe that is full, and stays so.
func stalled(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		_, err := w.Write(make([]byte, 4096))
		full = err != nil
	}
	return w
}

// logSocket is a log daemon's socket. The test reads it, unless its queue
// should be full.
func logSocket(t *testing.T, full bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	addr := &net.UnixAddr{Name: path, Net: "unixgram"}
	c, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if !full {
		go func() {
			for b := make([]byte, 4096); err == nil; {
				_, err = c.Read(b)
			}
		}()
		return path
	}
	kind := unix.SOCK_DGRAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	filler, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(filler) })
	for err == nil {
		err = unix.Sendto(filler, []byte("fill"), 0, &unix.SockaddrUnix{Name: path})
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	return path
}
