package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/watcher"
)

// server is an NGINX host with three uplinks in a namespace of its own, a real
// NGINX in it, and the daemon in this process.
type server struct {
	*nstest.NS
	t      testing.TB
	dir    string
	kernel *host.Kernel // the test's own eyes
	d      *daemon
	log    *lockedBuffer
	end    func() error
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// take returns what was logged since the last take.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	l.b.Reset()
	return s
}

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

func newServer(t testing.TB) *server {
	t.Helper()
	s := bareServer(t)
	s.lines(threeUplinks)
	s.conf("listen 10.0.1.100:80;")
	return s
}

// bareServer is a server without links and without nginx.conf.
func bareServer(t testing.TB) *server {
	t.Helper()
	s := &server{NS: nstest.New(t), t: t, log: &lockedBuffer{}}
	dir, err := os.MkdirTemp("", "lasthop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if s.kernel, err = host.Open(s.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kernel.Close)
	return s
}

// lines runs `ip` command lines; a family in front of one makes it a call of
// its own.
func (s *server) lines(lines string) {
	s.t.Helper()
	var four, six strings.Builder
	for line := range strings.Lines(lines) {
		if rest, ok := strings.CutPrefix(line, "-6 "); ok {
			six.WriteString(rest)
		} else {
			four.WriteString(line)
		}
	}
	s.Batch(four.String())
	if six.Len() > 0 {
		c := s.Command("ip", "-6", "-batch", "-")
		c.Stdin = strings.NewReader(six.String())
		if out, err := c.CombinedOutput(); err != nil {
			s.t.Fatalf("ip -6 -batch: %v\n%s", err, out)
		}
	}
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// conf writes a nginx.conf with the listens by replacing the file, as editors
// and tools do.
func (s *server) conf(listens string) {
	s.t.Helper()
	s.replace(fmt.Sprintf("%sevents { worker_connections 64; }\nhttp {\n\taccess_log off;\n"+
		"\tserver {\n\t\t%s\n\t\treturn 200 ok;\n\t}\n}\n", s.head(), listens))
}

// head keeps NGINX's files in the test's directory.
func (s *server) head() string {
	return fmt.Sprintf("worker_processes 2;\npid %[1]s/nginx.pid;\n"+
		"error_log %[1]s/error.log;\n", s.dir)
}

func (s *server) replace(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path("new"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path("new"), s.path("nginx.conf")); err != nil {
		s.t.Fatal(err)
	}
}

// nginx runs NGINX with arguments.
func (s *server) nginx(args ...string) {
	s.t.Helper()
	// absolute, since the upgrade of a binary wants argv[0] so
	exe, err := exec.LookPath("nginx")
	if err != nil {
		s.t.Fatal(err)
	}
	s.Run(append([]string{exe, "-p", s.dir, "-c", s.path("nginx.conf")}, args...)...)
}

// startNginx starts NGINX; it ends with the test.
func (s *server) startNginx() int {
	s.t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		if os.Getenv("CI") == "true" {
			s.t.Fatal(err)
		}
		s.t.Skip(err)
	}
	s.nginx()
	s.t.Cleanup(func() { s.stopNginx() })
	s.until("NGINX to take its title", func() bool { // it has written its pid file before
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.pid()))
		return strings.HasPrefix(string(title), "nginx: master process")
	})
	return s.pid()
}

func (s *server) pid() int {
	data, _ := os.ReadFile(s.path("nginx.pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

func (s *server) stopNginx() {
	if pid := s.pid(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		s.until("NGINX to end", func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

func (s *server) reload() {
	s.t.Helper()
	s.signal(syscall.SIGHUP)
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	pid := s.pid()
	if pid == 0 {
		s.t.Fatal("no NGINX runs")
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

// start starts the daemon and waits for its first sync. It ends with the test,
// or with end.
func (s *server) start(change ...func(*app)) {
	s.t.Helper()
	a := &app{ui: newUI(nil, s.log, s.log), flags: flags{netns: s.Path,
		confs: []string{s.path("nginx.conf")}, runDir: s.path("run"), output: "text"}}
	for _, f := range change {
		f(a)
	}
	k, err := a.open()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.d, err = a.newDaemon(k); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { err := s.d.run(ctx); a.close(s.d.writer); k.Close(); ended <- err }()
	s.end = sync.OnceValue(func() error { cancel(); return <-ended })
	s.t.Cleanup(func() {
		if err := s.end(); err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.t.Logf("the daemon's log:\n%s", s.log)
		}
	})
	s.until("the first sync", func() bool { return s.d.status().Counts.Syncs > 0 })
}

// until polls, since kernel, NGINX and daemon do what they do in their own
// time.
func (s *server) until(what string, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			if s.d != nil {
				s.t.Logf("masters %+v", s.d.status().Masters)
			}
			s.t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func (s *server) host() routing.Host {
	s.t.Helper()
	h, err := s.kernel.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// owned is what is ours in the kernel, as lines.
func (s *server) owned() []string {
	s.t.Helper()
	o := routing.Owned(s.host(), routing.DefaultNumbers)
	var out []string
	for _, op := range routing.Compare(routing.State{}, o).Ops() {
		out = append(out, op.String())
	}
	return out
}

// foreign is everything that is not ours, as lines.
func (s *server) foreign() []string {
	s.t.Helper()
	h := routing.Without(s.host(), routing.DefaultNumbers)
	var out []string
	for _, r := range h.Routes {
		out = append(out, r.String())
	}
	for _, r := range h.Rules {
		out = append(out, r.Family.String()+" "+r.String())
	}
	slices.Sort(out)
	return out
}

// quiet waits until the daemon has nothing to do: what had happened before has
// been dealt with.
func (s *server) quiet() report.Status {
	s.t.Helper()
	var last report.Status
	same := 0
	s.until("peace", func() bool {
		now := s.d.status()
		if now.Counts == last.Counts {
			same++
		} else {
			same = 0
		}
		last = now
		return same > 60 // 120 ms: longer than events are collected for
	})
	return last
}

var detectorsOf = map[string]watcher.Options{"connector": {Every: time.Hour},
	"children": {NoConnector: true}}

// eachDetector runs a test with each way to notice reloads.
func eachDetector(t *testing.T, f func(*testing.T, func(*app))) {
	for name, o := range detectorsOf {
		t.Run(name, func(t *testing.T) {
			if name == "connector" {
				w := watcher.Open(watcher.Options{})
				if w.Detector() != "proc connector" {
					t.Skip(w.Detector())
				}
			}
			f(t, func(a *app) { a.watch = o })
		})
	}
}
