// Package procfs reads what the kernel says about processes, in /proc/PID.
//
// Any user can start a process, give it any name and a title of megabytes, and
// let it open many files. So no read takes more of a file than 64 KiB, and none
// waits for the process. A process can end between two reads: each function
// returns an error then, which is fs.ErrNotExist or ESRCH. Without
// CAP_SYS_PTRACE the namespaces and files of other users' processes are
// fs.ErrPermission.
package procfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where proc is mounted. "" is /proc; tests make a tree of their own.
type Dir string

// Path returns the path of a file of a process, "status" or "ns/net".
func (d Dir) Path(pid int, name string) string {
	return filepath.Join(d.dir(), strconv.Itoa(pid), name)
}

// Self returns the path of a file of the calling thread, "ns/mnt".
func (d Dir) Self(name string) string { return filepath.Join(d.dir(), "thread-self", name) }

func (d Dir) dir() string { return cmp.Or(string(d), "/proc") }

// maxRead bounds what is read of one file. The kernel's own answers are shorter
// in all that is used here; of a title this is the start.
const maxRead = 64 << 10

// Read returns a file of a process, or its first 64 KiB.
func (d Dir) Read(pid int, name string) ([]byte, error) {
	f, err := os.Open(d.Path(pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRead))
}

// Processes returns the ids of all processes that can be seen, in ascending
// order.
func (d Dir) Processes() (pids []int, err error) {
	list, err := names(d.dir())
	for _, name := range list {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Stat is what PID/stat says.
type Stat struct {
	Parent  int    // its process id: field 4
	Started uint64 // clock ticks between boot and its start, of 10 ms: field 22
}

// Stat returns the parent and the start time of a process.
func (d Dir) Stat(pid int) (Stat, error) {
	data, err := d.Read(pid, "stat")
	if err != nil {
		return Stat{}, err
	}
	// The name in field 2 may hold spaces and parentheses.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return Stat{}, fmt.Errorf("read %s: too short", d.Path(pid, "stat"))
	}
	parent, err1 := strconv.Atoi(fields[1])
	started, err2 := strconv.ParseUint(fields[19], 10, 64)
	return Stat{parent, started}, errors.Join(err1, err2)
}

// Comm returns the name of a process, which the kernel cuts to 15 bytes.
func (d Dir) Comm(pid int) (string, error) {
	data, err := d.Read(pid, "comm")
	return strings.TrimSuffix(string(data), "\n"), err
}

// Cmdline returns the arguments of a process with a NUL behind each, or the
// title that it gave itself. It is "" for the kernel's own.
func (d Dir) Cmdline(pid int) (string, error) {
	data, err := d.Read(pid, "cmdline")
	return string(data), err
}

// NS names a namespace: two are the same if and only if they are equal.
type NS struct{ Dev, Ino uint64 }

// NetNS returns the network namespace of a process.
func (d Dir) NetNS(pid int) (NS, error) { return d.NetNSAt(d.Path(pid, "ns/net")) }

// NetNSAt returns the network namespace that a path names, as /run/netns/blue
// does; "" is that of the calling thread.
func (d Dir) NetNSAt(path string) (NS, error) {
	var st unix.Stat_t
	path = cmp.Or(path, d.Self("ns/net"))
	if err := unix.Stat(path, &st); err != nil {
		return NS{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return NS{st.Dev, st.Ino}, nil
}

// Sockets returns the inodes of the sockets that a process has open, as
// sock_diag(7) numbers them. A file that is closed meanwhile is left out.
func (d Dir) Sockets(pid int) (inodes []uint32, err error) {
	list, err := names(d.Path(pid, "fd"))
	for _, name := range list {
		var inode uint32
		link, failed := os.Readlink(d.Path(pid, "fd/"+name))
		if errors.Is(failed, os.ErrPermission) {
			err = failed // who may list the names may still not see what they are
		}
		if n, _ := fmt.Sscanf(link, "socket:[%d]", &inode); n == 1 {
			inodes = append(inodes, inode)
		}
	}
	return inodes, err
}
