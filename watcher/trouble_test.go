package watcher

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/procfs"

	"github.com/fsnotify/fsnotify"
	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestInotifyExhausted runs itself in a user namespace, whose limits of inotify
// are its own. A directory that cannot be watched is reported once, with the
// limit that is reached; other directories are watched, and the remaining ones
// as soon as the limit is raised.
func TestInotifyExhausted(t *testing.T) {
	const inside = "LASTHOP_TEST_INOTIFY"
	if os.Getenv(inside) == "" {
		c := exec.Command("/proc/self/exe", "-test.run=^TestInotifyExhausted$", "-test.v")
		c.Env = append(os.Environ(), inside+"=1")
		one := []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: one,
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		out, err := c.CombinedOutput()
		if errors.Is(err, os.ErrPermission) && os.Getenv("CI") != "true" {
			t.Skip("no user namespaces here: ", err)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	limit(t, "instances", "0")
	w := run(t, Open(Options{NoConnector: true, Alone: 5 * time.Millisecond,
		Retry: 20 * time.Millisecond}))
	one, two := t.TempDir(), t.TempDir()
	w.wantTrouble("fs.inotify.max_user_instances", func() { w.Watch([]string{one}) })
	limit(t, "instances", "100")
	w.wantEnd()
	limit(t, "watches", "0")
	w.wantTrouble("fs.inotify.max_user_watches", func() { w.Watch([]string{one, two}) })
	if err := os.WriteFile(filepath.Join(one, "a.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.until(Files) // what is watched already stays so
	limit(t, "watches", "100")
	w.wantEnd()
	w.settled(Files)
	if err := os.WriteFile(filepath.Join(two, "a.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.until(Files)
}

// limit sets a limit of inotify for this user namespace.
func limit(t *testing.T, of, n string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/user/max_inotify_"+of, []byte(n), 0); err != nil {
		t.Fatal(err)
	}
}

// wantTrouble wants one report that files cannot be watched because of a limit,
// however often the watcher tries.
func (r *running) wantTrouble(limit string, do func()) {
	r.t.Helper()
	for range 20 {
		do()
	}
	e := r.until(Trouble)
	if e.About != "files" || e.Err == nil || !strings.Contains(hint.Of(e.Err), limit) {
		r.t.Errorf("got %+v, hint %q, want one about files that names %s", e,
			hint.Of(e.Err), limit)
	}
	if got := r.settled(Trouble); got != 1 {
		r.t.Errorf("%s: said %d times, want once", limit, got)
	}
}

// wantEnd wants that the trouble with files is over, and that they are looked
// at.
func (r *running) wantEnd() {
	r.t.Helper()
	if e := r.until(Trouble); e.About != "files" || e.Err != nil {
		r.t.Errorf("got %+v, want the end of a trouble about files", e)
	}
	r.until(Files)
	r.settled(Trouble)
}

// TestTroubles: an error is reported when it begins, changes and ends, for each
// subject on its own. A report that no reader has taken is replaced by the
// current one.
func TestTroubles(t *testing.T) {
	q := queue{troubles: map[string]string{}}
	hear := func(want ...string) {
		t.Helper()
		var got []string
		for _, e := range q.events {
			text := "over"
			if e.Err != nil {
				text = e.Err.Error()
			}
			got = append(got, e.About+": "+text)
		}
		q.events = nil
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	q.trouble("a", nil)
	hear()
	q.trouble("a", errors.New("1"))
	q.trouble("a", errors.New("1"))
	q.trouble("b", errors.New("1"))
	hear("a: 1", "b: 1")
	q.trouble("a", errors.New("1"))
	hear()
	q.trouble("a", errors.New("2"))
	q.trouble("b", errors.New("2"))
	q.trouble("b", nil)
	hear("a: 2", "b: over")
	q.trouble("a", nil)
	q.trouble("a", nil)
	hear("a: over")
}

// TestProcessesTrouble: a master whose children cannot be looked at is a
// trouble until they can. It may have loaded something meanwhile.
func TestProcessesTrouble(t *testing.T) {
	f := fakeProc{t, procfs.Dir(t.TempDir())}
	pid := os.Getpid()
	children := fmt.Sprintf("task/%d/children", pid)
	path := f.dir.Path(pid, children)
	f.write(pid, children+".d/dir", "")
	if err := os.Symlink(path, path); err != nil {
		t.Fatal(err)
	}
	w := run(t, Open(Options{Proc: f.dir, NoConnector: true, Alone: 5 * time.Millisecond,
		Retry: 20 * time.Millisecond}))
	w.Follow([]Master{{Process: Process{PID: pid}}}, nil)
	if e := w.until(Trouble); e.About != "processes" || !errors.Is(e.Err, unix.ELOOP) {
		t.Errorf("got %+v, want ELOOP about processes", e)
	}
	if got := w.settled(Trouble); got != 1 {
		t.Errorf("said %d times, want once", got)
	}
	f.write(pid, children+".new", "")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if e := w.until(Reloaded); e.PID != pid {
		t.Errorf("got %+v, want that %d may have loaded something", e, pid)
	}
	if e := w.until(Trouble); e.About != "processes" || e.Err != nil {
		t.Errorf("got %+v, want the end of the trouble", e)
	}
}

// TestLostConnector: Detector reports that the connector has failed, and that
// it is there again.
func TestLostConnector(t *testing.T) {
	w := Open(Options{NoConnector: true, Alone: time.Millisecond, Retry: 20 * time.Millisecond})
	pair, err := unix.Socketpair(unix.AF_UNIX,
		unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	pipe, _, err := os.Pipe() // no socket: the first read fails
	if err != nil {
		t.Fatal(err)
	}
	w.forks, err = forksOf(pipe)
	if err != nil {
		t.Fatal(err)
	}
	var again atomic.Bool
	w.open = func() (*forks, error) {
		if !again.Load() {
			return nil, errors.New("not yet")
		}
		return forksOf(os.NewFile(uintptr(pair[0]), "connector"))
	}
	r := run(t, w)
	waitFor(t, "the failure", func() bool { return w.Detector() != "proc connector" })
	if e := r.until(Trouble); e.About != "proc connector" || e.Err == nil ||
		e.Err.Error() != "proc connector: it has failed" { // the log has this text alone
		t.Errorf("got %+v, want the failure", e)
	}
	if got := r.settled(Trouble); got != 1 {
		t.Errorf("said %d times, want once", got)
	}
	again.Store(true)
	if e := r.until(Trouble); e.About != "proc connector" || e.Err != nil {
		t.Errorf("got %+v, want the end of the failure", e)
	}
	if got := w.Detector(); got != "proc connector" {
		t.Errorf("the detector is %q", got)
	}
}

// TestFilesLost: events that inotify has lost may be anything, so files and
// masters are read again. An inotify that fails is a trouble until there is
// another one, which watches what the first one did.
func TestFilesLost(t *testing.T) {
	dir := t.TempDir()
	w := run(t, Open(Options{NoConnector: true, Alone: 5 * time.Millisecond,
		Retry: 20 * time.Millisecond}))
	w.Watch([]string{dir})
	lose := func(err error) (trouble string, kept bool) {
		t.Helper()
		w.settled(Files)
		w.call(func() {
			before := w.files.notify
			w.files.lost(err)
			trouble, kept = w.queue.troubles["files"], w.files.notify == before
		})
		w.until(Masters)
		w.until(Files)
		return trouble, kept
	}
	if trouble, kept := lose(fsnotify.ErrEventOverflow); trouble != "" || !kept {
		t.Errorf("an overflow: trouble %q, inotify is kept: %t", trouble, kept)
	}
	if trouble, kept := lose(unix.EBADF); !strings.Contains(trouble, "bad file") || kept {
		t.Errorf("a failure: trouble %q, inotify is kept: %t", trouble, kept)
	}
	waitFor(t, "another inotify", func() (again bool) {
		w.call(func() { again = w.files.notify != nil && len(w.queue.troubles) == 0 })
		return again
	})
	w.settled(Files)
	if err := os.WriteFile(filepath.Join(dir, "a.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.until(Files)
}

// TestQuiet: a directory with logs or very many files is not watched, and a
// path that is no directory blocks nothing.
func TestQuiet(t *testing.T) {
	dir := t.TempDir()
	pipe, logs := filepath.Join(dir, "pipe"), filepath.Join(dir, "logs")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o644), os.Mkdir(logs, 0o755),
		os.WriteFile(filepath.Join(logs, "error.log"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir: true, logs: false, pipe: false,
		dir + "/none": false} {
		if got := quiet(path); got != want {
			t.Errorf("%s: %t, want %t", path, got, want)
		}
	}
}
