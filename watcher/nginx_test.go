package watcher

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/internal/procfs"
)

// nginx is a real NGINX that listens on a unix socket, so that it needs no
// network.
type nginx struct {
	t    *testing.T
	dir  string
	exe  string
	conf string
}

func newNginx(t *testing.T) *nginx {
	t.Helper()
	exe, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "nginx") // t.TempDir's names are too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n := &nginx{t: t, dir: dir, exe: exe, conf: filepath.Join(dir, "nginx.conf")}
	for _, d := range []string{"run", "conf.d"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.write("nginx.conf", fmt.Sprintf(`
worker_processes 2;
pid %[1]s/run/nginx.pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	server { listen unix:%[1]s/main.sock; location /slow { return 200 ok; } }
	include %[1]s/conf.d/*.conf;
}
`, dir))
	return n
}

func (n *nginx) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// start starts a master and returns its process id. It is stopped at the end.
func (n *nginx) start() Master {
	n.t.Helper()
	n.run("-p", n.dir, "-c", n.conf)
	m := n.master()
	n.t.Cleanup(func() { n.stop() })
	return m
}

func (n *nginx) run(args ...string) {
	n.t.Helper()
	if out, err := exec.Command(n.exe, args...).CombinedOutput(); err != nil {
		n.t.Fatalf("nginx %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// stop ends whatever master the pid file names, and waits until it has ended.
func (n *nginx) stop() {
	pid := n.pid("nginx.pid")
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	waitFor(n.t, "the end of NGINX", func() bool { return syscall.Kill(pid, 0) != nil })
}

func (n *nginx) pid(name string) int {
	data, _ := os.ReadFile(filepath.Join(n.dir, "run", name))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

func (n *nginx) master() Master {
	n.t.Helper()
	pid := n.pid("nginx.pid")
	stat, err := procfs.Dir("").Stat(pid)
	if err != nil {
		n.t.Fatalf("no master with the id %d runs", pid)
	}
	waitFor(n.t, "two workers", func() bool { return len(workersOf(pid)) == 2 })
	return Master{Process{pid, stat.Started}, filepath.Join(n.dir, "run/nginx.pid")}
}

// workersOf are the children that call themselves workers.
func workersOf(master int) []int {
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master, master))
	var out []int
	for _, word := range strings.Fields(string(list)) {
		title, _ := os.ReadFile("/proc/" + word + "/cmdline")
		if pid, err := strconv.Atoi(word); err == nil &&
			strings.HasPrefix(string(title), "nginx: worker process\x00") {
			out = append(out, pid)
		}
	}
	return out
}

func (n *nginx) signal(pid int, s syscall.Signal) {
	n.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		n.t.Fatal(err)
	}
}

// waitFor polls, since the processes that it waits for are not its children.
func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	limit := nstest.Patience(20 * time.Second)
	for end := time.Now().Add(limit); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}

// running is a watcher that runs, with all its events so far.
type running struct {
	*Watcher
	t    *testing.T
	said []Event
}

func run(t *testing.T, w *Watcher) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range w.Events() {
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &running{Watcher: w, t: t}
}

// until takes events until one of the kind comes. It keeps those before it in
// said.
func (r *running) until(k Kind) Event {
	r.t.Helper()
	timeout := time.After(nstest.Patience(20 * time.Second))
	for {
		select {
		case e := <-r.Events():
			r.said = append(r.said, e)
			if e.Kind == k {
				return e
			}
		case <-timeout:
			r.t.Fatalf("no %q in time; said: %v", k, r.said)
		}
	}
}

// settled takes all events that are due and returns how many of the kind came
// since the last call.
func (r *running) settled(k Kind) int {
	r.t.Helper()
	r.Workers() // a look; what it finds is queued before it returns
	for quiet := false; !quiet; {
		select {
		case e := <-r.Events():
			r.said = append(r.said, e)
			if len(r.said) > 1000 {
				r.t.Fatalf("no end: %v", r.said[990:])
			}
		case <-time.After(50 * time.Millisecond):
			quiet = true
		}
	}
	count := 0
	for _, e := range r.said {
		if e.Kind == k {
			count++
		}
	}
	r.said = nil
	return count
}

// detectors are the ways to notice a load: all must say the same.
func detectors(t *testing.T, f func(*testing.T, Options)) {
	t.Run("connector", func(t *testing.T) {
		if c, err := openForks(); err != nil {
			t.Skip("the proc connector is not to be had here: ", err)
		} else {
			c.close()
		}
		f(t, Options{Every: time.Hour}) // the connector alone
	})
	t.Run("children", func(t *testing.T) {
		f(t, Options{NoConnector: true, Alone: 5 * time.Millisecond})
	})
}

// TestReloads: each change of the loaded configuration has one event; anything
// else has none.
func TestReloads(t *testing.T) {
	detectors(t, func(t *testing.T, o Options) {
		n := newNginx(t)
		m := n.start()
		w := run(t, Open(o))
		w.Follow([]Master{m}, nil)
		w.settled(Reloaded)
		torn := 0
		for range 5 {
			torn += w.reload(n, m)
		}
		if said := w.settled(Reloaded); said < 5 || said > 5+torn {
			t.Errorf("5 loads, %d of them torn: %d said", torn, said)
		}
		w.quiet("nginx -t", func() { n.run("-t", "-p", n.dir, "-c", n.conf) })
		w.quiet("nginx -T", func() { n.run("-T", "-p", n.dir, "-c", n.conf) })
		w.quiet("log rotation", func() { n.signal(m.PID, syscall.SIGUSR1) })
		for range 5 {
			w.quiet("a crash", func() {
				victim := workersOf(m.PID)[0]
				n.signal(victim, syscall.SIGKILL)
				waitFor(t, "a successor", func() bool {
					now := workersOf(m.PID)
					return len(now) == 2 && !slices.Contains(now, victim)
				})
			})
		}
		w.quiet("a failed reload", func() {
			n.write("conf.d/bad.conf", "bogus;")
			n.signal(m.PID, syscall.SIGHUP)
			waitFor(t, "the failure", func() bool {
				log, _ := os.ReadFile(filepath.Join(n.dir, "error.log"))
				return strings.Contains(string(log), "[emerg]")
			})
		})
		if err := os.Remove(filepath.Join(n.dir, "conf.d/bad.conf")); err != nil {
			t.Fatal(err)
		}
		w.reload(n, m)
	})
}

// reload reloads NGINX and waits for the event and for the end of the old
// workers. It returns how often a busy machine has torn the load: NGINX waited
// so long before it forked the next worker that this may look like another
// load.
func (r *running) reload(n *nginx, m Master) (torn int) {
	r.t.Helper()
	before := r.Workers()[m.PID]
	n.signal(m.PID, syscall.SIGHUP)
	if e := r.until(Reloaded); e.PID != m.PID {
		r.t.Errorf("reload of %d, want %d", e.PID, m.PID)
	}
	var now []Process
	waitFor(r.t, "two new workers", func() bool {
		w := r.Workers()[m.PID]
		now = slices.Concat(w.Current, w.Old)
		return len(workersOf(m.PID)) == 2 && len(now) == 2 &&
			!slices.ContainsFunc(now, func(p Process) bool {
				return slices.Contains(before.Current, p) ||
					slices.Contains(before.Old, p)
			})
	})
	if a, b := now[0].Started, now[1].Started; max(a, b)-min(a, b) >= burst {
		torn++
	}
	return torn
}

// quiet does something that must not be taken for a load.
func (r *running) quiet(name string, do func()) {
	r.t.Helper()
	do()
	if got := r.settled(Reloaded); got != 0 {
		r.t.Errorf("%s: %d loads said", name, got)
	}
}

// TestUpgrade: a new binary, its way back, stop and start.
func TestUpgrade(t *testing.T) {
	detectors(t, func(t *testing.T, o Options) {
		n := newNginx(t)
		m := n.start()
		w := run(t, Open(o))
		w.Follow([]Master{m}, nil)
		w.settled(Masters)
		n.signal(m.PID, syscall.SIGUSR2)
		w.until(Masters)
		waitFor(t, "the new master", func() bool {
			return n.pid("nginx.pid") != m.PID && n.pid("nginx.pid") != 0
		})
		next := n.master()
		w.Follow([]Master{m, next}, nil)
		if got := w.settled(Reloaded); got != 0 {
			t.Errorf("the upgrade was taken for %d loads", got)
		}
		n.signal(m.PID, syscall.SIGQUIT)
		waitFor(t, "the end of the old master", func() bool {
			return syscall.Kill(m.PID, 0) != nil
		})
		w.until(Masters)
		w.Follow([]Master{next}, nil)
		n.signal(next.PID, syscall.SIGHUP)
		if e := w.until(Reloaded); e.PID != next.PID {
			t.Errorf("reload of %d, want %d", e.PID, next.PID)
		}
		n.stop()
		w.until(Masters)
		w.Follow(nil, []string{m.PIDFile})
		w.settled(Masters)
		again := n.start()
		w.until(Masters)
		w.Follow([]Master{again}, nil)
		n.signal(again.PID, syscall.SIGHUP)
		w.until(Reloaded)
	})
}
