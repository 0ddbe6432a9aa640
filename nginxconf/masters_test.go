package nginxconf

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"github.com/google/go-cmp/cmp"
)

func TestParseArgs(t *testing.T) {
	for title, want := range map[string]args{
		"nginx":                                           {program: "nginx"},
		"/usr/sbin/nginx -c /a/nginx.conf":                {program: "/usr/sbin/nginx", conf: "/a/nginx.conf"},
		"nginx -cnginx.conf -p /a":                        {program: "nginx", conf: "nginx.conf", prefix: "/a"},
		"nginx -qc x.conf -pdir":                          {program: "nginx", conf: "x.conf", prefix: "dir"},
		"nginx -g daemon on; master_process on;":          {program: "nginx"},
		"nginx -g daemon off; pid /run/x.pid; -c /b.conf": {program: "nginx", pid: "/run/x.pid", conf: "/b.conf"},
		"nginx -gpid p.pid; -e stderr -c /b.conf":         {program: "nginx", pid: "p.pid", conf: "/b.conf"},
		"nginx -c":           {program: "nginx"},
		"nginx -g env A=-c;": {program: "nginx"},
		"":                   {},
	} {
		if diff := cmp.Diff(want, parseArgs(title),
			cmp.AllowUnexported(args{})); diff != "" {
			t.Errorf("%q: -want +got\n%s", title, diff)
		}
	}
}

// TestBuiltin: the arguments of configure are found wherever they stand in the
// program, and little of it is held in memory.
func TestBuiltin(t *testing.T) {
	defaults := built{"/usr/local/nginx", "conf/nginx.conf", "logs/nginx.pid"}
	if got := builtin("/nonexistent"); got != defaults {
		t.Errorf("got %+v, want %+v", got, defaults)
	}
	const arguments = "configure arguments: --prefix=/p --conf-path=/c --pid-path='/x y'\x00"
	program := filepath.Join(t.TempDir(), "nginx")
	for _, at := range []int64{0, 128<<10 - 30, 256<<10 - 30, 384<<10 - 50, 512<<10 - 30,
		200 << 20} {
		f, err := os.Create(program)
		if err != nil {
			t.Fatal(err)
		}
		_, err1 := f.WriteAt([]byte(arguments), at)
		if err := errors.Join(err1, f.Truncate(201<<20), f.Close()); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := builtin(program)
		runtime.ReadMemStats(&after)
		if want := (built{"/p", "/c", "/x y"}); got != want {
			t.Errorf("at %d: got %+v, want %+v", at, got, want)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("at %d: %d bytes of memory for a program of 201 MiB", at, used)
		}
	}
	if err := errors.Join(os.Remove(program), mkfifo(program)); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(program, os.O_RDWR, 0) // a reader would wait for it
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if got := builtin(program); got != defaults {
		t.Errorf("a pipe: got %+v, want %+v", got, defaults)
	}
}

// Masters finds a real NGINX by the network namespace it is in, and its main
// file by the rules of the command line; one in another namespace is none of
// ours.
func TestMastersOfNamespace(t *testing.T) {
	needNGINX(t)
	ns, other := nstest.New(t), nstest.New(t)
	dir := t.TempDir()
	for _, sub := range []string{"logs", "conf"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "conf/my.conf")
	if err := os.WriteFile(conf, []byte("error_log stderr; events {} http { access_log off; "+
		"client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; "+
		"uwsgi_temp_path u; scgi_temp_path s; server { listen 127.0.0.1:8099; } }"),
		0o644); err != nil {
		t.Fatal(err)
	}
	c := ns.Command("nginx", "-p", dir, "-c", "conf/my.conf",
		"-g", "user root; daemon off; pid "+filepath.Join(dir, "x.pid")+";")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Signal(syscall.SIGTERM); c.Wait() }() // its worker goes with it
	var found []Master
	for end := time.Now().Add(10 * time.Second); len(found) == 0 &&
		time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		if found, err = Masters(MastersOptions{NetNS: ns.Path}); err != nil {
			t.Fatal(err)
		}
	}
	if len(found) != 1 || found[0].PID != c.Process.Pid || found[0].Conf != conf ||
		found[0].Prefix != dir+"/" || found[0].Root != "" {
		t.Errorf("found %+v, want one, pid %d, with %s", found, c.Process.Pid, conf)
	}
	if none, err := Masters(MastersOptions{NetNS: other.Path}); err != nil || len(none) != 0 {
		t.Errorf("another namespace has %+v, %v", none, err)
	}
}
