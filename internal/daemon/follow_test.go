package daemon

import (
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/sockets"
	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/watcher"
)

// askHalf sends half of a request to NGINX: the worker that serves it stays.
func (s *server) askHalf(addr string) (c net.Conn) {
	s.t.Helper()
	var err error
	s.Do(func() { c, err = net.Dial("tcp4", addr) })
	if err == nil {
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\n")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// TestRunDraining: a listener that was removed keeps its way while an old
// worker serves a connection of it, and not longer.
func TestRunDraining(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
		s.StartNginx()
		s.start(detector)
		c := s.askHalf("10.0.2.100:80")
		defer c.Close()
		s.Conf("listen 10.0.1.100:80;")
		s.Reload()
		s.Until("old workers that drain", func() bool {
			m := s.status().Masters
			return len(m) == 1 && m[0].Draining > 0 && m[0].Generation == 2
		})
		s.quiet()
		if o := s.owned(); !has(o, "from 10.0.2.") {
			t.Fatalf("the way of the connection is gone: %q", o)
		}
		if _, err := io.WriteString(c, "Host: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil ||
			!strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("the old worker answers %.30q, %v", answer, err)
		}
		s.Until("the way to go with the last connection", func() bool {
			return !has(s.owned(), "from 10.0.2.")
		})
	})
}

// TestRunUnloadedEdits: if the disk is newer than the workers of the NGINX that
// a daemon finds, nothing that an earlier daemon has installed goes before the
// next load; and nothing goes of what NGINX listens on, whatever a user asks
// for.
func TestRunUnloadedEdits(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"reload", "lasthop apply"} {
		t.Run(way, func(t *testing.T) {
			s := newServer(t)
			s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
			s.StartNginx()
			s.start()
			waiting := func() bool {
				return slices.ContainsFunc(s.status().Plan.Findings,
					func(f routing.Finding) bool {
						return f.Code == "not-loaded"
					})
			}
			if s.quiet(); waiting() {
				t.Error("what NGINX has just loaded is said to be newer than NGINX")
			}
			if err := s.end(); err != nil {
				t.Fatal(err)
			}
			// an edit at leisure
			for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(
				end); time.Sleep(10 * time.Millisecond) {
			}
			s.Conf("listen 10.0.1.100:80; listen 10.0.1.101:80;")
			s.start()
			st := s.quiet()
			if o := s.owned(); !has(o, "from 10.0.2.") || !has(o, "from 10.0.1.") {
				t.Errorf("removed what NGINX listens on: %q", o)
			}
			if !waiting() || !st.InSync {
				t.Errorf("not-loaded %t, in sync %t, %q", waiting(),
					st.InSync, st.Wrong)
			}
			if way == "reload" {
				s.Reload()
			} else if _, err := s.d.board.request(t.Context(), request{}); err != nil {
				t.Fatal(err)
			} else if s.quiet(); !has(s.owned(), "from 10.0.2.") || !waiting() {
				t.Errorf("gone, and NGINX listens on it: %q", s.owned())
			} else {
				s.Reload()
			}
			s.Until("the removed listener's way to go", func() bool {
				return !has(s.owned(), "from 10.0.2.") && !waiting()
			})
		})
	}
}

// TestDrainBound: a leaving listener goes after a day at the latest. It stays
// while a worker lives, while NGINX may listen on it, and while there is doubt.
func TestDrainBound(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	a, b := watcher.Process{PID: 1, Started: 1}, watcher.Process{PID: 2, Started: 2}
	one, two := nginxconf.Listen{Text: "one", First: 1}, nginxconf.Listen{Text: "two", First: 2}
	i := &instance{loaded: &nginxconf.Config{Listens: []nginxconf.Listen{one, two}},
		disk: &nginxconf.Config{Listens: []nginxconf.Listen{one}}}
	i.adopt([]watcher.Process{a, b}, now)
	if len(i.leaving) != 1 || i.leaving[0].listener.Text != "two" {
		t.Fatalf("leaving: %+v", i.leaving)
	}
	for _, step := range []struct {
		alive map[watcher.Process]bool
		after time.Duration
		owner sockets.Owner
		doubt string
		gone  bool
	}{{map[watcher.Process]bool{a: true, b: true}, 0, sockets.Another, "", false},
		{map[watcher.Process]bool{b: true}, maxLeaving - 1, sockets.Another, "", false},
		{map[watcher.Process]bool{b: true}, maxLeaving, sockets.NGINX, "", false},
		{nil, maxLeaving, sockets.Unknown, "", false},
		{nil, maxLeaving, sockets.Nobody, "files have changed", false},
		{nil, maxLeaving, sockets.Another, "", true}} {
		i.doubt = step.doubt
		owner := func(*nginxconf.Listen) sockets.Owner { return step.owner }
		if gone := i.drain(step.alive, owner, now.Add(step.after)); gone != step.gone {
			t.Errorf("%+v: gone %t", step, gone)
		}
	}
	i.loaded = &nginxconf.Config{Listens: []nginxconf.Listen{two}}
	i.adopt(nil, now)
	i.disk = i.loaded
	i.loaded = &nginxconf.Config{}
	if i.adopt(nil, now); len(i.leaving) != 0 {
		t.Errorf("what is configured again: leaving %+v", i.leaving)
	}
}

// TestRunFailedReloads: thirty reloads that fail, of each kind of failure, make
// no write.
func TestRunFailedReloads(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.StartNginx()
		s.start(detector)
		s.same("30 failed reloads", func() {
			for i := range 30 {
				switch i % 3 {
				case 0:
					s.Replace(s.Head() + "events {} http { server { listen " +
						"10.0.2.100:80; bogus; } }")
				case 1:
					s.Conf("listen 10.0.2.199:80;") // no address of this host
				case 2:
					s.Replace(s.Head() + "events {")
				}
				log := s.errorLines()
				s.Reload()
				s.Until("NGINX to refuse", func() bool {
					return s.errorLines() > log
				})
			}
		})
		if n := s.status().Counts.Reloads; n != 1 {
			t.Errorf("%d loads were seen, want that of the start", n)
		}
	})
}

// errorLines counts what NGINX has refused.
func (s *server) errorLines() int {
	data, _ := os.ReadFile(s.File("error.log"))
	return strings.Count(string(data), "[emerg]")
}

// TestRunSeveral: two NGINX with a configuration each; each is followed, and
// neither's reload touches what the other loaded.
func TestRunSeveral(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	other := &nginxHost{NS: s.NS, T: t, Dir: s.File("other")}
	if err := os.Mkdir(other.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	other.Conf("listen 10.0.2.100:80;")
	other.StartNginx()
	s.start(func(o *Options) { o.Flags.Confs = nil }) // every NGINX that runs here
	if m := s.status().Masters; len(m) != 2 || !has(s.owned(), "from 10.0.1.") ||
		!has(s.owned(), "from 10.0.2.") {
		t.Fatalf("masters %+v, installed %q", m, s.owned())
	}
	// the one is broken on disk
	s.Replace(s.Head() + "events {} http { server { listen 10.0.2.101:80; bogus; } }")
	s.quiet()
	other.Conf("listen 10.0.2.10:80;")
	other.Reload()
	s.Until("the other's new listener", func() bool {
		return slices.ContainsFunc(s.status().Plan.Outcomes,
			func(o routing.Outcome) bool { return o.Addr.String() == "10.0.2.10" })
	})
	s.Until("its old one to go", func() bool { return len(s.status().Plan.Outcomes) == 2 })
	if !has(s.owned(), "from 10.0.1.") {
		t.Errorf("the one's listeners have gone: %q", s.owned())
	}
	other.StopNginx()
	s.Until("the end of the other", func() bool {
		return slices.ContainsFunc(s.status().Masters, func(m report.Master) bool {
			return m.PID == 0 && strings.Contains(m.Conf, "other")
		})
	})
	if !has(s.owned(), "from 10.0.2.") {
		t.Errorf("what stopped is not ready for its start: %q", s.owned())
	}
}

// TestRunSettings: SIGHUP reads lasthop.yaml again; a broken one changes
// nothing and is logged.
func TestRunSettings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(s.File("lasthop.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("interfaces: {eth1: {gateways: [10.0.1.7]}}\n")
	hup := make(chan os.Signal)
	s.start(func(o *Options) { o.Flags.File = s.File("lasthop.yaml") }, func(o *Options) {})
	s.d.calls <- func() { s.d.reloads = hup }
	if !has(s.owned(), "default via 10.0.1.7 dev eth1") {
		t.Fatalf("the pin does not count: %q", s.owned())
	}
	write("interfaces: {eth1: {gateways: [10.0.1.8]}}\n")
	s.same("a file that was written", func() {})
	hup <- syscall.SIGHUP
	s.Until("the new gateway", func() bool {
		return has(s.owned(), "default via 10.0.1.8 dev eth1")
	})
	write("interfaces: {eth1: {gateway: [10.0.1.9]}}\n")
	s.same("a broken file", func() { hup <- syscall.SIGHUP })
	if st := s.status(); st.InSync ||
		!has(st.Wrong, `lasthop.yaml:1: interfaces.eth1: unknown key "gateway"`) {
		t.Errorf("in sync %t, wrong %q", st.InSync, st.Wrong)
	}
	write("interfaces: {eth1: {gateways: [10.0.1.9]}}\n")
	hup <- syscall.SIGHUP
	s.Until("the mended file", func() bool {
		return has(s.owned(), "default via 10.0.1.9 dev eth1") && s.status().InSync
	})
}

// TestRunNotifies: the daemon tells systemd that it is ready, its status, that
// it lives, that it reads its settings, how long a reload may take, and that it
// ends.
func TestRunNotifies(t *testing.T) {
	s := newServer(t)
	l, err := net.ListenUnixgram("unixgram",
		&net.UnixAddr{Name: s.File("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", s.File("notify"))
	t.Setenv("WATCHDOG_USEC", "90000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	heard := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var all []string
		for {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("no %q; heard %q", want, all)
			}
			all = append(all, string(buf[:n]))
			if strings.HasPrefix(string(buf[:n]), want) {
				return
			}
		}
	}
	hup := make(chan os.Signal)
	s.start()
	s.d.calls <- func() { s.d.reloads = hup }
	heard("STATUS=in sync: 1 listeners, 1 with a path, 0 unresolved, ")
	heard("READY=1")
	for range 3 {
		heard("WATCHDOG=1")
	}
	s.Replace("events {")
	heard("STATUS=" + s.File("nginx.conf") + ":1: ")
	hup <- syscall.SIGHUP
	heard("RELOADING=1\nMONOTONIC_USEC=")
	heard("READY=1")
	_ = s.socket().Reload("") // says that nginx.conf is broken, or nothing
	heard("EXTEND_TIMEOUT_USEC=130000000")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	heard("STOPPING=1")
}

// TestRunEnds: the end is no failure, whatever the daemon is doing.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	for range 10 {
		s := newServer(t)
		s.start()
		busy := make(chan struct{})
		s.d.calls <- func() {
			close(busy)
			for range 20 {
				s.d.sync()
			}
		}
		<-busy
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
	}
}
