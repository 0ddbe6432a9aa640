package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"lasthop/internal/daemon"
	"lasthop/internal/nstest"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
)

// server is an NGINX host with three uplinks in a namespace of its own, a real
// NGINX in it, and the daemon in this process.
type server struct {
	*nstest.Server
	t      testing.TB
	kernel *host.Kernel // the test's own eyes
	log    *nstest.Log  // the daemon's
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
	s := &server{Server: nstest.NewServer(t), t: t, log: &nstest.Log{}}
	var err error
	if s.kernel, err = host.Open(s.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kernel.Close)
	return s
}

// start starts the daemon and waits for its first sync. It ends with the test,
// or with end.
func (s *server) start() {
	s.t.Helper()
	k, err := host.Open(s.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		defer k.Close()
		ended <- daemon.Run(ctx, daemon.Options{Kernel: k, NetNS: s.Path,
			RunDir: s.File("run"),
			Log:    s.log,
			Flags:  settings.Flags{Confs: []string{s.File("nginx.conf")}}})
	}()
	s.end = sync.OnceValue(func() error { cancel(); return <-ended })
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

// status asks the daemon; it is zero if none answers.
func (s *server) status() report.Status {
	st, _ := daemon.Client{Socket: daemon.SocketPath(s.File("run"), s.kernel.Inode())}.Status()
	return st
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

func has(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, part) })
}
