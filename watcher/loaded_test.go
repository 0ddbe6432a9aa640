package watcher

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestLoadedAt: a start and a reload count, the crash of a worker does not.
func TestLoadedAt(t *testing.T) {
	const slack = 100 * time.Millisecond
	n := newNginx(t)
	before := time.Now()
	m := n.start()
	started, ok := LoadedAt("/proc", m.PID)
	if !ok || started.Before(before.Add(-slack)) || started.After(time.Now()) {
		t.Errorf("after the start at %v: %v, %t", before, started, ok)
	}
	later := started.Add(3 * slack)
	waitFor(t, "a crash at leisure", func() bool { return time.Now().After(later) })
	workers := workersOf(m.PID)
	n.signal(workers[1], syscall.SIGKILL)
	waitFor(t, "another worker", func() bool {
		now := workersOf(m.PID)
		return len(now) == 2 && !slices.Contains(now, workers[1])
	})
	if at, ok := LoadedAt("/proc", m.PID); !ok || at.Sub(started).Abs() > slack {
		t.Errorf("after a crash: %v, %t, want %v", at, ok, started)
	}
	before = time.Now()
	n.signal(m.PID, syscall.SIGHUP)
	waitFor(t, "the reload", func() bool {
		now := workersOf(m.PID)
		return len(now) == 2 && !slices.Contains(now, workers[0])
	})
	if at, ok := LoadedAt("/proc", m.PID); !ok || at.Before(before.Add(-slack)) ||
		at.After(time.Now()) {
		t.Errorf("after a reload at %v: %v, %t", before, at, ok)
	}
	if at, ok := LoadedAt("/proc", 1<<30); ok {
		t.Errorf("a master that does not run has loaded at %v", at)
	}
}
