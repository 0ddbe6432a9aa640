package daemon

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var churnFor = flag.Duration("churn", 3*time.Second, "how long TestChurn goes on")

// churns are what comes and goes on a host. Each is given whether it comes.
var churns = map[string]func(*server, bool){
	"a link with a listener": func(s *server, comes bool) {
		if !comes {
			s.Lines("link del eth7")
			return
		}
		s.Lines("link add eth7 type veth peer name peer7\nlink set peer7 up\n" +
			"link set eth7 up\naddr add 10.0.7.10/24 dev eth7\n" +
			"route add default via 10.0.7.1 dev eth7 metric 700")
	},
	"an address": func(s *server, comes bool) {
		s.Lines("addr " + comesOrGoes(comes) + " 10.0.1.97/24 dev eth1")
	},
	"a router": func(s *server, comes bool) {
		s.Lines("route replace default via 10.0.1." +
			map[bool]string{true: "2", false: "1"}[comes] + " dev eth1 metric 100")
	},
	"routes": func(s *server, comes bool) {
		var b strings.Builder
		for n := range 50 {
			fmt.Fprintf(&b, "route %s 198.18.%d.0/24 via 10.0.1.9 dev eth1\n",
				comesOrGoes(comes), n)
		}
		s.Lines(b.String())
	},
	"a rule": func(s *server, comes bool) {
		s.Lines("rule " + comesOrGoes(comes) + " priority 300 fwmark 7 table 500")
	},
	"a listener": func(s *server, comes bool) {
		s.Conf(churnConf + map[bool]string{true: "listen 10.0.2.100:80;"}[comes])
		s.Reload()
	},
	"NGINX": func(s *server, comes bool) {
		if !comes || rand.IntN(3) > 0 {
			return
		}
		s.StopNginx()
		s.Nginx()
		s.Until("NGINX", func() bool { return s.PID() != 0 })
	},
	"processes": func(s *server, comes bool) {
		for range 10 {
			_ = (&exec.Cmd{Path: "/bin/true",
				Args: []string{"nginx: master process nginx"}}).Run()
		}
	},
	"clients, and the settings": func(s *server, comes bool) {
		if _, err := s.socket().Status(); err != nil {
			s.t.Error(err)
		}
		s.d.reloads <- syscall.SIGHUP
	},
}

const churnConf = "listen 10.0.1.100:80; listen 10.0.7.10:80; "

func comesOrGoes(comes bool) string {
	return map[bool]string{true: "add", false: "del"}[comes]
}

// sizeNames are what must not grow, and a size is how much there is of each. It
// is small: 30 minutes keep a thousand.
var sizeNames = [...]string{"resident memory, KiB", "heap, KiB", "goroutines",
	"file descriptors", "objects in the kernel", "files in the run directory"}

type size [len(sizeNames)]int

// size measures it while the daemon is idle. The log of the daemon is the
// test's.
func (s *server) size() size {
	s.t.Helper()
	s.quiet()
	s.log.Take()
	var m runtime.MemStats
	debug.FreeOSMemory()
	runtime.ReadMemStats(&m)
	count := func(dir string) int {
		list, err := os.ReadDir(dir)
		if err != nil {
			s.t.Fatal(err)
		}
		return len(list)
	}
	memory, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.Atoi(strings.Fields(string(memory))[1])
	return size{pages * os.Getpagesize() >> 10, int(m.HeapAlloc >> 10), runtime.NumGoroutine(),
		count("/proc/self/fd"), len(s.owned()), count(s.File("run"))}
}

// TestChurn: links, addresses, routes, rules, listeners, NGINX and processes
// come and go at a steady rate. In the end nothing is larger than it was in the
// beginning.
func TestChurn(t *testing.T) {
	s := newServer(t)
	s.Conf(churnConf)
	s.Sysctl("net.ipv4.ip_nonlocal_bind=1")
	s.StartNginx()
	s.start()
	random := rand.New(rand.NewPCG(1, 0))
	kinds := slices.Sorted(keys(churns))
	turn := func() {
		for _, comes := range []bool{true, false} {
			random.Shuffle(len(kinds), func(i, j int) {
				kinds[i], kinds[j] = kinds[j], kinds[i]
			})
			for _, kind := range kinds {
				churns[kind](s, comes)
				pause(context.Background(), 50*time.Millisecond)
			}
		}
	}
	turn() // what is made once
	var sizes []size
	for end := time.Now().Add(*churnFor); time.Now().Before(end) || len(sizes) < 3; {
		turn()
		sizes = append(sizes, s.size())
	}
	t.Logf("%d turns, %+v", len(sizes), s.status().Counts)
	s.wantNoGrowth(sizes)
	s.wantFresh("the end of the churn")
}

// wantNoGrowth compares the medians of the first and of the last tenth.
func (s *server) wantNoGrowth(sizes []size) {
	s.t.Helper()
	tenth := (len(sizes) + 9) / 10
	median := func(list []size, of int) int {
		var all []int
		for _, m := range list {
			all = append(all, m[of])
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	for of, name := range sizeNames {
		first := median(sizes[:tenth], of)
		last := median(sizes[len(sizes)-tenth:], of)
		s.t.Logf("%s: %d, in the end %d", name, first, last)
		if last > first+first/10 {
			s.t.Errorf("%s: %d, in the end %d, after %d turns", name, first, last,
				len(sizes))
		}
	}
}
