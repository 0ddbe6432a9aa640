// Package procfs reads what the kernel reports about processes, in /proc/PID.
//
// Any user can start a process, give it any name and a title of megabytes, and
// let it open many files. So a reader asks for the Owner first. No read takes
// more of a file than 64 KiB, of a title than 8 KiB and of the open files than
// 65,536, and no read waits for the process. A process can end between two
// reads: each function then returns an error which is fs.ErrNotExist or ESRCH.
// Without CAP_SYS_PTRACE the namespaces and files of other users' processes are
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

const (
	// of one file. All answers of the kernel that lasthop uses are shorter
	maxRead  = 64 << 10
	maxTitle = 8 << 10 // more than any NGINX is started with
	maxFiles = 1 << 16 // open files of one process that are looked at
)

// Read returns a file of a process, or its first 64 KiB.
func (d Dir) Read(pid int, name string) ([]byte, error) { return d.start(pid, name, maxRead) }

// start returns the first bytes of a file of a process.
func (d Dir) start(pid int, name string, most int64) ([]byte, error) {
	f, err := os.Open(d.Path(pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// Owner returns the real user of a process. The owner of its directory gives
// this for most processes of other users, at the price of a stat(2). Root also
// owns the directory of a process that may not be traced, whoever runs it; then
// it reads the kernel's list of the user ids. The error means that the user is
// unknown.
func (d Dir) Owner(pid int) (uid int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(d.Path(pid, ""), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: d.Path(pid, ""), Err: err}
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return int(st.Uid), nil
	}
	status, err := d.Read(pid, "status")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(status), "\nUid:\t")
	real, _, _ := strings.Cut(after, "\t")
	if uid, err = strconv.Atoi(real); err != nil {
		return 0, fmt.Errorf("read %s: no user: %w", d.Path(pid, "status"), err)
	}
	return uid, nil
}

// Processes returns the ids of all processes that can be seen, in ascending
// order.
func (d Dir) Processes() (pids []int, err error) {
	list, err := names(d.dir(), -1)
	for _, name := range list {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

// names lists a directory, or the first of its names, if most is positive.
func names(dir string, most int) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return namesIn(f, most)
}

func namesIn(dir *os.File, most int) ([]string, error) {
	list, err := dir.Readdirnames(most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, err
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
// title that it gave itself; of either the first 8 KiB. It is "" for the
// kernel's own processes.
func (d Dir) Cmdline(pid int) (string, error) {
	data, err := d.start(pid, "cmdline", maxTitle)
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

// SharesNet reports whether a process is in the network namespace of the
// calling thread. It compares the inodes of their net/dev: the kernel makes
// that file once for each network namespace, and all users may read its inode.
func (d Dir) SharesNet(pid int) (bool, error) {
	its, err := d.NetNSAt(d.Path(pid, "net/dev"))
	if err != nil {
		return false, err
	}
	own, err := d.NetNSAt(d.Self("net/dev"))
	return its == own, err
}

// Sockets returns the inodes of the sockets that a process has open, as
// sock_diag(7) numbers them. A file that is closed meanwhile is left out.
func (d Dir) Sockets(pid int) (inodes []uint32, err error) {
	dir, err := os.Open(d.Path(pid, "fd"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list, err := namesIn(dir, maxFiles)
	inodes = make([]uint32, 0, len(list))
	link := make([]byte, len("socket:[4294967295]")+1)
	for _, name := range list {
		n, failed := unix.Readlinkat(int(dir.Fd()), name, link)
		if errors.Is(failed, os.ErrPermission) {
			// a user that may list names may still not see their
			// targets
			err = &os.PathError{Op: "readlink", Path: d.Path(pid, "fd/"+name),
				Err: failed}
		}
		if inode, ok := socketInode(link[:max(n, 0)]); ok {
			inodes = append(inodes, inode)
		}
	}
	return inodes, err
}

// socketInode reads `socket:[INODE]`, the link of an open socket.
func socketInode(link []byte) (uint32, bool) {
	number, ok := bytes.CutPrefix(link, []byte("socket:["))
	number, closed := bytes.CutSuffix(number, []byte("]"))
	inode, err := strconv.ParseUint(string(number), 10, 32)
	return uint32(inode), ok && closed && err == nil
}
