package daemon

import (
	"bytes"
	"context"
	"fmt"
	"maps"
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

	"lasthop/report"
	"lasthop/routing"
	"lasthop/watcher"

	"github.com/google/go-cmp/cmp"
)

// many makes listens for n listeners on 100 addresses of eth1, and those
// addresses.
func (s *server) many(n int) string {
	s.t.Helper()
	var ip, listens strings.Builder
	for a := range min(n, 100) {
		fmt.Fprintf(&ip, "addr add 10.0.1.%d/24 dev eth1\n", 110+a)
	}
	for i := range n {
		fmt.Fprintf(&listens, "listen 10.0.1.%d:%d;\n", 110+i%100, 1000+i/100)
	}
	s.Lines(ip.String())
	return listens.String()
}

// manyConf is conf for many listeners.
func (s *server) manyConf(listens string) {
	s.t.Helper()
	s.Replace(fmt.Sprintf("worker_rlimit_nofile 65536;\n%sevents { worker_connections 30000; "+
		"}\nhttp {\n\taccess_log off;\n\tserver {\n\t\t%s\n\t\treturn 200 ok;\n\t}\n}\n",
		s.Head(), listens))
}

// quantiles reports p50 and p99 in milliseconds.
func quantiles(b *testing.B, name string, times []time.Duration) {
	b.Helper()
	if len(times) == 0 {
		b.Fatalf("%s: nothing was measured", name)
	}
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))]) / 1e6 }
	b.ReportMetric(at(0.5), name+"-p50-ms")
	b.ReportMetric(at(0.99), name+"-p99-ms")
}

func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	return strings.TrimSpace(string(data))
}

// BenchmarkReload follows real reloads that add and remove a listener with a
// path of its own: from the fork of the first new worker, as the kernel stamped
// it, to a kernel that holds what the plan wants. A look every 20 ms cannot
// know the fork's time: there it is from when the look began. "at-once" reloads
// in the moment the file is written, which races the making of the plan;
// "tested" runs nginx -t in between, as people and Ansible do; "busy" does so
// while NGINX answers as many connections as two clients can make.
func BenchmarkReload(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		for _, detector := range slices.Sorted(maps.Keys(detectorsOf)) {
			for _, style := range []string{"at-once", "tested", "busy"} {
				b.Run(fmt.Sprintf("listeners=%d/%s/%s", n, detector, style),
					func(b *testing.B) {
						s := newServer(b)
						listens := s.many(n)
						if style == "busy" {
							defer s.busy("10.0.1.110:1000")()
						}
						benchmarkReload(s, b, func(more string) {
							s.manyConf(listens + more)
						}, detectorsOf[detector], style != "at-once")
					})
			}
		}
	}
}

// busy has two clients ask a listener again and again, until end.
func (s *server) busy(addr string) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			s.Do(func() {
				for ctx.Err() == nil {
					if askTCP(addr) != nil { // no NGINX is there
						pause(ctx, time.Millisecond)
					}
				}
			})
		})
	}
	return func() { cancel(); clients.Wait() }
}

// BenchmarkReloadVhosts is BenchmarkReload for virtual servers that share one
// listen: 100 and 10,000 of them.
func BenchmarkReloadVhosts(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprintf("vhosts=%d", n), func(b *testing.B) {
			s := newServer(b)
			servers := vhosts(n)
			benchmarkReload(s, b, func(more string) {
				s.vhostsConf(servers, more)
			}, watcher.Options{}, true)
		})
	}
}

// vhosts makes server blocks for n virtual servers that share one listen.
func vhosts(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "\tserver { listen 10.0.1.100:443; "+
			"server_name h%d.example.com; return 204; }\n", i)
	}
	return out.String()
}

// vhostsConf is conf for virtual servers, and a server with more listens.
func (s *server) vhostsConf(servers, listens string) {
	s.t.Helper()
	s.Replace(fmt.Sprintf("%sevents {}\nhttp {\n\taccess_log off;\n"+
		"\tserver_names_hash_max_size 524288;\n"+
		"\tserver { listen 10.0.1.101:80; %s }\n%s}\n", s.Head(), listens, servers))
}

// benchmarkReload reloads a configuration with and without one more listener.
func benchmarkReload(s *server, b *testing.B, conf func(more string), detector watcher.Options,
	test bool) {
	b.Helper()
	conf("")
	s.StartNginx()
	s.start(func(o *Options) { o.Watch = detector })
	var mu sync.Mutex
	var times []time.Duration
	prepared := 0
	s.d.calls <- func() {
		s.d.board.loads = func(l load) {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, l.written)
			if l.ready {
				prepared++
			}
		}
	}
	b.ResetTimer()
	for i := range b.N {
		before := s.status().Counts.Reloads
		if i%2 == 0 {
			conf("listen 10.0.2.100:80;")
		} else {
			conf("")
		}
		if test {
			s.Nginx("-t")
		}
		s.Nginx("-s", "reload")
		s.Until("the reload", func() bool { return s.status().Counts.Reloads > before })
		want := i%2 == 0
		s.Until("the routes", func() bool {
			return has(s.ownedRules(), "from 10.0.2.") == want
		})
		s.quiet() // administrators do not reload again immediately
	}
	b.StopTimer()
	mu.Lock()
	defer mu.Unlock()
	quantiles(b, "fork-to-kernel", times)
	b.ReportMetric(float64(prepared)/float64(len(times)), "prepared/reload")
	b.Logf("%d loads followed, %d with the plan ready at the fork; load %s", len(times),
		prepared, loadAverage())
}

// ownedRules returns lasthop's rules, without the cost of reading the rest.
func (s *server) ownedRules() []string {
	o, err := s.kernel.ReadOwned(routing.DefaultNumbers)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, r := range o.Rules {
		out = append(out, r.String())
	}
	return out
}

// BenchmarkHeal deletes all that is lasthop's and waits until it is back: from
// the end of the deleting process.
func BenchmarkHeal(b *testing.B) {
	s := newServer(b)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443; listen [2001:db8:1::100]:80;")
	s.start()
	want := s.owned()
	var times []time.Duration
	for range b.N {
		s.deleteOwned()
		start := time.Now()
		for cmp.Diff(want, s.owned()) != "" {
			if time.Since(start) > 10*time.Second {
				b.Fatalf("not healed:\n%s", cmp.Diff(want, s.owned()))
			}
		}
		times = append(times, time.Since(start))
		// no fight: another program deletes now and then
		for d := time.Now().Add(1100 * time.Millisecond); time.Now().Before(d); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	quantiles(b, "delete-to-healed", times)
	b.Logf("%d objects each time, load %s", len(want), loadAverage())
}

// BenchmarkRoutes is a host with 100,000 routes. It shows the cost of 20
// changes a second in a table that no reply is looked up in, and in one that a
// rule leads to; and how long a deleted rule is missing.
func BenchmarkRoutes(b *testing.B) {
	for _, read := range []bool{false, true} {
		b.Run(map[bool]string{false: "unread", true: "read"}[read], func(b *testing.B) {
			s := newServer(b)
			s.routes(100000, 500)
			if read {
				s.Lines("rule add pref 9000 lookup 500 suppress_prefixlength 0")
			}
			p := s.startProcess(false)
			var away []time.Duration
			b.ResetTimer()
			for range b.N {
				before := p.cpu()
				for n := range 200 {
					s.Lines(fmt.Sprintf("route replace 198.18.%d.0/24 "+
						"via 10.0.0.%d table 500", n%50, 1+n/50))
					time.Sleep(50 * time.Millisecond)
				}
				b.ReportMetric(100*(p.cpu()-before).Seconds()/10, "%-of-a-core")
				want := s.ownedRules()
				s.Lines("rule del pref 5199")
				start := time.Now()
				s.Until("the rule", func() bool {
					return slices.Equal(want, s.ownedRules())
				})
				away = append(away, time.Since(start))
			}
			quantiles(b, "delete-to-healed", away)
			b.Logf("%d looks, load %s", p.status().Counts.Syncs, loadAverage())
		})
	}
}

// routes adds n routes to a table.
func (s *server) routes(n, table int) {
	s.t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "route add 20.%d.%d.%d/32 via 10.0.0.1 table %d\n",
			i>>16, i>>8&255, i&255, table)
	}
	s.Lines(lines.String())
}

// process is a daemon in a process of its own.
type process struct {
	*server
	pid int
}

// startProcess starts the built lasthop by way of another command, if any, for
// nginx.conf and without settings, and waits until it is in sync.
func (s *server) startProcess(inside bool, by ...string) process {
	s.t.Helper()
	p := s.launch(inside, by, "-c", s.File("nginx.conf"), "--config", "")
	s.Until("the daemon", func() bool { return p.status().InSync })
	return p
}

// launch starts the built lasthop by way of another command, if any, with
// flags, and waits for its first sync. Inside of the namespace it has no proc
// connector.
func (s *server) launch(inside bool, by []string, flags ...string) process {
	s.t.Helper()
	exe, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	args := slices.Concat(by, []string{exe, "run", "--run-dir", s.File("run")}, flags)
	c := exec.Command(args[0], append(args[1:], "--netns", s.Path)...)
	if inside {
		c = s.Command(args...)
	}
	c.Stderr = s.log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			s.t.Errorf("lasthop run: %v\n%s", err, s.log)
		}
	})
	p := process{s, c.Process.Pid}
	s.Until("the first sync", func() bool { return p.status().Counts.Syncs > 0 })
	return p
}

// cpu is the processor time that the process has used.
func (p process) cpu() time.Duration {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory is a line of /proc/PID/status in MiB.
func (p process) memory(key string) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	_, rest, _ := strings.Cut(string(data), key+":")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kb) / 1024
}

// status asks the process; it is zero if none answers.
func (p process) status() report.Status {
	s, _ := Client{SocketPath(p.File("run"), p.kernel.Inode())}.Status()
	return s
}

// finds reports whether the process has a finding.
func (p process) finds(code routing.Code) bool {
	return slices.ContainsFunc(p.status().Plan.Findings,
		func(f routing.Finding) bool { return f.Code == code })
}

// BenchmarkIdle shows what a minute with 10,000 listeners costs, and that
// nothing is written.
func BenchmarkIdle(b *testing.B) {
	for _, inside := range []bool{false, true} {
		b.Run(map[bool]string{false: "connector", true: "children"}[inside],
			func(b *testing.B) {
				s := newServer(b)
				s.manyConf(s.many(10000))
				s.StartNginx()
				p := s.startProcess(inside)
				peak := p.memory("VmHWM")
				b.ResetTimer()
				for range b.N {
					time.Sleep(20 * time.Second) // the work after the start
					before, counts := p.cpu(), p.status().Counts
					time.Sleep(time.Minute)
					used, after := p.cpu()-before, p.status().Counts
					b.ReportMetric(100*used.Seconds()/60, "%-of-a-core")
					if after.Changes != counts.Changes {
						b.Errorf("%d writes while idle",
							after.Changes-counts.Changes)
					}
				}
				b.ReportMetric(p.memory("VmRSS"), "RSS-MiB")
				b.ReportMetric(p.memory("RssAnon"), "anon-MiB")
				b.ReportMetric(max(peak, p.memory("VmHWM")), "peak-MiB")
				b.Logf("load %s", loadAverage())
			})
	}
}

// BenchmarkSync makes syncs, each with a plan made again, and fails if anything
// grows.
func BenchmarkSync(b *testing.B) {
	s := newServer(b)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443; listen [2001:db8:1::100]:80;")
	s.StartNginx()
	s.start()
	syncs := func(n int) {
		for range n {
			done := make(chan struct{})
			s.d.calls <- func() {
				s.d.reconciler.last = nil
				s.d.sync()
				s.d.prepare()
				close(done)
			}
			<-done
		}
	}
	type size struct {
		goroutines, files int
		heap              uint64
	}
	measure := func() size {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		files, _ := os.ReadDir("/proc/self/fd")
		return size{runtime.NumGoroutine(), len(files), m.HeapAlloc}
	}
	syncs(100)
	before := measure()
	b.ResetTimer()
	syncs(b.N)
	b.StopTimer()
	after := measure()
	b.ReportMetric((float64(after.heap)-float64(before.heap))/1024, "heap-growth-KiB")
	if after.goroutines > before.goroutines || after.files > before.files ||
		after.heap > before.heap+1<<20 {
		b.Errorf("%d syncs: from %+v to %+v", b.N, before, after)
	}
}
