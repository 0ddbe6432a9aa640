package watcher

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// children reads the children of one master; the file is kept open, since that makes a look cost 2 us.
type children struct {
	proc string
	file *os.File
	buf  []byte
	seen map[int]uint64 // start times: those of known children are not read again
}

func openChildren(proc string, pid int) (*children, error) {
	f, err := os.Open(fmt.Sprintf("%s/%d/task/%d/children", proc, pid, pid))
	if err != nil {
		return nil, fmt.Errorf("look at the children of NGINX %d: %w", pid, err)
	}
	return &children{proc: proc, file: f, buf: make([]byte, 64<<10), seen: map[int]uint64{}}, nil
}

// list returns the children. The error means that the
// master has ended.
func (c *children) list() ([]Process, error) {
	n, err := unix.Pread(int(c.file.Fd()), c.buf, 0)
	if err != nil {
		return nil, err
	}
	var out []Process
	seen := make(map[int]uint64, len(c.seen))
	for _, word := range bytes.Fields(c.buf[:n]) {
		pid, err := strconv.Atoi(string(word))
		if err != nil {
			return nil, fmt.Errorf("read the children of NGINX: %w", err)
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
	c.seen = seen
	return out, nil
}

func (c *children) close() { c.file.Close() }

// startTime reads field 22 of stat; the name in field 2 may hold spaces and parentheses.
func startTime(proc string, pid int) (uint64, bool) {
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if err != nil || len(fields) < 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[19], 10, 64)
	return n, err == nil
}

// Alive says whether the process still runs.
func (p Process) Alive() bool {
	started, ok := startTime("/proc", p.PID)
	return ok && started == p.Started
}

// shuttingDown says whether a worker's title is that of one that only ends its connections.
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
	return uint64(t.Nano() / 10e6)
}
