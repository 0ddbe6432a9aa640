package watcher

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/procfs"
)

// masters are the masters that the watcher follows.
type masters struct {
	proc    procfs.Dir
	queue   *queue
	all     map[int]*followed // by process id
	exitC   chan int          // those that have ended
	ended   <-chan struct{}   // closed when Run has ended
	readers *sync.WaitGroup   // callers that wait for the ends
}

// followed is one master.
type followed struct {
	Master
	children *children // nil if they cannot be read
	workers  generation
	pidfd    *os.File // nil if only a look notices its end
	gone     bool
	blind    bool // it may have loaded its configuration unseen
}

// follow replaces the masters that are followed.
func (s *masters) follow(list []Master) {
	old := s.all
	s.all = make(map[int]*followed, len(list))
	for _, m := range list {
		f := old[m.PID]
		if f == nil || f.Process != m.Process || f.gone {
			f = &followed{Master: m}
		}
		f.PIDFile = m.PIDFile
		s.all[m.PID] = f
	}
	for pid, f := range old {
		if s.all[pid] != f {
			f.close()
		}
	}
	s.begin()
}

// begin does for each master what is left to do to follow it. A master that has
// ended meanwhile gives an event.
func (s *masters) begin() {
	var failed error
	for _, pid := range s.pids() {
		err := s.start(s.all[pid])
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			s.exited(pid)
		} else if failed == nil {
			failed = err
		}
	}
	s.queue.trouble(aboutProcesses, failed)
}

func (s *masters) pids() []int { return slices.Sorted(maps.Keys(s.all)) }

func (s *masters) start(f *followed) error {
	if f.gone {
		return nil
	}
	if f.children == nil {
		c, list, err := openChildren(s.proc, f.PID)
		if err != nil {
			f.blind = true
			return err
		}
		f.children = c
		f.workers.begin(list, slices.DeleteFunc(slices.Clone(list), func(p Process) bool {
			_, ending := isWorker(s.proc, p)
			return !ending
		}))
		if f.blind {
			s.queue.say(Event{Kind: Reloaded, PID: f.PID, At: time.Now()})
		}
	}
	var err error
	if f.pidfd == nil {
		f.pidfd, err = s.awaitExit(f.PID)
	}
	return err
}

func (f *followed) close() {
	if f.children != nil {
		f.children.close()
	}
	if f.pidfd != nil {
		f.pidfd.Close()
	}
}

// awaitExit reports to exitC when the process ends. Closing the file ends the
// wait.
func (s *masters) awaitExit(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil, nil // before Linux 5.10; the look at the children finds out too
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), filepath.Join("pidfd", fmt.Sprint(pid)))
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	s.readers.Go(func() {
		err := conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil {
			return // closed
		}
		select {
		case s.exitC <- pid:
		case <-s.ended:
		}
	})
	return file, nil
}

// look looks at the children of a master. at is when they changed.
func (s *masters) look(m *followed, at time.Time) {
	if m.gone || m.children == nil {
		return
	}
	list, err := m.children.list()
	if err != nil {
		s.exited(m.PID)
		return
	}
	v := m.workers.observe(ticks(), list, asked{holds: func() bool {
		return m.PIDFile != "" && exists(m.PIDFile+oldbin)
	}, serves: func(p Process) bool { serves, _ := isWorker(s.proc, p); return serves }})
	switch {
	case v.loads > 0:
		s.queue.say(Event{Kind: Reloaded, PID: m.PID, At: at})
	case v.respawned:
		s.queue.say(Event{Kind: Respawned, PID: m.PID, At: at})
	}
	if v.drained {
		s.queue.say(Event{Kind: Drained, PID: m.PID, At: at})
	}
	if v.held {
		s.queue.mastersChanged(at) // the child may be the new master
	}
}

// noticed looks at the children of a master that has a new one, or one less.
func (s *masters) noticed(f fork) {
	m := s.all[f.master]
	if m == nil {
		return
	}
	if f.ended != 0 && m.children != nil {
		m.children.dead[f.ended] = true
	}
	s.look(m, f.at)
}

// exited reports once that a master has ended.
func (s *masters) exited(pid int) {
	if m := s.all[pid]; m != nil && !m.gone {
		m.gone = true
		s.queue.say(Event{Kind: Masters, At: time.Now()})
	}
}

// workers returns the children of a master as they are now. During an upgrade
// the new master is a child of the old one, but no worker.
func (s *masters) workers(m *followed, now time.Time) Workers {
	s.look(m, now)
	workers := func(list []Process) []Process {
		return slices.DeleteFunc(slices.Clone(list),
			func(p Process) bool { return s.all[p.PID] != nil })
	}
	return Workers{workers(m.workers.workers), workers(m.workers.old)}
}

// alive reports whether a process still runs, as far as its master tells.
func (s *masters) alive(p Process) bool {
	stat, err := s.proc.Stat(p.PID)
	if err != nil || stat.Started != p.Started {
		return false
	}
	m := s.all[stat.Parent]
	return m == nil || m.gone || m.children == nil || slices.Contains(m.workers.workers, p) ||
		slices.Contains(m.workers.old, p)
}

func (s *masters) close() {
	for _, m := range s.all {
		m.close()
	}
}
