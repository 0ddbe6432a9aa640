package flow

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const benchConf = `daemon off;
master_process off;
pid %[1]s/pid;
error_log /dev/null;
events {}
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/1;
	proxy_temp_path %[1]s/2;
	fastcgi_temp_path %[1]s/3;
	uwsgi_temp_path %[1]s/4;
	scgi_temp_path %[1]s/5;
	server { listen 10.7.0.10:80; return 200; }
}
`

// nginx is a real one.
type nginx struct {
	b    *testing.B
	pid  int
	conf string
	ask  clients
}

// nginx starts it on the host.
func (s *benchStreet) nginx(b *testing.B) *nginx {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	n := &nginx{b: b, conf: filepath.Join(dir, "nginx.conf"),
		ask: clients{from: s.Client, to: "10.7.0.10:80", n: 2, pinned: true}}
	if err := os.WriteFile(n.conf, fmt.Appendf(nil, benchConf, dir), 0o600); err != nil {
		b.Fatal(err)
	}
	c := s.Host.Command("nginx", "-p", dir, "-c", n.conf)
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	n.pid = c.Process.Pid
	if err := unix.SchedSetaffinity(n.pid, firstCore()); err != nil {
		b.Fatal(err)
	}
	return n
}

// perRequest is the processor time that each takes for a request, in
// nanoseconds: the median of short runs, in turn. At the same time the kernel
// would do the work of one on another's account.
func perRequest(all [3]*nginx, keep bool) (cost [3]float64) {
	const runs, run = 12, 30 * time.Millisecond
	var costs [3][]float64
	for range runs {
		for i, n := range all {
			n.ask.keep = keep
			before := processTime(n.b, n.pid)
			answered := n.ask.ask(run)
			costs[i] = append(costs[i], float64(processTime(n.b, n.pid)-before)/
				float64(max(1, answered)))
		}
	}
	for i := range cost {
		cost[i] = quartile(costs[i], 2)
	}
	return cost
}

// processTime is the processor time of all threads of a process.
func processTime(b *testing.B, pid int) (sum time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		b.Fatalf("process %d: no threads, %v", pid, err)
	}
	for _, t := range tasks {
		var d time.Duration
		text, err := os.ReadFile(t)
		if err != nil {
			continue // ended meanwhile
		}
		if _, err = fmt.Sscan(string(text), &d); err != nil {
			b.Fatal(err)
		}
		sum += d
	}
	return sum
}

// BenchmarkNGINX is what an observer adds to NGINX's processor time for a
// request: the ratio of with to without.
func BenchmarkNGINX(b *testing.B) {
	for _, tt := range []struct {
		name string
		keep bool
	}{{"new", false}, {"kept", true}} {
		b.Run(tt.name, func(b *testing.B) {
			l, on := newLanes(b), map[*benchStreet]*nginx{}
			for _, s := range l {
				on[s] = s.nginx(b)
			}
			c := l.compare(b, 12, func(l lanes) [3]float64 {
				return perRequest([3]*nginx{on[l[0]], on[l[1]], on[l[2]]},
					tt.keep)
			})
			ratio := c.ratio(c.watched)
			report(b, c.without, "ns/request")
			report(b, ratio, "x")
			b.Logf("%s ns a request; an empty socket %s times, an observer %s times",
				spread(c.without, "%.0f"), spread(c.ratio(c.tapped), "%.3f"),
				spread(ratio, "%.3f"))
		})
	}
}
