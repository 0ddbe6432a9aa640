package daemon

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/routing"
)

// says reports whether the status has a finding whose message says something.
func (s *server) says(code, text string) bool {
	return slices.ContainsFunc(s.status().Plan.Findings, func(f routing.Finding) bool {
		return string(f.Code) == code && strings.Contains(f.Message, text)
	})
}

// serves reports whether a socket is open at an address of the namespace.
func (s *server) serves(at string) bool {
	list, err := s.kernel.Sockets()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range list {
		if o.Local.String() == at {
			return true
		}
	}
	return false
}

// keeps wants that replies of eth2's subnet have their way for a while, and
// that NGINX serves it.
func (s *server) keeps(what string) {
	s.t.Helper()
	for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
		if !has(s.owned(), "from 10.0.2.") {
			s.t.Fatalf("%s: what NGINX serves has lost its way", what)
		}
		pause(s.t.Context(), 10*time.Millisecond)
	}
	// a list of many sockets may lack one while other ones close
	s.Until(what+", with a socket: else it shows nothing",
		func() bool { return s.serves("10.0.2.100:80") })
}

// TestRunEditedWhileLoading: an edit between NGINX's reading and its fork is
// not loaded, although it is older than the workers.
func TestRunEditedWhileLoading(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		write := func(try int, more string) {
			var b strings.Builder
			for n := range 3000 { // so that NGINX takes time to read
				fmt.Fprintf(&b, "listen 127.0.%d.1:%d; ", 1+try, 10000+n)
			}
			s.Conf("listen 127.0.0.1:80;" + more + b.String())
		}
		const both = "listen 10.0.1.100:80; listen 10.0.2.100:80;"
		write(0, both)
		s.StartNginx()
		s.start(detector)
		hit := false
		for try := 1; try < 10 && !hit; try++ {
			write(try, both)
			s.quiet()
			before := s.workers()
			s.Reload()
			s.Until("NGINX to have read", func() bool {
				return s.serves(fmt.Sprintf("127.0.%d.1:10000", 1+try))
			})
			write(try, "listen 10.0.1.100:80;")
			hit = slices.Equal(before, s.workers())
			s.keeps("an edit")
			s.Until("it to be said that the disk is not loaded",
				func() bool { return s.says("not-loaded", "") })
			write(try, both)
			s.Reload()
			s.Until("peace", func() bool { return !s.says("not-loaded", "") })
		}
		if !hit {
			t.Skip("no edit fell between NGINX's reading and its fork")
		}
	})
}

// TestRunUnreadableLoad: if the files cannot be read at a load, the daemon
// installs what NGINX listens on, and removes nothing before the next load.
func TestRunUnreadableLoad(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.Conf("listen 10.0.1.100:80;")
		s.StartNginx()
		s.start(detector)
		s.Conf("listen 10.0.2.100:80;")
		s.quiet()
		release := s.hold()
		s.Reload()
		s.Until("the load", func() bool { return s.serves("10.0.2.100:80") })
		s.Until("the old socket to go", func() bool { return !s.serves("10.0.1.100:80") })
		s.Replace("")
		release()
		s.Until("the way of what NGINX serves", func() bool {
			return has(s.owned(), "from 10.0.2.")
		})
		s.Conf("listen 10.0.2.100:80;")
		s.keeps("files that are there again")
		if !has(s.owned(), "from 10.0.1.") || !s.says("not-loaded", "") {
			t.Errorf("something is removed that may be loaded: %q", s.owned())
		}
		s.Reload()
		s.Until("certainty", func() bool {
			return !has(s.owned(), "from 10.0.1.") && !s.says("not-loaded", "")
		})
	})
}

// hold keeps the loop busy until release is called.
func (s *server) hold() (release func()) {
	busy, done := make(chan struct{}), make(chan struct{})
	s.d.calls <- func() { close(busy); <-done }
	<-busy
	return func() { close(done) }
}

// TestRunUpgradeBack: a new binary with an edited file goes back, and then all
// workers of the old master crash: it forks new ones with what it has loaded.
func TestRunUpgradeBack(t *testing.T) {
	t.Parallel()
	eachDetector(t, func(t *testing.T, detector func(*Options)) {
		s := newServer(t)
		s.Conf("listen 10.0.2.100:80;")
		old := s.StartNginx()
		s.start(detector)
		s.Conf("listen 10.0.1.100:80;")
		s.Signal(syscall.SIGUSR2)
		s.Until("both masters' listeners", func() bool {
			return len(s.status().Masters) == 2 && has(s.owned(), "from 10.0.1.")
		})
		s.keeps("both run")
		s.Signal(syscall.SIGQUIT) // the pid file names the new one
		s.Until("the way back", func() bool {
			return s.PID() == old && len(s.status().Masters) == 1 &&
				!has(s.owned(), "from 10.0.1.")
		})
		s.keeps("the way back")
		for _, pid := range s.workers() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			s.Until("a successor", func() bool {
				w := s.workers()
				return len(w) == 2 && !slices.Contains(w, pid)
			})
		}
		if s.keeps("crashes"); !s.says("not-loaded", "has not loaded the configuration") {
			t.Errorf("what is on disk is not loaded: %v", s.status().Plan.Findings)
		}
	})
}

// TestRunMasterKilled: workers whose master was killed serve on. What they
// listen on stays when the file loses it, and goes with them.
func TestRunMasterKilled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	master := s.StartNginx()
	s.start()
	workers := s.workers()
	_ = syscall.Kill(master, syscall.SIGKILL)
	defer func() {
		for _, pid := range workers {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	s.Until("the end of the master", func() bool { return s.status().Masters[0].PID == 0 })
	s.Conf("listen 10.0.1.100:80;")
	s.Until("the finding", func() bool { return s.says("not-loaded", "10.0.2.100:80") })
	s.keeps("a master was killed")
	for _, pid := range workers {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.Until("the way to go", func() bool {
		return !has(s.owned(), "from 10.0.2.") && !s.says("not-loaded", "")
	})
	_ = os.Remove(s.File("nginx.pid"))
}

// TestRunAnothersSocket: a socket that another program opens where NGINX no
// longer listens keeps nothing.
func TestRunAnothersSocket(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.StartNginx()
	s.start()
	c := s.askHalf("10.0.2.100:80")
	defer c.Close()
	var l net.Listener
	var err error
	s.Conf("listen 10.0.1.100:80;")
	s.Reload()
	s.Until("NGINX's socket to go", func() bool { return !s.serves("10.0.2.100:80") })
	s.Do(func() { l, err = net.Listen("tcp4", "10.0.2.100:80") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.keeps("a connection lives on")
	c.Close()
	s.Until("the way to go", func() bool { return !has(s.owned(), "from 10.0.2.") })
	if s.says("not-loaded", "") {
		t.Errorf("%v", s.status().Plan.Findings)
	}
}

// TestRunUnloadedAtStart: a daemon that starts while NGINX has edited but
// unloaded files installs what NGINX serves, too.
func TestRunUnloadedAtStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.2.100:80;")
	s.StartNginx()
	pause(t.Context(), 200*time.Millisecond)
	s.Conf("listen 10.0.1.100:80;")
	s.start()
	s.keeps("an edit before the start")
	if !s.says("not-loaded", "nginx.conf was changed after") {
		t.Errorf("%v", s.status().Plan.Findings)
	}
	if _, err := s.d.board.request(t.Context(), request{}); err != nil {
		t.Fatal(err)
	}
	s.keeps("lasthop apply")
	s.Reload()
	s.Until("the removed listener's way to go", func() bool {
		return !has(s.owned(), "from 10.0.2.") && !s.says("not-loaded", "")
	})
}
