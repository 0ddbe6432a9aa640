package daemon

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

	"lasthop/internal/hint"
	"lasthop/internal/writer"
	"lasthop/report"

	"golang.org/x/sys/unix"
)

// served is what may be asked of the daemon. Both methods are safe for
// concurrent use.
type served interface {
	status() report.Status // a copy
	request(ctx context.Context, r Request, by writer.Person) (report.Apply, error)
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
	headerError = "Lasthop-Error"     // of a result that is not all there is to say
	headerHint  = "Lasthop-Hint"
	syncTimeout = 2 * time.Minute
	stopTimeout = 3 * time.Second
)

// SocketPath is the daemon's socket of the network namespace with an inode,
// beside the lock.
func SocketPath(runDir string, inode uint64) string {
	return filepath.Join(runDir, fmt.Sprintf("netns-%d.sock", inode))
}

// listenLocal opens the daemon's socket. Everybody may ask how it is; who may
// ask for more is seen by the peer's credentials. The lock is held, so that a
// socket that is there is a dead daemon's.
func listenLocal(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		err = fmt.Errorf("open the socket for `lasthop status`: %w", err)
		if errors.Is(err, unix.EINVAL) {
			err = hint.New(err, "a path for a socket has at most 107 characters; "+
				"choose a shorter --run-dir")
		}
		return nil, err
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
		ReadTimeout:  10 * time.Second,
		WriteTimeout: syncTimeout + 10*time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ConnContext: withPeer}
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
func localHandler(s served) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, r *http.Request) {
		health(w, s.status())
	})
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, r *http.Request) {
		st := s.status()
		st.Lasthop = report.BuildVersion().Lasthop
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
			hint.New(errors.New("only root may ask lasthop run for a sync"),
				"run it with sudo"))
		return
	}
	var req Request
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), syncTimeout)
	defer cancel()
	result, err := s.request(ctx, req, writer.Asker(uid, req.Sudoer))
	if err != nil && len(result.Done) == 0 {
		refuse(w, http.StatusConflict, err)
		return
	}
	if err != nil {
		w.Header().Set(headerError, report.Line(err.Error()))
		w.Header().Set(headerHint, report.Line(hint.Of(err)))
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
	_ = json.NewEncoder(w).Encode(refusal{err.Error(), hint.Of(err)})
}
