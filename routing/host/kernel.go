// Package host reads and writes the machine: links, addresses, routes, rules,
// neighbours, sysctls and DHCP leases of one network namespace as a
// routing.Host, and the writes that routing.Execute asks for.
//
// It speaks rtnetlink through vishvananda/netlink, and goes around what v1.3.1
// of it loses: rules are dumped and written here (RuleList knows no action, no
// l3mdev and no selector it was not taught, RuleAdd drops suppress_* for tables
// from 256 on), and so are routes (router preference, next hops by id, every
// table in one dump). Decoding is pure: bytes in, values out. Several sockets
// are used: the strict check that makes the kernel filter route dumps makes it
// refuse the library's requests.
//
// The kernel's habits are evened out here and nowhere else: links by name, IPv6
// metric 0 as 1024, no hops for reject routes, multipath with weights from 1.
// Whatever is not modelled ends in a field named Opaque, so that nothing that
// is unknown is taken to be absent.
package host

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Kernel is the routing of one network namespace. It is not safe for concurrent
// use. Its sockets stay in the namespace, so no thread need be pinned.
type Kernel struct {
	// Fault is for tests: it is called before each request with its message
	// type (RTM_*), and an error it returns is returned in the request's
	// place.
	Fault func(kind int) error

	ns     netns.NsHandle // kept open: a process's number may become another's
	inode  uint64
	own    bool
	handle *netlink.Handle  // links, addresses, neighbours
	raw    *nl.SocketHandle // the rest, with the kernel's words on errors
	// dumps of the rest, without: the library panics on the words of a dump
	// that fails
	dumps  *nl.SocketHandle
	writes int
	tables map[uint32]bool // that were read or written, for ReadOwned
	echoes echoes
	buffer int // bytes for events, 0 for eventBuffer
}

// Open opens a network namespace: "" is our own, else a NAME below /run/netns,
// a PID, or a PATH (with a slash).
func Open(name string) (*Kernel, error) {
	path := cmp.Or(NamespacePath(name), ours)
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	k := &Kernel{ns: ns, tables: map[uint32]bool{}}
	if err := k.open(); err != nil {
		k.Close()
		return nil, fmt.Errorf("open rtnetlink in %s: %w", path, err)
	}
	return k, nil
}

// ours is the namespace of the calling thread, which is the process's unless a
// caller pins threads.
const ours = "/proc/thread-self/ns/net"

// NamespacePath is the file of a namespace as Open names it; "" stays "".
func NamespacePath(name string) string {
	if name == "" || strings.Contains(name, "/") {
		return name
	}
	if _, err := strconv.Atoi(name); err == nil {
		return "/proc/" + name + "/ns/net"
	}
	return "/run/netns/" + name
}

func (k *Kernel) open() error {
	own, err := netns.GetFromPath(ours)
	if err != nil {
		return err
	}
	defer own.Close()
	k.own = k.ns.Equal(own)
	var stat unix.Stat_t
	if err := unix.Fstat(int(k.ns), &stat); err != nil {
		return err
	}
	k.inode = stat.Ino
	return k.Reopen()
}

// Reopen opens the sockets anew, in the same namespace. After an error the old
// ones are still there.
func (k *Kernel) Reopen() error {
	handle, err := netlink.NewHandleAt(k.enter(), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	raw, err := k.socket()
	if err != nil {
		handle.Close()
		return err
	}
	dumps, err := k.socket()
	if err != nil {
		handle.Close()
		raw.Close()
		return err
	}
	port, err := raw.Socket.GetPid()
	if err := errors.Join(err, handle.SetSocketTimeout(timeout),
		raw.Socket.SetExtAck(true)); err != nil {
		handle.Close()
		raw.Close()
		dumps.Close()
		return err
	}
	k.echoes.sender(port)
	k.closeSockets()
	k.handle, k.raw, k.dumps = handle, raw, dumps
	return nil
}

// timeout bounds the wait for an answer of the kernel.
const timeout = 10 * time.Second

// socket opens a socket whose dumps the kernel filters.
func (k *Kernel) socket() (*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(k.enter(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// A kernel before 4.20 lacks it, and then sends more than it is asked
	// for.
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	wait := unix.NsecToTimeval(int64(timeout))
	if err := errors.Join(s.SetSendTimeout(&wait), s.SetReceiveTimeout(&wait)); err != nil {
		s.Close()
		return nil, err
	}
	return &nl.SocketHandle{Socket: s}, nil
}

// enter is the namespace to enter for a socket. Entering one needs
// CAP_SYS_ADMIN, even one's own; reading needs nothing.
func (k *Kernel) enter() netns.NsHandle {
	if k.own {
		return netns.None()
	}
	return k.ns
}

// Inode identifies the network namespace on this machine: it names the lock.
func (k *Kernel) Inode() uint64 { return k.inode }

// Own says whether the namespace is the process's own, however it was named, so
// that files such as DHCP leases speak of it.
func (k *Kernel) Own() bool { return k.own }

// Writes returns how many messages that change something were sent so far.
func (k *Kernel) Writes() int { return k.writes }

// Close releases the sockets and the namespace. Subscriptions go on until their
// context ends.
func (k *Kernel) Close() {
	k.ns.Close()
	k.closeSockets()
}

func (k *Kernel) closeSockets() {
	if k.handle != nil {
		k.handle.Close()
	}
	for _, s := range []*nl.SocketHandle{k.raw, k.dumps} {
		if s != nil {
			s.Close()
		}
	}
}

// dumpTries bounds how often a dump that changes interrupted is taken anew.
const dumpTries = 20

// dump asks for all objects of a kind and returns the messages.
func (k *Kernel) dump(kind, reply int, header []byte) ([][]byte, error) {
	return untorn(func() ([][]byte, error) {
		return k.request(kind, unix.NLM_F_DUMP, reply, header)
	})
}

// untorn repeats a dump that a change interrupted: its result may lack objects
// or hold them twice.
func untorn[T any](dump func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		out, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpTries {
			return out, err
		}
	}
}

func (k *Kernel) request(kind, flags, reply int, payload []byte) ([][]byte, error) {
	if err := k.fault(kind); err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.raw}
	if flags == unix.NLM_F_DUMP {
		req.Sockets[unix.NETLINK_ROUTE] = k.dumps
	}
	req.AddRawData(payload)
	return req.Execute(unix.NETLINK_ROUTE, uint16(reply))
}

func (k *Kernel) fault(kind int) error {
	if k.Fault == nil {
		return nil
	}
	return k.Fault(kind)
}

// list is a dump by the library.
func list[T any](k *Kernel, kind int, dump func() ([]T, error)) ([]T, error) {
	return untorn(func() ([]T, error) {
		if err := k.fault(kind); err != nil {
			return nil, err
		}
		return dump()
	})
}
