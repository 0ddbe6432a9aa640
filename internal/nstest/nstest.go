// Package nstest gives a test network namespaces of its own.
//
// As root it needs nothing else. An unprivileged user gets a user namespace:
// TestMain must then hand over to Main, which runs the test binary again inside
// one:
//
//	func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
//
// If neither is possible New skips the test, but fails it when the environment
// says CI=true: a test that never runs proves nothing. A namespace has no name
// and no mount; it is an open file of the test process, so it vanishes with its
// last process even when the test crashes. The machine's own network is not
// touched.
package nstest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inside is set in the environment of the test binary that runs in a user
// namespace.
const inside = "LASTHOP_TEST_USERNS"

// Main runs the tests; if the user is not root, in a new user namespace. It
// returns the exit code.
func Main(m *testing.M) int {
	if os.Geteuid() == 0 || os.Getenv(inside) != "" || !userns() {
		return m.Run()
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = rootInside()
	if err := c.Run(); c.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "nstest: run in a user namespace:", err)
		return 1
	}
	return max(c.ProcessState.ExitCode(), 0)
}

func rootInside() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// userns reports whether the system lets this user make a user namespace and
// work in it.
func userns() bool {
	c := exec.Command("/bin/sh", "-c", "ip link set lo up")
	c.SysProcAttr = rootInside()
	return c.Run() == nil
}

// Nobody returns the command that runs another as a user that is neither root
// nor the test's. It skips the test if there is no such user.
func Nobody(t testing.TB) []string {
	t.Helper()
	users, _ := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(users)); os.Geteuid() != 0 || len(f) != 3 || len(f[2]) < 6 {
		t.Skip("needs root, and other users")
	}
	return []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
}

// Patience returns a time limit times LAB_WAIT, a whole number that a slow
// machine sets, for example one that qemu emulates.
func Patience(limit time.Duration) time.Duration {
	if times, err := strconv.Atoi(os.Getenv("LAB_WAIT")); err == nil {
		limit *= time.Duration(times)
	}
	return limit
}

// Takes fails the test unless f takes a time at most, in one of 20 tries: on a
// busy machine some tries have to wait. what names f in the error.
func Takes(t testing.TB, most time.Duration, what string, f func()) {
	t.Helper()
	best := most + 1
	for n := 0; n < 20 && best > most; n++ {
		began := time.Now()
		f()
		took := time.Since(began)
		if n == 0 || took < best {
			best = took
		}
	}
	if best > most {
		t.Errorf("%s: it takes %v, want %v at most", what, best, most)
	}
}

// NS is one network namespace.
type NS struct {
	Path string // any process can open the namespace by it while the test runs

	t    testing.TB
	file netns.NsHandle
}

// Available reports whether New can make a namespace, and why not.
func Available() error { return available() }

// available tries once: it makes a namespace and removes it again.
var available = sync.OnceValue(func() error {
	if _, err := exec.LookPath("nsenter"); err != nil {
		return err
	}
	n, err := open()
	if err != nil {
		return fmt.Errorf("no network namespace without root or user namespaces: %w", err)
	}
	return n.Close()
})

// New makes a network namespace with lo up. Links get no IPv6 link-local
// address by themselves, there is no duplicate address detection, and rp_filter
// is off: a test sees only what it made. The namespace ends with the test. (An
// IPv6 address is tentative for a moment nevertheless unless it is added with
// nodad.)
func New(t testing.TB) *NS {
	t.Helper()
	n := Fresh(t)
	for _, s := range []string{
		"net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
		"net.ipv6.conf.default.addr_gen_mode=1",
		"net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
	} {
		n.Sysctl(s)
	}
	n.IP("link set lo up")
	return n
}

// Fresh makes a network namespace and leaves it as the kernel makes it, with lo
// down.
func Fresh(t testing.TB) *NS {
	t.Helper()
	if err := Available(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	file, err := open()
	if err != nil {
		t.Fatal(err)
	}
	n := &NS{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(file)), t: t, file: file}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// open makes a namespace.
func open() (file netns.NsHandle, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network namespace: %w", err)
		}
		file, err = netns.Get()
		return err
	})
	return file, err
}

// onThread calls f on a thread of its own, which ends with the goroutine since
// it stays locked, and waits for it.
func onThread(f func() error) error {
	c := make(chan error)
	go func() {
		runtime.LockOSThread()
		c <- f()
	}()
	return <-c
}

// IP runs `ip` in the namespace with the arguments split at white space, and
// returns its output. A failure ends the test.
func (n *NS) IP(args string) string {
	n.t.Helper()
	return n.Run(append([]string{"ip"}, strings.Fields(args)...)...)
}

// Batch runs several `ip` commands, one a line without the word ip. Empty lines
// and # comments are skipped. options are those of all commands: "-6".
func (n *NS) Batch(lines string, options ...string) {
	n.t.Helper()
	c := n.Command(slices.Concat([]string{"ip"}, options, []string{"-batch", "-"})...)
	c.Stdin = strings.NewReader(lines)
	if out, err := c.CombinedOutput(); err != nil {
		n.t.Fatalf("ip %v -batch: %v\n%s", options, err, out)
	}
}

// Run runs a command in the namespace and returns its standard output. A
// failure ends the test.
func (n *NS) Run(command ...string) string {
	n.t.Helper()
	c := n.Command(command...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s%s", strings.Join(command, " "), err, out, stderr.String())
	}
	return string(out)
}

// Command returns a command that will run in the namespace.
func (n *NS) Command(command ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + n.Path, "--"}, command...)...)
}

// Sysctl writes a sysctl: "net.ipv4.ip_forward=1".
func (n *NS) Sysctl(assignment string) {
	n.t.Helper()
	key, value, _ := strings.Cut(assignment, "=")
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	n.Do(func() {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			n.t.Errorf("set %s: %v", assignment, err)
		}
	})
}

// Do calls f on a thread that is in the namespace and waits for it. Sockets
// that f opens stay there; goroutines that f starts do not. f must not end the
// test with t.Fatal.
func (n *NS) Do(f func()) {
	n.t.Helper()
	err := onThread(func() error {
		err := netns.Set(n.file)
		if err == nil {
			f()
		}
		return err
	})
	if err != nil {
		n.t.Fatalf("enter network namespace: %v", err)
	}
}

// BPFFS mounts a file system for BPF maps, which ends with the test. If that is
// not allowed it skips the test.
func BPFFS(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	if err := unix.Mount("bpf", folder, "bpf", 0, ""); err != nil {
		t.Skipf("mount a bpffs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	return folder
}
