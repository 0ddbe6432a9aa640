package main

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// served is what may be asked of the daemon. Both methods are safe for
// concurrent use.
type served interface {
	status() report.Status                                            // a copy
	request(ctx context.Context, r syncRequest) (report.Apply, error) // a sync now
}

// syncRequest is what `lasthop apply` asks for.
type syncRequest struct {
	Expect   string `json:"expect,omitempty"`
	NoDelete bool   `json:"no_delete,omitempty"`
	Sudoer   string `json:"sudoer,omitempty"` // who used sudo, as the client says

	by writer.Person // as the kernel and the client say
}

// refusal is an error on its way to a client.
type refusal struct {
	Message string `json:"error"`
	Remedy  string `json:"hint,omitempty"`
}

const (
	pathStatus = "/status"  // GET: the document of `lasthop status -o json`
	pathSync   = "/sync"    // POST, root only: what `lasthop apply` does
	pathHealth = "/healthz" // GET: 200 if in sync, else 503 with what is wrong

	gobType     = "application/x-gob" // between two lasthops: the whole of a result
	syncTimeout = 2 * time.Minute
	stopTimeout = 3 * time.Second
)

// socketPath is the daemon's socket of a network namespace, beside the lock.
func (a *app) socketPath(k *host.Kernel) string {
	return filepath.Join(a.flags.runDir, fmt.Sprintf("netns-%d.sock", k.Inode()))
}

// listenLocal opens the daemon's socket. Everybody may ask how it is; who may
// ask for more is seen by the peer's credentials. The lock is held, so that a
// socket that is there is a dead daemon's.
func (a *app) listenLocal(k *host.Kernel) (net.Listener, error) {
	path := a.socketPath(k)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, hint(fmt.Errorf("open the socket for `lasthop status`: %w", err),
			"a path for a socket has at most 107 characters; "+
				"choose a shorter --run-dir")
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("open the socket for `lasthop status`: %w", err)
	}
	return l, nil
}

// serve answers until ctx ends, and then finishes what is being answered.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: syncTimeout + 10*time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ConnContext: withPeer}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := s.Shutdown(late); err != nil {
			s.Close()
		}
		stopped <- nil
	})
	err := s.Serve(l)
	if stop() { // ctx goes on: the listener has failed
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return <-stopped
}

// peer is the key of a connection's user id in its context.
type peer struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peer{}, int(cred.Uid))
}

// localHandler answers on the socket.
func localHandler(s served, lasthop string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, r *http.Request) {
		health(w, s.status())
	})
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, r *http.Request) {
		st := s.status()
		st.Lasthop = lasthop
		if r.Header.Get("Accept") == gobType {
			answer(w, st)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = st.JSON(w)
	})
	mux.HandleFunc("POST "+pathSync, func(w http.ResponseWriter, r *http.Request) {
		askSync(w, r, s)
	})
	return mux
}

func health(w http.ResponseWriter, s report.Status) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.InSync {
		fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, strings.Join(append([]string{"not in sync"}, s.Wrong...), "\n"))
}

// askSync is for root and for the daemon's own user.
func askSync(w http.ResponseWriter, r *http.Request, s served) {
	uid, known := r.Context().Value(peer{}).(int)
	if !known || uid != 0 && uid != os.Geteuid() {
		refuse(w, http.StatusForbidden,
			hint(errors.New("only root may ask lasthop run for a sync"),
				"run it with sudo"))
		return
	}
	var req syncRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
		return
	}
	req.by = writer.Asker(uid, req.Sudoer)
	ctx, cancel := context.WithTimeout(r.Context(), syncTimeout)
	defer cancel()
	result, err := s.request(ctx, req)
	if err != nil && len(result.Done) == 0 {
		refuse(w, http.StatusConflict, err)
		return
	}
	if err != nil {
		r := refusalOf(err)
		w.Header().Set("Lasthop-Error", line(r.Message))
		w.Header().Set("Lasthop-Hint", line(r.Remedy))
	}
	answer(w, result)
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", gobType)
	_ = gob.NewEncoder(w).Encode(value) // the client sees a short answer
}

func refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(refusalOf(err))
}

func refusalOf(err error) refusal {
	r := refusal{Message: err.Error()}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		r.Remedy = h.Hint()
	}
	return r
}
