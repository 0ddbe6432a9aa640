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

	"lasthop/internal/procfs"
)

// children reads the children of one master; the file is kept open, since that
// makes a look cost 2 us.
type children struct {
	proc procfs.Dir
	pid  int
	file *os.File
	buf  []byte
	seen map[int]uint64 // start times: those of known children are not read again
	// children that have ended and that their master has not waited for yet
	dead map[int]bool
}

// openChildren opens the children of a master, and returns them as they are
// now.
func openChildren(proc procfs.Dir, pid int) (*children, []Process, error) {
	f, err := os.Open(proc.Path(pid, fmt.Sprintf("task/%d/children", pid)))
	if err != nil {
		return nil, nil, fmt.Errorf("look at the children of NGINX %d: %w", pid, err)
	}
	c := &children{proc: proc, pid: pid, file: f, buf: make([]byte, 64<<10),
		seen: map[int]uint64{}, dead: map[int]bool{}}
	list, err := c.list()
	if err != nil {
		c.close()
	}
	return c, list, err
}

// list returns the children; of very many, the first. The error means that the
// master has ended.
func (c *children) list() ([]Process, error) {
	n, err := unix.Pread(int(c.file.Fd()), c.buf, 0)
	if err != nil {
		return nil, err
	}
	var out []Process
	seen, dead := make(map[int]uint64, len(c.seen)), map[int]bool{}
	words := c.buf[:bytes.LastIndexByte(c.buf[:n], ' ')+1] // a full buffer may cut the last one
	for _, word := range bytes.Fields(words) {
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
			stat, err := c.proc.Stat(pid)
			if err != nil {
				continue // it has ended since
			}
			started = stat.Started
		}
		seen[pid] = started
		out = append(out, Process{pid, started})
	}
	out = append(out, c.missed(seen)...)
	c.seen, c.dead = seen, dead
	return out, nil
}

// missed returns children that the file leaves out and that still run, and adds
// them to seen: the kernel may skip some while other ones end (proc(5)). A
// child that seems to have ended, and then a fork, would look like a crash.
func (c *children) missed(seen map[int]uint64) (out []Process) {
	for pid, old := range c.seen {
		if _, ok := seen[pid]; ok || c.dead[pid] {
			continue
		}
		if stat, err := c.proc.Stat(pid); err == nil &&
			stat == (procfs.Stat{Parent: c.pid, Started: old}) {
			seen[pid] = old
			out = append(out, Process{pid, old})
		}
	}
	return out
}

func (c *children) close() { c.file.Close() }

// LoadedAt returns when a master loaded the configuration that its workers run
// with, judged by its children: when the first of the serving workers was
// forked. It is as precise as start times are, to 10 ms. proc is where proc is
// mounted; ok is false if there is no such worker.
func LoadedAt(proc procfs.Dir, master int) (at time.Time, ok bool) {
	c, list, err := openChildren(proc, master)
	if err != nil {
		return at, false
	}
	c.close()
	list = slices.DeleteFunc(list, func(p Process) bool {
		serves, _ := isWorker(proc, p)
		return !serves
	})
	if len(list) == 0 {
		return at, false
	}
	first := slices.MinFunc(list, func(a, b Process) int {
		return cmp.Compare(a.Started, b.Started)
	})
	return first.Time(), true
}

// isWorker reports whether a child is a worker that takes connections, or one
// that only ends those that it has.
func isWorker(proc procfs.Dir, p Process) (serves, ending bool) {
	title, _ := proc.Cmdline(p.PID)
	is := strings.HasPrefix(title, "nginx: worker process")
	shuts := strings.Contains(title, "is shutting down")
	return is && !shuts, is && shuts
}

// ticks is the time since boot in the unit of start times.
func ticks() uint64 { return uint64(sinceBoot() / tick) }

func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// tick is the unit of start times: USER_HZ is 100 on every architecture that
// matters.
const tick = 10 * time.Millisecond
