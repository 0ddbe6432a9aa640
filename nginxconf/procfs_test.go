package nginxconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lasthop/internal/procfs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakeProcess makes PROC/100, a process in the test's namespaces; files and
// links, where PROC is proc, replace the defaults.
func fakeProcess(t *testing.T, proc string, files, links map[string]string) {
	t.Helper()
	all := map[string]string{
		"thread-self/ns/net": "", "thread-self/ns/mnt": "", "other": "",
		"100/stat":      "100 (nginx: (x) y) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0",
		"100/status":    "Name:\tnginx\nUid:\t100000\t100000\t100000\t100000\n",
		"100/uid_map":   "         0     100000      65536\n",
		"bin/nginx":     "\x7fELF\x00configure arguments: --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --pid-path='/run/nginx.pid' --with-x\x00",
		"100/ns/unused": "", // for its directory
	}
	for name, data := range files {
		all[name] = data
	}
	for name, data := range all {
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	to := map[string]string{"ns/net": proc + "/thread-self/ns/net", "ns/mnt": proc +
		"/thread-self/ns/mnt",
		"root": "/", "cwd": "/srv/www", "exe": proc + "/bin/nginx"}
	for name, target := range links {
		to[name] = strings.ReplaceAll(target, "PROC", proc)
	}
	for name, target := range to {
		if target == "" {
			continue
		}
		if err := os.Symlink(target, filepath.Join(proc, "100", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// The main file of a master by its command line, its program and its
// namespaces.
func TestMastersPaths(t *testing.T) {
	type links = map[string]string
	for _, c := range []struct {
		name, title string
		links       links
		want        string // root, prefix, main file, pid file; "" for no master of lasthop
	}{
		{"built-in paths", "nginx: master process /usr/sbin/nginx", nil, " /usr/share/nginx/ /etc/nginx/nginx.conf /run/nginx.pid"},
		{"-c is relative to the prefix", "nginx: master process nginx -c a/b.conf", nil, " /usr/share/nginx/ /usr/share/nginx/a/b.conf /run/nginx.pid"},
		{"-p is relative to the working directory", "nginx: master process nginx -p sub -ca.conf", nil, " /srv/www/sub/ /srv/www/sub/a.conf /run/nginx.pid"},
		{"-p does not move an absolute built-in path", "nginx: master process nginx -p /a", nil, " /a/ /etc/nginx/nginx.conf /run/nginx.pid"},
		{"-g moves the pid file", "nginx: master process nginx -g daemon off; pid x.pid;", nil, " /usr/share/nginx/ /etc/nginx/nginx.conf /usr/share/nginx/x.pid"},
		{"another mount namespace", "nginx: master process nginx -c /nonexistent/a.conf", links{"ns/mnt": "PROC/other"}, "PROC/100/root /usr/share/nginx/ /nonexistent/a.conf /run/nginx.pid"},
		{"another mount namespace with our files, as a sandbox has", "nginx: master process nginx -c /dev/null", links{"ns/mnt": "PROC/other"}, " /usr/share/nginx/ /dev/null /run/nginx.pid"},
		{"a chroot", "nginx: master process nginx", links{"root": "PROC/bin"}, "PROC/100/root /usr/share/nginx/ /etc/nginx/nginx.conf /run/nginx.pid"},
		{"a program without arguments in it", "nginx: master process nginx", links{"exe": "PROC/other"}, " /usr/local/nginx/ /usr/local/nginx/conf/nginx.conf /usr/local/nginx/logs/nginx.pid"},
		{"a process that ends while it is looked at", "nginx: master process nginx", links{"root": "PROC/gone"}, ""},
		{"a process that has no program any more, but still a root", "nginx: master process nginx", links{"exe": "", "root": "PROC/bin"}, ""},
		{"another network namespace", "nginx: master process nginx", links{"ns/net": "PROC/other"}, ""},
		{"a worker", "nginx: worker process", nil, ""},
		{"a program that reads about it", "less\x00nginx: master process nginx", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			proc := t.TempDir()
			fakeProcess(t, proc, map[string]string{"100/cmdline": c.title + "\x00\x00"},
				c.links)
			found, _, err := Masters(MastersOptions{Proc: procfs.Dir(proc),
				Everyone: true})
			if err != nil {
				t.Fatal(err)
			}
			var got string
			for _, m := range found {
				got += strings.Join([]string{m.Root, m.Prefix, m.Conf, m.PIDFile},
					" ")
				if m.PID != 100 || m.Started != 4711 || m.UID != 0 ||
					m.Unverified != nil {
					t.Errorf("got %+v, want pid 100, started 4711, user 0 of "+
						"its namespace, verified", m)
				}
			}
			if diff := cmp.Diff(c.want,
				strings.ReplaceAll(got, proc, "PROC")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Without CAP_SYS_PTRACE the namespaces of a process cannot be read: only the
// command line is known, and Unverified reports it.
func TestMastersUnprivileged(t *testing.T) {
	proc := t.TempDir()
	fakeProcess(t, proc, map[string]string{"100/cmdline": "nginx: master process " +
		"/nonexistent/nginx -c /a.conf\x00",
		"closed/net": "", "net/dev": "", "away/dev": ""},
		map[string]string{"ns/net": "PROC/closed/net", "net": "PROC/net",
			"../thread-self/net": "PROC/net"})
	if err := os.Chmod(filepath.Join(proc, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	// so that it can be removed
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(proc, "closed"), 0o755) })
	var found []Master
	var err error
	withoutCapabilities(t, func() {
		found, _, err = Masters(MastersOptions{Proc: procfs.Dir(proc), Everyone: true})
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("got %+v, %v, want one master", found, err)
	}
	m := found[0]
	e, ok := errors.AsType[*Error](m.Unverified)
	if !ok || !errors.Is(e, fs.ErrPermission) || !strings.Contains(e.Hint(), "CAP_SYS_PTRACE") {
		t.Errorf("unverified: %v, want a permission error with a hint", m.Unverified)
	}
	// the kernel shows all users the namespace nevertheless
	link := filepath.Join(proc, "100/net")
	err = errors.Join(os.Remove(link), os.Symlink(proc+"/away", link))
	withoutCapabilities(t, func() {
		found, _, _ = Masters(MastersOptions{Proc: procfs.Dir(proc), Everyone: true})
	})
	if err != nil || len(found) > 0 {
		t.Errorf("of another network namespace: %+v, %v", found, err)
	}
	if m.Conf != "/a.conf" || m.Root != "" || m.Exe != "/nonexistent/nginx" {
		t.Errorf("got %+v, want what the command line says", m)
	}
}

// TestMastersOwner: whose a process is comes before anything of it is read.
func TestMastersOwner(t *testing.T) {
	const title = "nginx: master process nginx -c /a.conf\x00"
	uid := func(id string) string { return "Name:\tnginx\nUid:\t" + id + "\t0\t0\t0\n" }
	type files = map[string]string
	for _, tt := range []struct {
		name  string
		files files
		mode  os.FileMode // of the program
		want  string      // masters, strangers
	}{
		{"root's", files{"100/cmdline": title, "100/status": uid("0")}, 0o755, "1 0"},
		{"a user's", files{"100/status": uid("65534"), "100/comm": "m\n"}, 0o755, "0 0"},
		{"a user's that runs as nginx", files{"100/status": uid("65534"), "100/comm": "nginx\n"}, 0o755, "0 1"},
		{"no owner is known", files{"100/status": "Name:\tnginx\n"}, 0o755, "0 0"},
		{"ending", files{"100/status": ""}, 0o755, "0 0"},
		{"root's by the set-user-ID bit", files{"100/cmdline": title, "100/status": uid("0")}, 0o755 | os.ModeSetuid, "0 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			fakeProcess(t, proc, tt.files, nil)
			if tt.files["100/cmdline"] == "" { // a reader of the title waits for ever
				if err := mkfifo(filepath.Join(proc, "100/cmdline")); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Join(proc, "bin/nginx"), tt.mode); err != nil {
				t.Fatal(err)
			}
			got := make(chan string, 1)
			go func() {
				m, s, err := Masters(MastersOptions{Proc: procfs.Dir(proc)})
				if err != nil {
					t.Error(err)
				}
				got <- fmt.Sprint(len(m), len(s))
			}()
			select {
			case got := <-got:
				if got != tt.want {
					t.Errorf("got %s, want %s: masters and strangers", got,
						tt.want)
				}
			case <-time.After(10 * time.Second):
				t.Error("it waits for the process")
			}
		})
	}
}

// withoutCapabilities runs f on a thread that has none; the thread ends with
// it.
func withoutCapabilities(t *testing.T, f func()) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var none [2]unix.CapUserData
		if err = unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
			&none[0]); err == nil {
			f()
		}
	}()
	<-done
	if err != nil {
		t.Fatal("drop capabilities: ", err)
	}
}

// What cannot be read at all is an error with a hint.
func TestMastersErrors(t *testing.T) {
	for name, o := range map[string]MastersOptions{
		"proc":      {Proc: "/nonexistent", NetNS: "/"},
		"namespace": {Proc: procfs.Dir(t.TempDir()), NetNS: "/nonexistent"},
	} {
		_, _, err := Masters(o)
		if e, ok := errors.AsType[*Error](err); !ok || e.Hint() == "" ||
			!strings.Contains(e.Error(), "/nonexistent") {
			t.Errorf("%s: got %v, want an error with a hint that names /nonexistent",
				name, err)
		}
	}
}
