package daemon

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/hint"
	"lasthop/internal/writer"
	"lasthop/report"
)

// served is what clients may ask of the daemon. Both methods are safe for
// concurrent use.
type served interface {
	latest() *publication
	request(context.Context, request) (report.Apply, error)
}

// refusal is an error on its way to a client.
type refusal struct {
	Message string `json:"error"`
	Remedy  string `json:"hint,omitempty"`
}

const (
	pathStatus = "/status"  // GET: the document of `lasthop status -o json`
	pathSync   = "/sync"    // POST, root only: what `lasthop apply` does
	pathReload = "/reload"  // POST, root only: what `lasthop reload` does
	pathHealth = "/healthz" // GET: 200 if in sync, else 503 with what is wrong

	gobType     = "application/x-gob" // between two lasthops: the whole of a result
	headerError = "Lasthop-Error"     // of a result that is not complete
	headerHint  = "Lasthop-Hint"
	syncTimeout = 2 * time.Minute
	stopTimeout = 3 * time.Second
	askTimeout  = 5 * time.Second // to send a request, and to take the answer
)

// SocketPath returns the daemon's socket of the network namespace with an
// inode, next to the lock.
func SocketPath(runDir string, inode uint64) string {
	return filepath.Join(runDir, fmt.Sprintf("netns-%d.sock", inode))
}

// listenLocal opens the daemon's socket. All users may ask for the status; the
// peer's credentials decide who may ask for more. The caller holds the lock, so
// a socket that is there is a dead daemon's.
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

// serve answers until ctx ends, and then finishes open answers. Each connection
// is for one request, so that none stays longer than its request.
func serve(ctx context.Context, l net.Listener, h http.Handler, lines *slog.Logger) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: askTimeout, ReadTimeout: askTimeout,
		WriteTimeout: askTimeout, IdleTimeout: askTimeout, MaxHeaderBytes: 16 << 10,
		ConnContext: withPeer, ErrorLog: log.New(&seldom{log: lines}, "", 0)}
	s.SetKeepAlivesEnabled(false)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := s.Shutdown(late); err != nil {
			s.Close()
		}
		stopped <- nil
	})
	err := s.Serve(newGate(l))
	if stop() { // ctx goes on: the listener has failed
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return <-stopped
}

// seldom logs at most a line a minute: clients decide how many there are.
type seldom struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time
	lost int
}

func (s *seldom) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < time.Minute && !s.last.IsZero() {
		s.lost++
		return len(line), nil
	}
	s.log.Warn("could not answer a client", "message", strings.TrimSpace(string(line)),
		"lines_lost", s.lost)
	s.last, s.lost = time.Now(), 0
	return len(line), nil
}

// localHandler answers on the socket.
func localHandler(s served) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, r *http.Request) {
		health(w, s.latest().seenBy(visitorIn(r.Context())))
	})
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, r *http.Request) {
		encoding := "application/json"
		if r.Header.Get("Accept") == gobType {
			encoding = gobType
		}
		body, err := s.latest().answer(visitorIn(r.Context()), encoding)
		if err != nil {
			refuse(w, http.StatusInternalServerError, err)
			return
		}
		w.Header().Set("Content-Type", encoding)
		_, _ = w.Write(body) // the client sees a short answer
	})
	mux.HandleFunc("POST "+pathSync, func(w http.ResponseWriter, r *http.Request) {
		askLoop(w, r, s, request{})
	})
	mux.HandleFunc("POST "+pathReload, func(w http.ResponseWriter, r *http.Request) {
		askLoop(w, r, s, request{reload: true})
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

// askLoop is for root and for the daemon's own user.
func askLoop(w http.ResponseWriter, r *http.Request, s served, ask request) {
	by := visitorIn(r.Context())
	if !by.privileged() {
		what := "a sync"
		if ask.reload {
			what = "a reload"
		}
		refuse(w, http.StatusForbidden, hint.New(
			fmt.Errorf("only root may ask lasthop run for %s", what),
			"run it with sudo"))
		return
	}
	deadline := time.Now().Add(syncTimeout + askTimeout)
	c := http.NewResponseController(w)
	_, _ = c.SetReadDeadline(deadline), c.SetWriteDeadline(deadline) // else a short answer
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	d.DisallowUnknownFields()
	if err := d.Decode(&ask.Request); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
		return
	}
	if ask.reload { // systemd would end ExecReload= after the unit's TimeoutStartSec=
		longer := syncTimeout + 2*askTimeout
		notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", longer.Microseconds()))
	}
	ctx, cancel := context.WithTimeout(r.Context(), syncTimeout)
	defer cancel()
	ask.by = writer.Asker(by.uid, ask.Sudoer)
	result, err := s.request(ctx, ask)
	if errors.Is(err, context.DeadlineExceeded) {
		err = hint.New(fmt.Errorf("lasthop run is busy and did not finish it within %s",
			syncTimeout), "see what it does: lasthop status; journalctl -u lasthop")
	}
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
