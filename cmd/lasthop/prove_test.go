package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"
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

// claim makes a plan of provedHost with n more routes, by each uplink in turn,
// and what listens there.
func claim(t testing.TB, n int, listen ...string) routing.Claim {
	t.Helper()
	if err := nstest.Available(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	s, err := sim.Parse(provedHost)
	if err != nil {
		t.Fatal(err)
	}
	v := &view{policy: routing.Policy{Numbers: routing.DefaultNumbers}, host: s.Host}
	for i := range n {
		r, err := routing.ParseRoute(routing.IPv4,
			fmt.Sprintf("%d.%d.%d.0/24 via 10.0.%d.1 dev eth%[4]d", 20+i>>16, i>>8&255,
				i&255, i&1))
		if err != nil {
			t.Fatal(err)
		}
		v.host.Routes = append(v.host.Routes, r)
	}
	if err := v.addListens(listen); err != nil {
		t.Fatal(err)
	}
	if err := v.decide(); err != nil {
		t.Fatal(err)
	}
	return routing.Claim{Host: v.host, Plan: v.plan, Numbers: v.policy.Numbers}
}

// TestProveLies: whatever is wrong with a plan, the kernel says so.
func TestProveLies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lie  func(*routing.Plan)
		want string // one of the differences: when, subject, got; "" if there is none
	}{
		{"no lie", func(*routing.Plan) {}, ""},
		{"a rule to another table", func(p *routing.Plan) { p.State.Rules[1].Table = routing.TableMain },
			"after 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main"},
		{"a table without its default", func(p *routing.Plan) {
			p.State.Routes = slices.DeleteFunc(p.State.Routes,
				func(r routing.Route) bool {
					return r.IsDefault() && r.Family() == routing.IPv4
				})
		}, "after 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main"},
		{"a promise", func(p *routing.Plan) { p.Outcomes[0].After.Via = netip.MustParseAddr("10.0.1.2") },
			"after 10.0.1.100 to 198.51.100.1: eth1 via 10.0.1.1, table 20431"},
		{"a past", func(p *routing.Plan) { p.Outcomes[0].Before.Link = "eth1" }, "before 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main"},
		{"a route in place of somebody's", func(p *routing.Plan) {
			r := p.State.Routes[1]
			r.Table = routing.TableMain
			p.State.Routes = append(p.State.Routes, r)
		}, "apply ip route replace 10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.100: gone"},
		{"a route that the kernel refuses", func(p *routing.Plan) {
			i := slices.IndexFunc(p.State.Routes,
				func(r routing.Route) bool { return r.IsDefault() })
			p.State.Routes[i].Hops = []routing.Hop{{Link: "eth1",
				Via: netip.MustParseAddr("192.0.2.1"), Weight: 1}}
		}, "apply changes: ip route replace default via 192.0.2.1 dev eth1 table 20431 proto 76: network is unreachable: Nexthop has invalid gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := claim(t, 0, "10.0.1.100:80", "[2001:db8:1::100]:80")
			tt.lie(&c.Plan)
			p, err := prove(c)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range p.Differences {
				got = append(got,
					fmt.Sprintf("%s %s: %s", d.When, d.Subject, d.Got))
			}
			if tt.want == "" && len(got) > 0 || tt.want != "" &&
				!slices.Contains(got, tt.want) || p.Asked != 10 ||
				len(p.NotRebuilt) > 0 {
				t.Errorf("the kernel says\n%s\nwant\n%s\n"+
					"%d answers, not rebuilt: %q", strings.Join(got, "\n"),
					tt.want, p.Asked, p.NotRebuilt)
			}
		})
	}
}

// captured writes the host of a claim to a file that anybody may read.
func captured(t testing.TB, c routing.Claim) string {
	t.Helper()
	data, err := host.EncodeCapture(host.Capture{Time: time.Now(), Host: c.Host})
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

// TestProveUnprivileged: user nobody can do it. Where the tests run without
// root they are in a user namespace of an unprivileged user, which is the case
// itself.
func TestProveUnprivileged(t *testing.T) {
	t.Parallel()
	file := captured(t, claim(t, 0, "10.0.1.100:80"))
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
	file := captured(t, claim(t, 5000, "10.0.1.100:80"))
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
				return strings.Contains(string(command), proveCommand)
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

func TestProveRemedy(t *testing.T) {
	for _, tt := range []struct{ file, value, want string }{
		{"", "", "run it as root; a container needs CAP_SYS_ADMIN, or a runtime that lets it make user namespaces"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1\n", "run it as root, or allow it: sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
		{"kernel/unprivileged_userns_clone", "0\n", "run it as root, or allow it: sysctl kernel.unprivileged_userns_clone=1"},
		{"kernel/unprivileged_userns_clone", "1\n", "run it as root; a container needs CAP_SYS_ADMIN, or a runtime that lets it make user namespaces"},
		{"user/max_net_namespaces", "0\n", "run it as root, or allow it: sysctl user.max_net_namespaces=1000"},
	} {
		dir := t.TempDir()
		if tt.file != "" {
			path := filepath.Join(dir, tt.file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
				os.WriteFile(path, []byte(tt.value), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if got := remedy(dir); got != tt.want {
			t.Errorf("%s=%q: %q, want %q", tt.file, tt.value, got, tt.want)
		}
	}
}

// BenchmarkProve proves plans of hosts of several sizes.
func BenchmarkProve(b *testing.B) {
	for _, n := range []int{0, 1000, 100000} {
		b.Run(fmt.Sprint("routes=", n), func(b *testing.B) {
			c := claim(b, n, "10.0.1.100:80", "[2001:db8:1::100]:80")
			for b.Loop() {
				p, err := prove(c)
				if err != nil || len(p.Differences)+len(p.NotRebuilt) > 0 {
					b.Fatalf("%v %v %v", err, p.Differences, p.NotRebuilt)
				}
				b.ReportMetric(float64(p.Asked), "answers")
			}
		})
	}
}
