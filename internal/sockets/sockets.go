// Package sockets finds the owner of the sockets that wait for clients at an
// address and port of a network namespace: NGINX, another program, or a process
// that may not be read.
//
// What NGINX serves is what its sockets listen on, whatever its files say. A
// master binds all that a configuration names before it forks workers for it,
// and then closes the further sockets of the previous one. So the sockets among
// its open files are what it has loaded, at any moment except while it reads.
// Its workers may still hold some of an earlier load. `nginx -t` binds every
// address for a moment too, but is a process of its own.
//
//	sock_diag ----+--> Look --Of--> the sockets of a master
//	/proc/PID/fd -+     |----At--> the sockets that get what comes to an address
//	                    +-Owner--> whose such a socket is
//
// The socket of a wildcard does not show the addresses that a configuration
// names in addition: `listen 80; listen 10.0.0.5:80` opens only *:80.
package sockets

import (
	"cmp"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"lasthop/internal/procfs"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// Owner is the owner of a socket.
type Owner int

const (
	// Nobody means that there is no socket.
	Nobody Owner = iota
	// Another is another program, or another NGINX.
	Another
	// Unknown is a socket whose owner may not be read: it may be NGINX's.
	Unknown
	NGINX
)

// Key is where a socket listens. The wildcards are 0.0.0.0 and ::.
type Key struct {
	Addr      netip.Addr
	Port      uint16
	Transport routing.Transport
}

// Compare orders keys: by address, port and transport.
func (k Key) Compare(o Key) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.Transport, o.Transport))
}

// KeyOf returns where a socket listens.
func KeyOf(s host.Socket) Key { return Key{s.Local.Addr(), s.Local.Port(), s.Transport} }

// Look is what the kernel reported at one moment, and what it reports of
// processes later.
type Look struct {
	proc    procfs.Dir
	at      map[Key][]host.Socket
	masters []int
	of      map[int][]host.Socket // of each master whose files could be read
	holders map[uint32][]int      // the processes of each socket, masters first
	scanned bool                  // holders has all processes
}

// Lister lists the sockets of a network namespace that wait for clients:
// host.Kernel.
type Lister interface {
	Sockets() ([]host.Socket, error)
}

// maxFiles is how many sockets of a process are looked at: there may be more
// where there are as many.
const maxFiles = 1 << 16

// Take looks at the sockets of a namespace and at the files of masters.
func Take(k Lister, proc procfs.Dir, masters []int) (*Look, error) {
	list, err := k.Sockets()
	if err != nil {
		return nil, err
	}
	l := &Look{proc: proc, at: make(map[Key][]host.Socket, len(list)), masters: masters,
		of: map[int][]host.Socket{}, holders: make(map[uint32][]int, len(list))}
	by := make(map[uint32]int, len(list))
	for n, s := range list {
		by[s.Inode] = n
		if same := l.at[KeyOf(s)]; same != nil {
			l.at[KeyOf(s)] = append(same, s)
		} else {
			l.at[KeyOf(s)] = list[n : n+1 : n+1]
		}
	}
	for _, pid := range masters {
		inodes, err := proc.Sockets(pid)
		held, alone := make([]host.Socket, 0, min(len(inodes), len(list))), []int{pid}
		for _, inode := range inodes {
			n, ok := by[inode]
			if !ok {
				continue
			}
			held = append(held, list[n])
			if pids := l.holders[inode]; pids != nil {
				l.holders[inode] = append(pids, pid)
			} else {
				l.holders[inode] = alone[:1:1] // as of most
			}
		}
		if err == nil && len(inodes) < maxFiles {
			l.of[pid] = held
		}
	}
	return l, nil
}

// Of returns the sockets of a master: what it has loaded. ok is false if its
// files may not be read.
func (l *Look) Of(master int) (list []host.Socket, ok bool) {
	list, ok = l.of[master]
	return list, ok
}

// At returns the sockets that may get what comes to an address and port: those
// at just this address, and those at a wildcard.
func (l *Look) At(k Key) []host.Socket {
	out := slices.Clone(l.at[k])
	for _, wild := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		for _, s := range l.at[Key{wild, k.Port, k.Transport}] {
			if wild != k.Addr && (wild.Is4() == k.Addr.Is4() ||
				wild.Is6() && !s.IPv6Only) {
				out = append(out, s)
			}
		}
	}
	return out
}

// Owner returns the owner of a socket, with these masters as NGINX. Their
// workers count, including those that a master has left behind: they call
// themselves NGINX's. If no process shows the socket, the cgroup decides.
func (l *Look) Owner(s host.Socket, masters []int) Owner {
	if len(l.holders[s.Inode]) == 0 && !l.scanned {
		l.scan()
	}
	holders := l.holders[s.Inode]
	switch {
	case slices.ContainsFunc(holders, func(pid int) bool { return l.belongs(pid, masters) }):
		return NGINX
	case len(holders) > 0:
		return Another
	}
	var groups []uint64
	for _, pid := range masters {
		if id := cgroup(l.proc, pid); id != 0 {
			groups = append(groups, id)
		}
	}
	switch {
	case s.Cgroup == 0 || len(groups) == 0:
		return Unknown
	case slices.Contains(groups, s.Cgroup):
		return NGINX
	}
	return Another
}

// belongs reports whether a process is one of the masters, or a worker of
// theirs or of a dead master.
func (l *Look) belongs(pid int, masters []int) bool {
	if slices.Contains(l.masters, pid) {
		return slices.Contains(masters, pid)
	}
	title, err := l.proc.Cmdline(pid)
	if err != nil || !strings.HasPrefix(title, "nginx: ") {
		return false
	}
	stat, err := l.proc.Stat(pid)
	return err != nil || !slices.Contains(l.masters, stat.Parent) ||
		slices.Contains(masters, stat.Parent)
}

// scan looks at all processes: a host has many, so it is asked only about
// sockets that no master has.
func (l *Look) scan() {
	l.scanned = true
	pids, _ := l.proc.Processes()
	_ = Holders(l.proc, pids, func(inode uint32, pid int) {
		if !slices.Contains(l.holders[inode], pid) {
			l.holders[inode] = append(l.holders[inode], pid)
		}
	})
}

// maxSockets is how many open sockets of all processes are looked at.
const maxSockets = 1 << 20

// Holders visits the open sockets of processes, all of those that may be looked
// at. The error is about one that may not be, or whose files could not be
// listed; a process that has ended has none.
func Holders(proc procfs.Dir, pids []int, visit func(inode uint32, pid int)) (err error) {
	looked := 0
	for _, pid := range pids {
		inodes, failed := proc.Sockets(pid)
		if looked += len(inodes); looked > maxSockets {
			return errors.New("too many sockets are open")
		}
		if failed != nil && !errors.Is(failed, fs.ErrNotExist) &&
			!errors.Is(failed, unix.ESRCH) {
			err = failed
		}
		for _, inode := range inodes {
			visit(inode, pid)
		}
	}
	return err
}

// cgroupRoots are where cgroup v2 is mounted: alone, or next to v1.
var cgroupRoots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// cgroup returns the inode of the cgroup (v2) that a process is in, 0 if it
// cannot be told.
func cgroup(proc procfs.Dir, pid int) uint64 {
	data, _ := proc.Read(pid, "cgroup")
	for line := range strings.Lines(string(data)) {
		name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ok || strings.HasPrefix(name, "..") {
			continue
		}
		for _, root := range cgroupRoots {
			var fs unix.Statfs_t
			var st unix.Stat_t
			path := filepath.Join(root, name)
			if unix.Statfs(path, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC &&
				unix.Stat(path, &st) == nil {
				return st.Ino
			}
		}
	}
	return 0
}
