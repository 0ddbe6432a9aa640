package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/nstest"
)

const (
	portTCP = 80
	portUDP = 53
)

// serve answers on all listeners of the host, and in the world, until stop is
// called: it sends back what comes.
func (b *built) serve() (stop func(), err error) {
	var open []io.Closer
	stop = func() {
		for _, c := range open {
			c.Close()
		}
	}
	free := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		})
		if e != nil {
			return e
		}
		return err
	}}
	serve := func(a netip.Addr) {
		tcp, e := free.Listen(context.Background(), "tcp",
			netip.AddrPortFrom(a, portTCP).String())
		if e == nil {
			open = append(open, tcp)
			go b.talks.echoTCP(tcp)
		}
		udp, e2 := free.ListenPacket(context.Background(), "udp",
			netip.AddrPortFrom(a, portUDP).String())
		if e2 == nil {
			open = append(open, udp)
			go echoUDP(udp)
		}
		err = errors.Join(err, e, e2)
	}
	b.spaces[host].Do(func() {
		for _, l := range b.Listeners {
			serve(l.Addr)
		}
	})
	b.spaces[world].Do(func() {
		for _, c := range b.Clients {
			if c.Station == world {
				serve(c.Addr)
			}
		}
	})
	if err != nil {
		stop()
	}
	return stop, err
}

// talks are the open connections of the listeners.
type talks struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

// reset ends them immediately: nothing of them is repeated.
func (t *talks) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}

// note records whether a connection is open.
func (t *talks) note(c net.Conn, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if open {
		t.open[c] = true
	} else {
		delete(t.open, c)
	}
}

// echoTCP ends when the listener is closed.
func (t *talks) echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.note(c, true)
		go func() {
			echo(c)
			t.note(c, false)
		}()
	}
}

// echo sends back what comes, until nothing comes for a while.
func echo(c net.Conn) {
	defer c.Close()
	b := make([]byte, 64)
	for {
		c.SetDeadline(time.Now().Add(nstest.Patience(5 * time.Second)))
		n, err := c.Read(b)
		if err == nil {
			_, err = c.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// echoUDP ends when the socket is closed.
func echoUDP(c net.PacketConn) {
	b := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}

const question = "who is there?"

// protocol is how a request is made.
type protocol string

const (
	tcp  protocol = "tcp"
	udp  protocol = "udp"
	ping protocol = "ping"
)

var protocols = []protocol{tcp, udp, ping}

// answers are, by request, the protocols with an answer.
type answers []map[protocol]bool

func (a answers) all(i int) bool { return a[i][tcp] && a[i][udp] && a[i][ping] }

// dark returns the protocols without an answer.
func (a answers) dark(i int) (list []protocol) {
	for _, p := range protocols {
		if !a[i][p] {
			list = append(list, p)
		}
	}
	return list
}

// probe is one socket that waits for an answer.
type probe struct {
	request int
	how     protocol
	fd      int
	sent    bool
}

// ask makes the requests of the list, all together. It repeats those without an
// answer, with more time.
func (b *built) ask(list []Request) (answers, error) {
	got := make(answers, len(list))
	for i := range got {
		got[i] = map[protocol]bool{}
	}
	for _, quiet := range []time.Duration{firstQuiet, secondQuiet} {
		if err := b.round(list, got, nstest.Patience(quiet)); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// A round of requests ends if no answer comes for this time: on a busy machine
// answers come late, but they come.
const (
	firstQuiet  = 150 * time.Millisecond
	secondQuiet = 300 * time.Millisecond
	longest     = 10 // times that, for a round
)

// round makes the requests that have no answer yet.
func (b *built) round(list []Request, got answers, quiet time.Duration) (err error) {
	var probes []*probe
	defer func() {
		for _, p := range probes {
			p.close()
		}
	}()
	byStation := map[string][]*probe{}
	for i, q := range list {
		if q.Client == nil {
			continue
		}
		for _, how := range got.dark(i) {
			p := &probe{request: i, how: how, fd: -1}
			byStation[q.asker()] = append(byStation[q.asker()], p)
		}
	}
	for station, ps := range byStation {
		b.spaces[station].Do(func() {
			for _, p := range ps {
				if e := p.open(list[p.request]); e != nil {
					err = fmt.Errorf("ask %s: %w", list[p.request], e)
					return
				}
				probes = append(probes, p)
			}
		})
		if err != nil {
			return err
		}
	}
	return wait(probes, got, quiet)
}

// open opens the socket and sends what it can send now.
func (p *probe) open(q Request) (err error) {
	family := unix.AF_INET
	if !q.Client.Addr.Is4() {
		family = unix.AF_INET6
	}
	kind, proto, port := unix.SOCK_STREAM, 0, portTCP
	switch p.how {
	case udp:
		kind, port = unix.SOCK_DGRAM, portUDP
	case ping:
		kind, proto, port = unix.SOCK_DGRAM, unix.IPPROTO_ICMP, 0
		if family == unix.AF_INET6 {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	p.fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	err = q.connect(p.fd, port)
	if p.how != tcp && err == nil {
		p.send()
	}
	if err == unix.EINPROGRESS || unreachable(err) {
		err = nil
	}
	if err != nil {
		unix.Close(p.fd)
		return os.NewSyscallError("open socket", err)
	}
	return nil
}

// close ends a probe immediately: nothing of it is repeated later.
func (p *probe) close() {
	if p.how == tcp {
		unix.SetsockoptLinger(p.fd, unix.SOL_SOCKET, unix.SO_LINGER,
			&unix.Linger{Onoff: 1})
	}
	unix.Close(p.fd)
}

// connect binds a socket to the client's address and connects it.
func (r Request) connect(fd, port int) error {
	if r.Listener == nil {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, r.Mark)
		if err == nil {
			err = unix.Connect(fd, socket(r.Client.Addr, port))
		}
		return err
	}
	err := unix.Bind(fd, socket(r.Client.Addr, 0))
	if err == nil {
		err = unix.Connect(fd, socket(r.Listener.Addr, port))
	}
	return err
}

// unreachable reports whether an error comes from the network, and not from the
// test.
func unreachable(err error) bool {
	switch err {
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.ECONNREFUSED, unix.EINVAL:
		return true
	}
	return false
}

func socket(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// send sends the question. The answer, or its absence, shows whether it
// arrived.
func (p *probe) send() {
	p.sent = true
	m := []byte(question)
	if p.how == ping {
		const echo4, echo6 = 8, 128
		m = append([]byte{echo4, 0, 0, 0, 0, 0, 0, 1}, m...)
		if sa, err := unix.Getsockname(p.fd); err == nil {
			if _, six := sa.(*unix.SockaddrInet6); six {
				m[0] = echo6
			}
		}
	}
	unix.Write(p.fd, m)
}

// wait takes answers until all have come, or none comes for the time quiet.
func wait(probes []*probe, got answers, quiet time.Duration) error {
	end := time.Now().Add(quiet)
	for last := time.Now().Add(longest * quiet); time.Now().Before(last); {
		var fds []unix.PollFd
		var open []*probe
		for _, p := range probes {
			if !got[p.request][p.how] {
				events := int16(unix.POLLIN)
				if !p.sent {
					events = unix.POLLOUT
				}
				fds = append(fds, unix.PollFd{Fd: int32(p.fd), Events: events})
				open = append(open, p)
			}
		}
		left := time.Until(end)
		if len(open) == 0 || left <= 0 {
			return nil
		}
		_, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		for i, p := range open {
			if p.step(fds[i].Revents, got) {
				end = time.Now().Add(quiet)
			}
		}
		probes = alive(open)
	}
	return nil
}

// alive returns the probes that have not failed for good.
func alive(list []*probe) (out []*probe) {
	for _, p := range list {
		if p.fd >= 0 {
			out = append(out, p)
		}
	}
	return out
}

// step does what a socket is ready for, and reports whether the network has
// answered. A failed socket has no descriptor any more.
func (p *probe) step(ready int16, got answers) bool {
	if ready == 0 {
		return false
	}
	code, _ := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case code != 0 && p.how == tcp:
		unix.Close(p.fd)
		p.fd = -1
	case code == 0 && !p.sent:
		p.send()
		return true
	case code == 0:
		var b [128]byte
		if n, err := unix.Read(p.fd, b[:]); err == nil && n > 0 {
			got[p.request][p.how] = true
			return true
		}
	}
	return false
}
