package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/writer"
)

// A daemon that clients cannot reach goes on with its work: its socket may find
// no room in /run, another program may have removed the socket or taken the
// port of the metrics. The daemon reports this, tries again, and is reachable
// again once the cause is gone.

// door is where clients connect.
type door struct {
	about   string // what a trouble with it is about
	open    func() (net.Listener, error)
	handler http.Handler
	log     *slog.Logger
}

// tendEvery is the time between checks of what another program may remove: the
// run directory, the lock, the sockets.
const tendEvery = time.Second

// openFirst opens the door for the first time. If a resource is used up, it
// returns a nil listener; so it does if the metrics' address or port is not
// available now: the address comes late, or another program has the port.
// Routes do not wait for that.
func (o door) openFirst() (net.Listener, error) {
	l, err := o.open()
	if writer.Scarce(err) || err != nil && o.about == aboutMetrics {
		return nil, nil
	}
	return l, err
}

// keepOpen answers until ctx ends, on l at first, and opens the door again when
// it was closed. It calls tell with each result.
func (o door) keepOpen(ctx context.Context, l net.Listener,
	tell func(about string, err error)) error {
	for {
		var err error
		if l == nil {
			l, err = o.open()
		}
		tell(o.about, err)
		if l != nil {
			if err = o.serve(ctx, l); ctx.Err() != nil {
				return err
			}
			l = nil
		}
		if err != nil { // else another program removed it: immediately
			tell(o.about, err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(tendEvery):
			}
		}
	}
}

// serve answers until ctx ends, the listener fails or another program has
// removed its file.
func (o door) serve(ctx context.Context, l net.Listener) error {
	u, isFile := l.(*net.UnixListener)
	if !isFile {
		return serve(ctx, newReserve(l), o.handler, o.log)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	path := l.Addr().String()
	opened, err := os.Lstat(path)
	if err != nil {
		l.Close()
		return err
	}
	go func() {
		tick := time.NewTicker(tendEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, err := os.Lstat(path); err != nil || !os.SameFile(opened, now) {
				u.SetUnlinkOnClose(false) // the file that is there now is another's
				cancel()
			}
		}
	}()
	return serve(ctx, newReserve(l), o.handler, o.log)
}

// reserve is a listener with a descriptor in reserve: if there is no other
// left, it uses this one to tell a client so.
type reserve struct {
	net.Listener
	spare *os.File // nil while a client has it
}

func newReserve(l net.Listener) *reserve { return &reserve{Listener: l} }

// Accept belongs to one goroutine.
func (r *reserve) Accept() (net.Conn, error) {
	if r.spare == nil {
		r.spare, _ = os.Open(os.DevNull)
	}
	c, err := r.Listener.Accept()
	none := errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
	if r.spare != nil && (none || errors.Is(err, net.ErrClosed)) {
		r.spare.Close()
		r.spare = nil
	}
	if none {
		return r.Listener.Accept()
	}
	return c, err
}
