package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/internal/settings"
	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/watcher"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "lasthop-dying" {
		dying()
	}
	if filepath.Base(os.Args[0]) == "lasthop-hostile" {
		hostile()
	}
	code := nstest.Main(m)
	os.RemoveAll(programDir)
	os.Exit(code)
}

// server is an NGINX host with three uplinks in a namespace of its own, a real
// NGINX in it, and the daemon in this process.
type server struct {
	*nginxHost
	t      testing.TB
	kernel *host.Kernel // for the test itself
	d      *daemon
	log    *nstest.Log
	end    func() error
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := bareServer(t)
	s.Uplinks()
	s.Conf("listen 10.0.1.100:80;")
	return s
}

// bareServer is a server without links and without nginx.conf.
func bareServer(t testing.TB) *server {
	t.Helper()
	s := &server{nginxHost: newNginxHost(t), t: t, log: &nstest.Log{}}
	var err error
	if s.kernel, err = host.Open(s.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kernel.Close)
	return s
}

// options are those of a daemon of the server.
func (s *server) options() Options {
	return Options{NetNS: s.Path, RunDir: s.File("run"), Log: s.log,
		Flags: settings.Flags{Confs: []string{s.File("nginx.conf")}}}
}

// start starts the daemon and waits for its first sync. It ends with the test,
// or with end.
func (s *server) start(change ...func(*Options)) {
	s.t.Helper()
	o := s.options()
	for _, f := range change {
		f(&o)
	}
	var err error
	if o.Kernel, err = host.Open(o.NetNS); err != nil {
		s.t.Fatal(err)
	}
	if o.LastHop != nil {
		o.Kernel.LastHop = o.LastHop
	}
	o.Kernel.GroupsFile = writer.GroupsFile(o.RunDir, o.Kernel.Inode())
	if s.d, err = open(o); err != nil {
		s.t.Fatal(err)
	}
	d := s.d
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { err := d.run(ctx); d.close(); o.Kernel.Close(); ended <- err }()
	s.end = sync.OnceValue(func() error { cancel(); return <-ended })
	s.Explain = func() string { return fmt.Sprintf("masters %+v", s.status().Masters) }
	s.t.Cleanup(func() {
		if err := s.end(); err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.t.Logf("the daemon's log:\n%s", s.log)
		}
	})
	s.Until("the first sync", func() bool { return s.status().Counts.Syncs > 0 })
}

func (s *server) status() report.Status { return s.d.board.status() }

func (s *server) host() routing.Host {
	s.t.Helper()
	h, err := s.kernel.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// owned is what lasthop owns in the kernel, as lines.
func (s *server) owned() []string {
	s.t.Helper()
	o := routing.Owned(s.host(), routing.DefaultNumbers)
	var out []string
	for _, op := range routing.Compare(routing.State{}, o).Ops() {
		out = append(out, op.String())
	}
	return out
}

// foreign is everything that is not lasthop's, as lines.
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

// quiet waits until the daemon has nothing to do: it has handled all earlier
// events.
func (s *server) quiet() report.Status {
	s.t.Helper()
	var last report.Status
	same := 0
	s.Until("peace", func() bool {
		now := s.status()
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
func eachDetector(t *testing.T, f func(*testing.T, func(*Options))) {
	for name, detector := range detectorsOf {
		t.Run(name, func(t *testing.T) {
			if name == "connector" {
				w := watcher.Open(watcher.Options{})
				if w.Detector() != "proc connector" {
					t.Skip(w.Detector())
				}
			}
			f(t, func(o *Options) { o.Watch = detector })
		})
	}
}
