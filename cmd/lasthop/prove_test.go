package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/internal/survey"
	"lasthop/routing/capture"
	"lasthop/routing/sim"
)

const provedHost = `
link add eth0 type veth
link add eth1 type veth
link set eth0 up
link set eth1 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.100/24 dev eth1
addr add 2001:db8:1::100/64 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
-6 route add default via 2001:db8:1::1 dev eth1 metric 2000
`

// provedCapture writes a host to a file that anybody may read.
func provedCapture(t *testing.T, routes int) string {
	t.Helper()
	if err := nstest.Available(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	lines := provedHost
	for i := range routes {
		lines += fmt.Sprintf("route add %d.%d.%d.0/24 via 10.0.%d.1 dev eth%[4]d\n",
			20+i>>16, i>>8&255, i&255, i&1)
	}
	s, err := sim.Parse(lines)
	if err != nil {
		t.Fatal(err)
	}
	data, err := capture.Encode(capture.Capture{Time: time.Now(), Host: s.Host})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "host.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// lasthopPlan is `lasthop plan --prove` of a captured host, as a process of its
// own.
func lasthopPlan(file string, more ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{"lasthop", "plan", "--prove", "--config", "", "--host", file},
		more...)
	c.Dir = "/"
	return c
}

// TestProveUnprivileged: user nobody can prove a plan. Tests that run without
// root are in a user namespace of an unprivileged user, which is the same case.
func TestProveUnprivileged(t *testing.T) {
	t.Parallel()
	file := provedCapture(t, 0)
	c := lasthopPlan(file, "--listen", "10.0.1.100:80", "--listen", "10.0.1.101:80",
		"--listen", "[2001:db8:1::100]:443")
	const nobody = 65534
	if ids, _ := os.ReadFile("/proc/self/uid_map"); strings.Join(strings.Fields(string(ids)),
		" ") == "0 0 4294967295" && os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody,
			Gid: nobody}}
	}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), ", all as planned\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestProveKilled: with the command its process ends, even one that is stopped.
func TestProveKilled(t *testing.T) {
	t.Parallel()
	file := provedCapture(t, 5000)
	c := lasthopPlan(file, "--listen", "10.0.1.100:80")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	child := 0
	soon(t, "a process", func() bool {
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.Process.Pid))
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			if n, _ := fmt.Sscan(string(data), &child); n == 1 {
				command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
				return strings.Contains(string(command), survey.ProveCommand)
			}
		}
		return false
	})
	if err := errors.Join(syscall.Kill(child, syscall.SIGSTOP), c.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Fatal("it ended before it was killed")
	}
	soon(t, "the end of the process", func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		_, state, _ := strings.Cut(string(data), ") ")
		return err != nil || state[0] == 'Z'
	})
}

// soon waits until something is so.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}
