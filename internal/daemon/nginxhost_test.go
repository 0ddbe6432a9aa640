package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// nginxHost is an NGINX host in a namespace of its own, with a real NGINX whose
// files are in a directory of the test.
type nginxHost struct {
	*nstest.NS
	T       testing.TB
	Dir     string
	Explain func() string // adds details if Until waits in vain; or nil
}

// threeUplinks are the links of most tests, as nginxHost.Lines takes them.
const threeUplinks = `
link add eth0 type veth peer name peer0
link add eth1 type veth peer name peer1
link add eth2 type veth peer name peer2
link set peer0 up
link set peer1 up
link set peer2 up
link set eth0 up
link set eth1 up
link set eth2 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.10/24 dev eth1
addr add 10.0.2.10/24 dev eth2
addr add 10.0.1.100/24 dev eth1
addr add 10.0.1.101/24 dev eth1
addr add 10.0.2.100/24 dev eth2
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
route add default via 10.0.2.1 dev eth2 metric 200
-6 addr add 2001:db8:1::100/64 dev eth1 nodad
-6 route add default via 2001:db8:1::1 dev eth1 metric 2000
-6 addr add 2001:db8:0::10/64 dev eth0 nodad
-6 route add default via 2001:db8:0::1 dev eth0 metric 1000
`

// newNginxHost makes one without links and without nginx.conf.
func newNginxHost(t testing.TB) *nginxHost {
	t.Helper()
	dir, err := os.MkdirTemp("", "lasthop")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &nginxHost{NS: nstest.New(t), T: t, Dir: dir}
}

// Uplinks makes threeUplinks, and waits for the routes of their IPv6 addresses
// and links, which the kernel adds a moment later.
func (s *nginxHost) Uplinks() {
	s.T.Helper()
	s.Lines(threeUplinks)
	s.Until("IPv6 routes", func() bool {
		local := s.IP("-6 route show table local")
		return strings.Count(local, "ff00::/8 ") == 6 &&
			strings.Count(local, "local 2001:db8:") == 2
	})
}

// Lines runs `ip` command lines; a family in front of one makes it a call of
// its own.
func (s *nginxHost) Lines(lines string) {
	s.T.Helper()
	var four, six strings.Builder
	for line := range strings.Lines(lines) {
		if rest, ok := strings.CutPrefix(line, "-6 "); ok {
			six.WriteString(rest)
		} else {
			four.WriteString(line)
		}
	}
	s.Batch(four.String())
	s.Batch(six.String(), "-6")
}

// File is the path of a file in the directory.
func (s *nginxHost) File(name string) string { return filepath.Join(s.Dir, name) }

// Conf writes an nginx.conf with the listens by replacing the file, as editors
// and tools do.
func (s *nginxHost) Conf(listens string) {
	s.T.Helper()
	s.Replace(fmt.Sprintf("%sevents { worker_connections 4096; }\nhttp {\n\taccess_log off;\n"+
		"\tserver {\n\t\t%s\n\t\treturn 200 ok;\n\t}\n}\n", s.Head(), listens))
}

// Head keeps NGINX's files in the directory.
func (s *nginxHost) Head() string {
	return fmt.Sprintf("worker_processes 2;\npid %[1]s/nginx.pid;\n"+
		"error_log %[1]s/error.log;\n", s.Dir)
}

// Replace replaces nginx.conf.
func (s *nginxHost) Replace(text string) {
	s.T.Helper()
	err := os.WriteFile(s.File("new"), []byte(text), 0o644)
	if err == nil {
		err = os.Rename(s.File("new"), s.File("nginx.conf"))
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

// Nginx runs NGINX with arguments.
func (s *nginxHost) Nginx(args ...string) {
	s.T.Helper()
	// absolute, since the upgrade of a binary wants argv[0] so
	exe, err := exec.LookPath("nginx")
	if err != nil {
		s.T.Fatal(err)
	}
	s.Run(append([]string{exe, "-p", s.Dir, "-c", s.File("nginx.conf")}, args...)...)
}

// StartNginx starts NGINX; it ends with the test.
func (s *nginxHost) StartNginx() int {
	s.T.Helper()
	need(s.T, "nginx")
	s.Nginx()
	return s.started()
}

// StartNginxKnowing starts NGINX where it has an /etc/hosts of its own.
func (s *nginxHost) StartNginxKnowing(hosts string) int {
	s.T.Helper()
	need(s.T, "nginx")
	exe, err := exec.LookPath("nginx")
	if err == nil {
		err = os.WriteFile(s.File("hosts"), []byte(hosts), 0o644)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	s.Run("unshare", "-m", "sh", "-c", fmt.Sprintf("mount --bind %s /etc/hosts && exec %s "+
		"-p %s -c %s", s.File("hosts"), exe, s.Dir, s.File("nginx.conf")))
	return s.started()
}

// started waits for NGINX's start, and has it end with the test.
func (s *nginxHost) started() int {
	s.T.Helper()
	s.T.Cleanup(func() { s.StopNginx() })
	// it has written its pid file before
	s.Until("NGINX to take its title and to fork its workers", func() bool {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID()))
		workers, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", s.PID()))
		return strings.HasPrefix(string(title), "nginx: master process") &&
			len(strings.Fields(string(workers))) == 2
	})
	return s.PID()
}

// need skips a test that needs a program; on CI it fails.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	} else if os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else {
		t.Skip(err)
	}
}

// PID is the master's, 0 if none runs.
func (s *nginxHost) PID() int {
	data, _ := os.ReadFile(s.File("nginx.pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

// StopNginx stops NGINX, if it runs, and waits for its end.
func (s *nginxHost) StopNginx() {
	if pid := s.PID(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		s.Until("NGINX to end", func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

// Reload makes NGINX load its configuration.
func (s *nginxHost) Reload() {
	s.T.Helper()
	s.Signal(syscall.SIGHUP)
}

// Signal sends a signal to NGINX's master.
func (s *nginxHost) Signal(sig syscall.Signal) {
	s.T.Helper()
	pid := s.PID()
	if pid == 0 {
		s.T.Fatal("no NGINX runs")
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.T.Fatal(err)
	}
}

// Until polls, since kernel, NGINX and daemon do what they do in their own
// time.
func (s *nginxHost) Until(what string, f func() bool) {
	s.T.Helper()
	limit := nstest.Patience(20 * time.Second)
	for end := time.Now().Add(limit); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			if s.Explain != nil {
				s.T.Log(s.Explain())
			}
			s.T.Fatalf("waited %s for %s", limit, what)
		}
	}
}
