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

// A daemon that cannot be asked goes on with its work: its socket may find no
// room in /run, another program may have removed it or taken the port of the
// metrics. It is said, tried again, and good again once the cause is gone.

// door is where clients come in.
type door struct {
	about   string // what a trouble with it is about
	open    func() (net.Listener, error)
	handler http.Handler
	log     *slog.Logger
}

// tendEvery is the time between looks whether what others may take away is
// there: the run directory, the lock, the sockets.
const tendEvery = time.Second

// openFirst opens the door for the first time. Where something is used up the
// listener is nil, and so it is for metrics that cannot be had now: their
// address comes late, or another program has the port. Routes do not wait for
// that.
func (o door) openFirst() (net.Listener, error) {
	l, err := o.open()
	if writer.Scarce(err) || err != nil && o.about == aboutMetrics {
		return nil, nil
	}
	return l, err
}

// keepOpen answers until ctx ends, on l at first, and opens the door again
// where it was closed. tell is told how it is.
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
		if err != nil { // else it was taken away: at once
			tell(o.about, err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(tendEvery):
			}
		}
	}
}

// serve answers until ctx ends, the listener fails or somebody has removed its
// file.
func (o door) serve(ctx context.Context, l net.Listener) error {
	u, isFile := l.(*net.UnixListener)
	if !isFile {
		return serve(ctx, newReserve(l), o.handler, o.log)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	path := l.Addr().String()
	ours, err := os.Lstat(path)
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
			if now, err := os.Lstat(path); err != nil || !os.SameFile(ours, now) {
				u.SetUnlinkOnClose(false) // what is there now is another's
				cancel()
			}
		}
	}()
	return serve(ctx, newReserve(l), o.handler, o.log)
}

// reserve is a listener with a descriptor in reserve: where there is no other,
// a client is told that.
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
