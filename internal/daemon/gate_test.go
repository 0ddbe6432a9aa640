package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/report"
	"lasthop/routing"
)

// TestGate: no peer and no number of peers takes all connections, and root has
// connections of its own.
func TestGate(t *testing.T) {
	user := func(uid int) visitor { return visitor{uid: uid} }
	g := newGate(nil)
	g.most = mostConnections
	let := func(v visitor, times, want int) {
		t.Helper()
		in := 0
		for range times {
			if g.enter(v) {
				in++
			}
		}
		if in != want {
			t.Errorf("%+v gets in %d times of %d, want %d", v, in, times, want)
		}
	}
	let(user(1000), 100, mostOfPeer)
	let(user(1001), 1, 1)
	let(visitor{uid: -1}, 100, mostOfPeer)
	for uid := 2000; uid < 2100; uid++ {
		g.enter(user(uid))
	}
	if g.all[false] != mostConnections {
		t.Errorf("all together: %d, want %d", g.all[false], mostConnections)
	}
	let(user(0), 100, mostConnections)
	g.leave(user(1000))
	let(user(1000), 2, 1)
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	few := unix.Rlimit{Cur: 16 * partOfFiles, Max: files.Max}
	err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	small := newGate(nil)
	err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &files))
	if err != nil || small.most != 16 {
		t.Errorf("with few files: %d, %v, want 16", small.most, err)
	}
	if v := (visitor{uid: 0, addr: netip.MustParseAddr("127.0.0.1")}); v.privileged() {
		t.Error("who comes by TCP is privileged")
	}
}

// serving serves h on l until the test ends.
func serving(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestTooMany: one connection too many is answered and closed, and so is one
// that does nothing or reads nothing in time. Then there is room again.
func TestTooMany(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 16 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}))
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(3 * askTimeout))
		return c
	}
	var held []net.Conn
	for n := range mostOfPeer {
		c := dial()
		if n%2 == 0 { // the other ones send nothing
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		held = append(held, c)
	}
	over := dial()
	r, err := http.ReadResponse(bufio.NewReader(over), nil)
	if err != nil || r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many: %v, %v, want 503", r, err)
	}
	_, _ = io.Copy(io.Discard, held[1])
	time.Sleep(askTimeout) // the kernel's buffers hold what the client does not read
	c := dial()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
		t.Errorf("after %v: %v, %v, want 200", 2*askTimeout, r, err)
	}
}

// big is a status of megabytes.
func big() (s report.Status) {
	for n := range 5000 {
		l := routing.Listener{Listen: strings.Repeat("x", 500),
			Addr:    netip.MustParseAddr("10.0.0.1"),
			Origins: []string{fmt.Sprintf("--listen %d", n)}}
		s.Plan.Outcomes = append(s.Plan.Outcomes, routing.Outcome{Listener: l})
		s.Wrong = append(s.Wrong, strings.Repeat("y", 500))
	}
	return s
}

// TestSlowReaders: clients that ask and do not read cost no copy of the answer
// each.
func TestSlowReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	p := newPublication(big())
	serving(t, l, localHandler(published{p}))
	for _, encoding := range []string{"application/json", gobType} {
		for _, v := range []visitor{{uid: 0}, {uid: 1000}} {
			a, err1 := p.answer(v, encoding)
			b, err2 := p.answer(v, encoding)
			err := errors.Join(err1, err2)
			if err != nil || len(a) < 2<<20 || &a[0] != &b[0] {
				t.Fatalf("%s for %+v: %d bytes, %v, want one of megabytes, for all",
					encoding, v, len(a), err)
			}
		}
	}
	before := heap()
	for n := range 2 * mostConnections {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET /status HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n",
			[]string{"*/*", gobType}[n%2])
		if n == 0 { // it is served
			if _, err := c.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(200 * time.Millisecond)
	if used := int64(heap()) - int64(before); used > 8<<20 {
		t.Errorf("%d bytes for %d readers", used, 2*mostConnections)
	}
}

type published struct{ p *publication }

func (p published) latest() *publication { return p.p }
func (published) request(context.Context, request) (report.Apply, error) {
	return report.Apply{}, errors.New("not now")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestReaders: what all users may read.
func TestReaders(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	var errs []error
	for _, d := range []string{"open", "closed", "blind"} {
		errs = append(errs, os.Mkdir(path(d), 0o755))
	}
	for name, mode := range map[string]os.FileMode{"open/a": 0o644, "open/secret": 0o640,
		"closed/a": 0o644, "blind/a": 0o644} {
		errs = append(errs, os.WriteFile(path(name), nil, mode), os.Chmod(path(name), mode))
	}
	errs = append(errs, os.Symlink(path("open/a"), path("open/link")),
		os.Symlink(path("open/secret"), path("open/tosecret")),
		os.Symlink(path("closed/a"), path("open/toclosed")),
		os.Symlink(path("closed"), path("open/dir")),
		os.Chmod(path("closed"), 0o700), os.Chmod(path("blind"), 0o711))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]bool{
		"open/a": {true, false}, "open/secret": {}, "open": {true, false}, "closed": {},
		"closed/a": {}, "blind/a": {true, false}, "blind": {}, "open/link": {true, false},
		"open/tosecret": {}, "open/toclosed": {}, "open/dir/a": {}, "open/none": {false, true},
		"open/none/none": {false, true}, "closed/none": {}, "blind/none": {},
	} {
		everybody, gone := newReaders().may("", path(name))
		if got := [2]bool{everybody, gone}; got != want {
			t.Errorf("%s: got %v, want %v (everybody, gone)", name, got, want)
		}
		if everybody, _ := newReaders().may(dir, name); everybody && !want[0] &&
			!strings.HasPrefix(name, "open/to") && name != "open/dir/a" {
			t.Errorf("%s below a root: everybody", name)
		}
	}
	for _, file := range []string{"/proc/self/status", ""} {
		if everybody, _ := newReaders().may("", file); everybody {
			t.Errorf("%q: everybody", file)
		}
	}
}

// TestSecretsForRoot: the contents of a file that only root may read go to root
// and to the daemon's own user.
func TestSecretsForRoot(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.conf")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := report.Status{Wrong: []string{secret + ":1: secretly"},
		Masters: []report.Master{{PID: 7, Conf: secret, Generation: 1}}}
	s.Inputs = []report.Input{{File: secret, SHA256: "5ec4e7"}}
	h := localHandler(asked{Status: s})
	for _, uid := range []int{0, os.Geteuid(), 1000, -1} {
		for _, c := range [][2]string{{"/status", "*/*"}, {"/status", gobType},
			{"/healthz", ""}} {
			r := httptest.NewRequest(http.MethodGet, c[0], nil)
			r.Header.Set("Accept", c[1])
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peer{},
				visitor{uid: uid})))
			tells := strings.Contains(w.Body.String(), "secretly") ||
				strings.Contains(w.Body.String(), "secret.conf") ||
				strings.Contains(w.Body.String(), "5ec4e7")
			if all := uid == 0 || uid == os.Geteuid(); tells != all {
				t.Errorf("%s %s as user %d: %q", c[0], c[1], uid, w.Body)
			}
		}
	}
	for _, path := range []string{"/metrics", "/healthz"} {
		_, text := get(metricsHandler(asked{Status: s}, newReloadTimes(), nil), path)
		if strings.Contains(text, "secretly") || strings.Contains(text, "secret.conf") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

// TestSeldom: clients cannot fill the log.
func TestSeldom(t *testing.T) {
	var b bytes.Buffer
	s := &seldom{log: slog.New(slog.NewTextHandler(&b, nil))}
	for range 1000 {
		fmt.Fprintln(s, "http: trouble")
	}
	if lines := strings.Count(b.String(), "\n"); lines != 1 || s.lost != 999 {
		t.Errorf("%d lines, %d lost, want 1 and 999", lines, s.lost)
	}
}

// TestOwnName: a web page has led a client here that uses another name.
func TestOwnName(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"127.0.0.1:9176": true, "[::1]:9176": true, "10.0.0.1": true, "localhost:9176": true,
		"LOCALHOST": true, "localhost.:9176": true, own + ":9176": true, own + ".example.com": true,
		"metrics.example.com:9176": true, "": true,
		"evil.example:9176": false, "localhost.evil.example": false, "x": own == "x",
		"127.0.0.1.evil.example": false, "[evil]:1": false,
	} {
		if got := ownName(host, []string{"metrics.example.com"}); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
	h := metricsHandler(asked{}, newReloadTimes(), nil)
	for _, path := range []string{"/metrics", "/healthz"} {
		if code, text := getFrom(h, "http://evil.example"+path); code != 421 {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}
