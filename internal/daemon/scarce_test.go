package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/internal/nstest"
	"lasthop/internal/writer"
	"lasthop/routing/host"
)

// fill mounts a file system with no room for a file over a directory. It needs
// root; the mount is in a namespace of the test's own process only.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=4k,nr_inodes=1"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	free = func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }
	t.Cleanup(free)
	return free
}

// TestRunFullRunDir: without room for the lock and the socket the daemon does
// its work and says what is wrong. Once there is room it has both.
func TestRunFullRunDir(t *testing.T) {
	s := newServer(t)
	s.Lines("link add v0 type bridge\nlink set v0 group 76") // before lasthop
	free := fill(t, s.File("run"))
	s.StartNginx()
	s.start()
	if !has(s.owned(), "from 10.0.1.") {
		t.Errorf("nothing is installed: %q", s.owned())
	}
	s.Until("both troubles", func() bool {
		w := s.status().Wrong
		return has(w, "open the lock") && has(w, "lasthop status") &&
			has(w, "no space left")
	})
	if _, errs, code := s.lasthop("status"); code != exitFailed ||
		!strings.Contains(errs, "no space left in "+s.File("run")) {
		t.Errorf("status: exit code %d, %s", code, errs)
	}
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.Reload()
	s.Until("the reload", func() bool { return has(s.owned(), "from 10.0.2.") })
	free()
	s.Until("all to be good again", func() bool { return s.status().InSync })
	if _, errs, code := s.lasthop("status"); code != exitDone {
		t.Errorf("status: exit code %d, %s", code, errs)
	}
	if _, errs, code := s.lasthop("clear"); code != exitFailed ||
		!strings.Contains(errs, "lasthop run is at work") {
		t.Errorf("clear while it runs: exit code %d, %s", code, errs)
	}
	data, err := os.ReadFile(writer.GroupsFile(s.File("run"), s.kernel.Inode()))
	if err != nil || string(data) != "v0 group 76\n" {
		t.Errorf("link groups: %q, %v", data, err)
	}
	s.kernel.GroupsFile = writer.GroupsFile(s.File("run"), s.kernel.Inode())
	if has(s.owned(), "v0") || !strings.Contains(s.IP("link show v0"), "group 76") {
		t.Errorf("a link that was in the group before counts as lasthop's: %q", s.owned())
	}
}

// TestRunRunDirRemoved: what another program removes from the run directory is
// made again, and nothing else changes.
func TestRunRunDirRemoved(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Lines("link add v0 type bridge\nlink set v0 group 76")
	s.start()
	s.kernel.GroupsFile = writer.GroupsFile(s.File("run"), s.kernel.Inode())
	want := s.owned()
	names := func() (out []string) {
		list, _ := os.ReadDir(s.File("run"))
		for _, e := range list {
			out = append(out, filepath.Ext(e.Name()))
		}
		return out
	}
	all := []string{".groups", ".lock", ".sock"}
	s.Until("the files", func() bool { return slices.Equal(all, names()) })
	for _, name := range []string{"", ".groups", ".lock", ".sock"} {
		path := s.File("run")
		if name != "" {
			path += fmt.Sprintf("/netns-%d%s", s.kernel.Inode(), name)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		s.Lines("addr add 10.0.0.77/24 dev eth0\naddr del 10.0.0.77/24 dev eth0") // a look
		s.Until(path+" to be back", func() bool { return slices.Equal(all, names()) })
	}
	s.Until("an answer", func() bool {
		st, err := s.socket().Status()
		return err == nil && st.InSync
	})
	if _, err := writer.Open(s.kernel, writer.Options{RunDir: s.File("run"),
		Inode: s.kernel.Inode()}); !errors.Is(err, writer.ErrLocked) {
		t.Errorf("the new lock is not held: %v", err)
	}
	if d := cmp.Diff(want, s.owned()); d != "" {
		t.Errorf("-before +after\n%s", d)
	}
}

// TestDoor: a socket that cannot be opened for lack of descriptors, and one
// that another program removes, are opened again.
func TestDoor(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	tries := 0
	o := door{"socket", func() (net.Listener, error) {
		if tries++; tries < 3 {
			return nil, fmt.Errorf("open: %w", unix.EMFILE)
		}
		return listenLocal(path)
	}, localHandler(newBoard()), slog.New(slog.DiscardHandler)}
	l, err := o.openFirst()
	if l != nil || err != nil {
		t.Fatalf("the first time: %v, %v", l, err)
	}
	told := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- o.keepOpen(ctx, l, func(_ string, err error) { told <- err }) }()
	hear := func(want error) {
		t.Helper()
		for end := time.After(10 * time.Second); ; {
			select {
			case err := <-told:
				if errors.Is(err, want) || err == want {
					return
				}
			case <-end:
				t.Fatalf("waited in vain for %v", want)
			}
		}
	}
	hear(unix.EMFILE)
	hear(nil)
	if _, err := (Client{path}).Status(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	hear(nil)
	if _, err := (Client{path}).Status(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

// TestDoorSetting: a fault that keeps the socket closed is an error at the
// start. A fault that keeps the metrics from their port is not: the routes come
// first.
func TestDoorSetting(t *testing.T) {
	for about, fatal := range map[string]bool{aboutSocket: true, aboutMetrics: false} {
		wrong := door{about: about, open: func() (net.Listener, error) {
			return listenMetrics("192.0.2.1:9176")
		}}
		if l, err := wrong.openFirst(); l != nil || (err != nil) != fatal {
			t.Errorf("%s: %v", about, err)
		}
	}
}

// TestRunMetricsTaken: a port that another program has keeps no route away. It
// is a trouble until the port is free.
func TestRunMetricsTaken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	file := s.File("lasthop.yaml")
	text := fmt.Sprintf("metrics: {listen: %q}\ninterfaces: {eth1: {gateways: [10.0.1.7]}}\n",
		other.Addr())
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(func(o *Options) { o.Flags.File = file })
	s.Until("the route and the trouble", func() bool {
		return has(s.owned(), "default via 10.0.1.7") &&
			has(s.status().Wrong, "listen for metrics on "+other.Addr().String())
	})
	other.Close()
	s.Until("the port", func() bool { return len(s.status().Wrong) == 0 })
}

// TestRunDeaf: if no event of the host can be received, looks replace them, and
// the trouble ends with the cause.
func TestRunDeaf(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	tell := func(e host.Event) { s.loop(func() { s.d.hostEvent(e, time.Now()) }) }
	tell(host.Event{Kind: "deaf",
		Text: "lasthop cannot read events of the host: too many open files"})
	if w := s.status().Wrong; !has(w, "too many open files") {
		t.Errorf("wrong: %q", w)
	}
	for range 2 {
		syncs := s.status().Counts.Syncs
		s.Until("a look without an event", func() bool {
			return s.status().Counts.Syncs > syncs
		})
	}
	tell(host.Event{Kind: "lost", Text: "events lost: socket opened again"})
	s.Until("the end", func() bool { return s.status().InSync })
}

// TestScarceFiles: a configuration that could not be read for lack of a
// resource is read again within a second, though no event reports the end of
// the lack. One without permission is not.
func TestScarceFiles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	s.quiet()
	for err, again := range map[error]bool{unix.EMFILE: true, unix.ENFILE: true,
		unix.ENOMEM: true, unix.EACCES: false} {
		s.loop(func() {
			i := s.d.fleet.instances[0]
			i.broken = fmt.Errorf("read nginx.conf: %w", err)
			delete(s.d.agenda, doTend)
			if s.d.tend(time.Now()); (i.broken == nil) != again {
				t.Errorf("%v: read again %t, want %t", err, i.broken == nil, again)
			}
			if in := time.Until(s.d.agenda[doTend]); in <= 0 || in > tendEvery {
				t.Errorf("the next look comes in %v", in)
			}
		})
	}
}

// TestGroupMemory: the least of the limits around counts.
func TestGroupMemory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"cgroup": "1:name=x:/\n0::/a/b/c\n",
		"sys/memory.max": "", "sys/a/memory.max": "67108864\n", "sys/a/b/memory.max": "max\n",
		"sys/a/b/c/memory.max": "99999999\n"} {
		path := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(text), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := groupMemory(dir+"/cgroup", dir+"/sys"); got != 67108864 {
		t.Errorf("%d bytes, want 64 MiB", got)
	}
	if got := groupMemory(dir+"/none", dir+"/sys"); got != 0 {
		t.Errorf("%d bytes, want none", got)
	}
}

// TestScarceMemory: too little memory is a trouble with a remedy.
func TestScarceMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	if err := scarceMemory(); err != nil {
		t.Error(err)
	}
	debug.SetMemoryLimit(1 << 20)
	if err := scarceMemory(); err == nil || !strings.Contains(hint.Of(err), "MemoryMax") {
		t.Errorf("got %v, %q", err, hint.Of(err))
	}
}

// TestEasyLogFull: a line that cannot be written is lost, and is counted.
func TestEasyLogFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	l := newEasyLog(full, journal.Place{})
	for range 3 {
		if n, err := l.Write([]byte("line\n")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		l.busy <- struct{}{}
		<-l.busy
	}
	var out nstest.Log
	l.w = &out
	_, _ = l.Write([]byte("again\n"))
	want := "again\nlevel=WARN " +
		"msg=\"log lines lost: the log did not take them in time\" lines=3\n"
	if d := cmp.Diff(want, out.Take()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
