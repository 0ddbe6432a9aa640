package daemon

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// connections at a time, of all peers and of one peer. Root, and the
	// daemon's own user, have as many of their own in addition
	mostConnections = 32
	mostOfPeer      = 8
	// of the daemon's file descriptors; the other ones are for NGINX's
	// files and the kernel
	partOfFiles = 8
)

// gate is a listener that admits a bounded number of connections, in all and of
// each peer: a user of this host, or an address of the network. It answers
// further ones with 503 and closes them. So any number of clients takes a
// bounded part of the daemon's memory and file descriptors.
type gate struct {
	net.Listener
	most int

	mu  sync.Mutex
	all map[bool]int // by whether the peer is privileged
	of  map[visitor]int
}

// visitor is the peer of a connection.
type visitor struct {
	uid  int        // of a unix socket; -1 if not known
	addr netip.Addr // of TCP
}

// privileged reports whether a visitor may see and ask for everything.
func (v visitor) privileged() bool {
	return !v.addr.IsValid() && (v.uid == 0 || v.uid == os.Geteuid())
}

func newGate(l net.Listener) *gate {
	most := mostConnections
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		most = min(most, max(1, int(min(files.Cur, 1<<20))/partOfFiles))
	}
	return &gate{Listener: l, most: most, all: map[bool]int{}, of: map[visitor]int{}}
}

const full = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n"

// Accept returns the next connection that is let in.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		v := visitorOf(c)
		if g.enter(v) {
			return &admitted{Conn: c, visitor: v, leave: sync.OnceFunc(func() {
				g.leave(v)
			})}, nil
		}
		// It fits into the buffer of a new connection: no wait.
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(full))
		c.Close()
	}
}

func (g *gate) enter(v visitor) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := v.privileged()
	if g.all[p] >= g.most || !p && g.of[v] >= min(mostOfPeer, g.most) {
		return false
	}
	g.all[p]++
	g.of[v]++
	return true
}

func (g *gate) leave(v visitor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all[v.privileged()]--
	if g.of[v]--; g.of[v] == 0 {
		delete(g.of, v)
	}
}

// admitted is a connection that was let in.
type admitted struct {
	net.Conn
	visitor visitor
	leave   func()
}

func (a *admitted) Close() error {
	defer a.leave()
	return a.Conn.Close()
}

// visitorOf returns the peer of a connection, as the kernel reports it.
func visitorOf(c net.Conn) visitor {
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return visitor{uid: -1, addr: at.AddrPort().Addr().Unmap()}
	}
	v := visitor{uid: -1}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return v
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return v
	}
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			v.uid = int(cred.Uid)
		}
	})
	return v
}

// peer is the key of a connection's visitor in its context.
type peer struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	if a, ok := c.(*admitted); ok {
		return context.WithValue(ctx, peer{}, a.visitor)
	}
	return ctx
}

// visitorIn returns the visitor that a request is from; an unknown one has no
// rights.
func visitorIn(ctx context.Context) visitor {
	if v, ok := ctx.Value(peer{}).(visitor); ok {
		return v
	}
	return visitor{uid: -1}
}
