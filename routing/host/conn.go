package host

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// conn is the rtnetlink sockets of one network namespace. They stay in the
// namespace, so no thread has to be pinned.
type conn struct {
	// Fault is for tests: it is called before each request with its message
	// type (RTM_*), and an error that it returns replaces the request's.
	Fault func(kind int) error

	ns    netns.NsHandle // kept open: the kernel may reuse a process's number
	inode uint64
	own   bool
	sockets
	writes int
	echoes echoes
}

type sockets struct {
	handle *netlink.Handle  // links, addresses, neighbours
	raw    *nl.SocketHandle // all other requests, with the kernel's error texts
	// dumps of all other objects, without error texts: the library panics
	// on the text of a dump that fails
	dumps *nl.SocketHandle
}

// threadNS is the namespace of the calling thread: the process's own, unless a
// caller pins threads.
const threadNS = "/proc/thread-self/ns/net"

func (c *conn) open() error {
	own, err := netns.GetFromPath(threadNS)
	if err != nil {
		return err
	}
	defer own.Close()
	c.own = c.ns.Equal(own)
	var stat unix.Stat_t
	if err := unix.Fstat(int(c.ns), &stat); err != nil {
		return err
	}
	c.inode = stat.Ino
	return c.Reopen()
}

// Reopen opens the sockets again, in the same namespace. After an error the old
// ones are still open.
func (c *conn) Reopen() error {
	s, port, err := c.connect()
	if err != nil {
		s.close()
		return err
	}
	c.echoes.sender(port)
	c.sockets.close()
	c.sockets = s
	return nil
}

// connect opens sockets, and returns the port that writes are sent from. After
// an error it returns the sockets that it has opened.
func (c *conn) connect() (s sockets, port uint32, err error) {
	if s.handle, err = netlink.NewHandleAt(c.enter(), unix.NETLINK_ROUTE); err != nil {
		return s, 0, err
	}
	if s.raw, err = c.socket(); err != nil {
		return s, 0, err
	}
	if s.dumps, err = c.socket(); err != nil {
		return s, 0, err
	}
	port, err = s.raw.Socket.GetPid()
	err = errors.Join(err, s.handle.SetSocketTimeout(timeout), s.raw.Socket.SetExtAck(true))
	return s, port, err
}

func (s sockets) close() {
	if s.handle != nil {
		s.handle.Close()
	}
	for _, socket := range []*nl.SocketHandle{s.raw, s.dumps} {
		if socket != nil {
			socket.Close()
		}
	}
}

// timeout bounds the wait for an answer of the kernel.
const timeout = 10 * time.Second

// socket opens a socket whose dumps the kernel filters.
func (c *conn) socket() (*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(c.enter(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// A kernel before 4.20 lacks the option, and then sends more than the
	// request asks for.
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	wait := unix.NsecToTimeval(int64(timeout))
	if err := errors.Join(s.SetSendTimeout(&wait), s.SetReceiveTimeout(&wait)); err != nil {
		s.Close()
		return nil, err
	}
	return &nl.SocketHandle{Socket: s}, nil
}

// enter is the namespace to enter for a socket. Entering a namespace needs
// CAP_SYS_ADMIN, even for one's own; reading needs no capability.
func (c *conn) enter() netns.NsHandle {
	if c.own {
		return netns.None()
	}
	return c.ns
}

// Inode returns the number that identifies the network namespace on this
// machine: it names the lock.
func (c *conn) Inode() uint64 { return c.inode }

// Own reports whether the namespace is the process's own, by whatever name it
// was opened. Then files such as DHCP leases are about it.
func (c *conn) Own() bool { return c.own }

// Writes returns how many messages that change something were sent so far.
func (c *conn) Writes() int { return c.writes }

// Close releases the sockets and the namespace. Subscriptions go on until their
// context ends.
func (c *conn) Close() {
	c.ns.Close()
	c.sockets.close()
}

// inside runs f on a thread that is in the namespace. The thread ends with it,
// so the namespace is not restored.
func (c *conn) inside(f func() error) error {
	if c.own {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		if err := netns.Set(c.ns); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Inside runs f on a thread that is in the namespace, and waits for it. Sockets
// and files of /proc that f opens stay there.
func (c *conn) Inside(f func() error) error { return c.inside(f) }

// dump asks for all objects of a kind and returns the messages.
func (c *conn) dump(kind, reply int, m message) ([][]byte, error) {
	return untorn(func() ([][]byte, error) {
		return c.request(kind, unix.NLM_F_DUMP, reply, m.data)
	})
}

// list is a dump by the library.
func list[T any](c *conn, kind int, dump func() ([]T, error)) ([]T, error) {
	return untorn(func() ([]T, error) {
		if err := c.fault(kind); err != nil {
			return nil, err
		}
		return dump()
	})
}

// dumpTries bounds how often a dump is repeated because changes interrupted it.
const dumpTries = 20

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

// write asks for a change and waits for the kernel's answer.
func (c *conn) write(kind, flags int, payload []byte) error {
	c.writes++
	_, err := c.request(kind, flags|unix.NLM_F_ACK, 0, payload)
	return err
}

func (c *conn) request(kind, flags, reply int, payload []byte) ([][]byte, error) {
	if err := c.fault(kind); err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: c.raw}
	if flags == unix.NLM_F_DUMP {
		req.Sockets[unix.NETLINK_ROUTE] = c.dumps
	}
	req.AddRawData(payload)
	return req.Execute(unix.NETLINK_ROUTE, uint16(reply))
}

func (c *conn) fault(kind int) error {
	if c.Fault == nil {
		return nil
	}
	return c.Fault(kind)
}
