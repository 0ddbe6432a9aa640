package procfs

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fake makes a /proc with these files and symbolic links.
func fake(t *testing.T, files, links map[string]string) Dir {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, text := range files {
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		if err := os.Symlink(to, path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return Dir(dir)
}

// TestFake: the result of each function for the files of a process.
func TestFake(t *testing.T) {
	d := fake(t, map[string]string{
		"7/stat": "7 (a) b (c) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0", "7/comm": "a) b (c\n",
		"7/cmdline": "nginx: worker process\x00\x00", "20/stat": "20 (x) S 1", "100/cmdline": "",
		"self/stat": "", "1000/stat": "1000 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x",
	}, map[string]string{
		"7/fd/0": "/dev/null", "7/fd/1": "socket:[4242]", "7/fd/2": "pipe:[43]", "7/fd/3": "socket:[99999999999]",
		"7/fd/4": "anon_inode:[eventpoll]",
	})
	pids, err := d.Processes()
	if diff := cmp.Diff([]int{7, 20, 100, 1000}, pids); diff != "" || err != nil {
		t.Errorf("processes: %v, -want +got\n%s", err, diff)
	}
	if got, err := d.Stat(7); err != nil || got != (Stat{3, 4711}) {
		t.Errorf("stat: %+v, %v, want parent 3, started 4711", got, err)
	}
	for _, pid := range []int{20, 1000} {
		if _, err := d.Stat(pid); err == nil {
			t.Errorf("stat of %d: no error", pid)
		}
	}
	comm, err1 := d.Comm(7)
	title, err2 := d.Cmdline(7)
	if err := errors.Join(err1, err2); err != nil || comm != "a) b (c" ||
		title != "nginx: worker process\x00\x00" {
		t.Errorf("got the name %q and the title %q, %v", comm, title, err)
	}
	if got, err := d.Sockets(7); err != nil || !cmp.Equal(got, []uint32{4242}) {
		t.Errorf("sockets: %v, %v, want 4242", got, err)
	}
}

// TestNetNS: two processes are in the same namespace, or are not.
func TestNetNS(t *testing.T) {
	d := fake(t, map[string]string{"blue": "", "red": ""}, map[string]string{
		"7/ns/net": "../../blue", "8/ns/net": "../../blue", "9/ns/net": "../../red",
		"thread-self/ns/net": "../../red",
	})
	var got []NS
	for _, f := range []func() (NS, error){
		func() (NS, error) { return d.NetNS(7) }, func() (NS, error) { return d.NetNS(8) },
		func() (NS, error) { return d.NetNSAt(string(d) + "/blue") },
		func() (NS, error) { return d.NetNS(9) }, func() (NS, error) { return d.NetNSAt("") },
	} {
		ns, err := f()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ns)
	}
	blue, red := got[0], got[3]
	if diff := cmp.Diff([]NS{blue, blue, blue, red, red}, got); diff != "" || blue == red {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestGone: a process that has ended gives errors that say so.
func TestGone(t *testing.T) {
	d := fake(t, nil, nil)
	for name, f := range map[string]func() error{
		"stat":    func() error { _, err := d.Stat(7); return err },
		"comm":    func() error { _, err := d.Comm(7); return err },
		"cmdline": func() error { _, err := d.Cmdline(7); return err },
		"netns":   func() error { _, err := d.NetNS(7); return err },
		"sockets": func() error { _, err := d.Sockets(7); return err },
		"all":     func() error { _, err := (d + "/none").Processes(); return err },
	} {
		if err := f(); !errors.Is(err, fs.ErrNotExist) ||
			!strings.Contains(err.Error(), string(d)) {
			t.Errorf("%s: %v, want an error that names a file that does not exist",
				name, err)
		}
	}
}

// TestBounded: a process cannot make anybody read more than a little of it.
func TestBounded(t *testing.T) {
	d := fake(t, map[string]string{"7/cmdline": "nginx: " + strings.Repeat("x", 8<<20)}, nil)
	title, err := d.Cmdline(7)
	if len(title) != maxTitle || err != nil || !strings.HasPrefix(title, "nginx: x") {
		t.Errorf("read %d bytes of a title of 8 MiB, %v, want %d", len(title), err,
			maxTitle)
	}
}

// TestOwner: the real user of a process, or an error.
func TestOwner(t *testing.T) {
	d := fake(t, map[string]string{
		"7/status":  "Name:\tUid:\nUmask:\t0022\nUid:\t33\t0\t0\t0\nGid:\t0\n",
		"8/status":  "Name:\tx\n",
		"9/status":  "",
		"10/status": "Name:\tx\nUid:\t\n"}, nil)
	if uid, err := d.Owner(7); uid != 33 || err != nil {
		t.Errorf("got %d, %v, want 33", uid, err)
	}
	for _, pid := range []int{8, 9, 10, 11} {
		if uid, err := d.Owner(pid); err == nil {
			t.Errorf("process %d is of user %d, want an error", pid, uid)
		}
	}
	if uid, err := Dir("").Owner(os.Getpid()); uid != os.Getuid() || err != nil {
		t.Errorf("our own: %d, %v", uid, err)
	}
}

// TestSharesNet: the kernel's own files tell network namespaces apart.
func TestSharesNet(t *testing.T) {
	if same, err := Dir("").SharesNet(os.Getpid()); !same || err != nil {
		t.Errorf("its own: %v, %v", same, err)
	}
	c := exec.Command("cat")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if _, err := c.StdinPipe(); err != nil { // it ends with the pipe
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Skip("needs root: ", err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	if same, err := Dir("").SharesNet(c.Process.Pid); same || err != nil {
		t.Errorf("of another namespace: %v, %v", same, err)
	}
}

// TestSelf: the real /proc says about this process what the system calls say.
func TestSelf(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	inode := uint32(info.Sys().(*syscall.Stat_t).Ino)
	pid := os.Getpid()
	if got, err := Dir("").Sockets(pid); err != nil || !slices.Contains(got, inode) {
		t.Errorf("sockets: %v, %v, want %d among them", got, err, inode)
	}
	if got, err := Dir("").Stat(pid); err != nil || got.Parent != os.Getppid() ||
		got.Started == 0 {
		t.Errorf("stat: %+v, %v, want the parent %d", got, err, os.Getppid())
	}
	if got, err := Dir("").Processes(); err != nil || !slices.Contains(got, pid) {
		t.Errorf("processes: %v, %v, want %d among them", got, err, pid)
	}
}
