package daemon

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// ErrNone means that no daemon answers in the network namespace.
var ErrNone = errors.New("no lasthop runs in this network namespace")

// Client asks the daemon behind a socket. The daemon may run as a user with
// fewer rights than the client, so its answers are bounded in time and size.
type Client struct{ Socket string }

// otherVersion is the remedy for a daemon that was not restarted after an
// upgrade.
const otherVersion = "if the daemon is another version: systemctl restart lasthop"

const (
	dialTimeout = 5 * time.Second
	answerMost  = 64 << 20 // bytes; a status with 10,000 listeners has a tenth of it
	refusalMost = 64 << 10
)

// Runs reports whether a daemon is there: its socket takes connections.
func (c Client) Runs() bool {
	conn, err := net.DialTimeout("unix", c.Socket, dialTimeout)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// Status asks for the daemon's status. It returns ErrNone if there is no
// daemon.
func (c Client) Status() (report.Status, error) {
	return c.look(context.Background())
}

// Sync asks for a sync. With an error it still returns what was done. It
// returns ErrNone if there is no daemon.
func (c Client) Sync(r Request) (report.Apply, error) {
	var a report.Apply
	err := c.ask(context.Background(), http.MethodPost, pathSync, r, &a)
	return a, err
}

// Reload asks the daemon to read its settings again, and waits until it has
// synced. The error says why the daemon refuses the settings, or what failed.
// It returns ErrNone if there is no daemon.
func (c Client) Reload(sudoer string) error {
	return c.ask(context.Background(), http.MethodPost, pathReload, Request{Sudoer: sudoer},
		&report.Apply{})
}

// clientWaits is how long an answer may take. Published answers wait for
// nothing.
func clientWaits(method string) time.Duration {
	if method == http.MethodGet {
		return 3 * askTimeout
	}
	return syncTimeout + askTimeout
}

// ask sends a request and decodes the answer.
func (c Client) ask(ctx context.Context, method, path string, body, into any) error {
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	patience := clientWaits(method)
	client := http.Client{Timeout: patience,
		Transport: &http.Transport{DisableKeepAlives: true,
			MaxResponseHeaderBytes: refusalMost,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx,
					"unix", c.Socket)
			}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://lasthop"+path,
		bytes.NewReader(sent))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", gobType)
	resp, err := client.Do(req)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return c.none()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return hint.New(fmt.Errorf("lasthop run does not answer within %s", patience),
			"see whether it is stopped or short of CPU: systemctl status lasthop")
	}
	if err != nil {
		return fmt.Errorf("ask lasthop run: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	return read(resp, into)
}

// none reports that nothing answers. A daemon without room for its socket runs
// nevertheless.
func (c Client) none() error {
	var st unix.Statfs_t
	dir := filepath.Dir(c.Socket)
	if unix.Statfs(dir, &st) == nil && (st.Bavail == 0 || st.Files > 0 && st.Ffree == 0) {
		word := routing.ShellWord(dir)
		return hint.New(fmt.Errorf("%w, or its socket is missing: no space left in "+
			"%s", ErrNone, dir), "make room there: df "+word+"; df -i "+
			word+"; the daemon's log: journalctl -u lasthop")
	}
	return fmt.Errorf("%w: nothing answers on %s", ErrNone, c.Socket)
}

// read decodes an answer, and the error that came with it.
func read(resp *http.Response, into any) error {
	body := &io.LimitedReader{R: resp.Body, N: answerMost}
	err := gob.NewDecoder(body).Decode(into)
	switch {
	case err != nil && body.N <= 0:
		return fmt.Errorf("read the answer of lasthop run: it is longer than %d bytes",
			answerMost)
	case err != nil:
		return hint.New(fmt.Errorf("read the answer of lasthop run: %w", err),
			otherVersion)
	}
	return refusal{resp.Header.Get(headerError), resp.Header.Get(headerHint)}.error()
}

// refused turns a refusal into an error as if it had occurred here.
func refused(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, refusalMost))
	var r refusal
	if err := json.Unmarshal(data, &r); err != nil || r.Message == "" {
		err = fmt.Errorf("lasthop run answers %s", resp.Status)
		if resp.StatusCode == http.StatusNotFound {
			err = hint.New(err, otherVersion)
		}
		return err
	}
	return r.error()
}

// error is the error of the daemon's refusal, one for each line of its message;
// nil for none.
func (r refusal) error() error {
	if r.Message == "" {
		return nil
	}
	var errs []error
	for line := range strings.SplitSeq(r.Message, "\n") {
		errs = append(errs, errors.New(line))
	}
	err := errors.Join(errs...)
	if r.Remedy == "" {
		return err
	}
	return hint.New(err, r.Remedy)
}
