package watcher

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// children reads the children of one master; the file is kept open, since that
// makes a look cost 2 us.
type children struct {
	proc string
	pid  int
	file *os.File
	buf  []byte
	seen map[int]uint64 // start times: those of known children are not read again
	// children that have ended and that their master has not taken note of
	// yet
	dead map[int]bool
}

func openChildren(proc string, pid int) (*children, error) {
	f, err := os.Open(fmt.Sprintf("%s/%d/task/%d/children", proc, pid, pid))
	if err != nil {
		return nil, fmt.Errorf("look at the children of NGINX %d: %w", pid, err)
	}
	return &children{proc: proc, pid: pid, file: f, buf: make([]byte, 64<<10),
		seen: map[int]uint64{}, dead: map[int]bool{}}, nil
}

// list returns the children. The error means that the
// master has ended.
func (c *children) list() ([]Process, error) {
	n, err := unix.Pread(int(c.file.Fd()), c.buf, 0)
	if err != nil {
		return nil, err
	}
	var out []Process
	seen, dead := make(map[int]uint64, len(c.seen)), map[int]bool{}
	for _, word := range bytes.Fields(c.buf[:n]) {
		pid, err := strconv.Atoi(string(word))
		if err != nil {
			return nil, fmt.Errorf("read the children of NGINX: %w", err)
		}
		if c.dead[pid] {
			dead[pid] = true
			continue
		}
		started, ok := c.seen[pid]
		if !ok {
			if started, ok = startTime(c.proc, pid); !ok {
				continue // it has ended since
			}
		}
		seen[pid] = started
		out = append(out, Process{pid, started})
	}
	out = append(out, c.missed(seen)...)
	c.seen, c.dead = seen, dead
	return out, nil
}

// missed returns children that the file leaves out and that still run, and adds
// them to seen: the kernel may skip some while others end (proc(5)). One that
// seems to have ended, and then a fork, would look like a crash.
func (c *children) missed(seen map[int]uint64) (out []Process) {
	for pid, old := range c.seen {
		if _, ok := seen[pid]; ok || c.dead[pid] {
			continue
		}
		if parent, started, ok := stat(c.proc, pid); ok && parent == c.pid &&
			started == old {
			seen[pid] = old
			out = append(out, Process{pid, old})
		}
	}
	return out
}

func (c *children) close() { c.file.Close() }

// startTime reads field 22 of stat.
func startTime(proc string, pid int) (uint64, bool) {
	_, started, ok := stat(proc, pid)
	return started, ok
}

// stat reads the parent (field 4) and the start time (field 22) of a process;
// the name in field 2 may hold spaces and parentheses.
func stat(proc string, pid int) (parent int, started uint64, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if err != nil || len(fields) < 20 {
		return 0, 0, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	started, err2 := strconv.ParseUint(fields[19], 10, 64)
	return parent, started, err1 == nil && err2 == nil
}

// LoadedAt says when a master loaded the configuration that its workers run
// with, from what can be seen now: when the first of the workers was forked
// that serve. It is as exact as start times are, to 10 ms. proc is where proc
// is mounted; ok is false where there is no such worker.
func LoadedAt(proc string, master int) (at time.Time, ok bool) {
	c, err := openChildren(proc, master)
	if err != nil {
		return at, false
	}
	defer c.close()
	processes, err := c.list()
	if err != nil {
		return at, false
	}
	processes = slices.DeleteFunc(processes, func(p Process) bool { return !serves(proc, p) })
	if len(processes) == 0 {
		return at, false
	}
	first := slices.MinFunc(processes, func(a, b Process) int {
		return cmp.Compare(a.Started, b.Started)
	})
	return first.Time(), true
}

// serves says whether a child is a worker that takes connections.
func serves(proc string, p Process) bool {
	title, err := os.ReadFile(fmt.Sprintf("%s/%d/cmdline", proc, p.PID))
	return err == nil && bytes.HasPrefix(title, []byte("nginx: worker process")) &&
		!bytes.Contains(title, []byte("is shutting down"))
}

// shuttingDown says whether a worker's title is that of one that only ends its
// connections.
func shuttingDown(proc string, p Process) bool {
	title, err := os.ReadFile(fmt.Sprintf("%s/%d/cmdline", proc, p.PID))
	return err == nil && bytes.Contains(title, []byte("worker process is shutting down"))
}

// ticks is the time since boot in the unit of start times.
func ticks() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return uint64(t.Nano() / int64(tick))
}

// tick is the unit of start times: USER_HZ is 100 on every architecture that
// matters.
const tick = 10 * time.Millisecond
