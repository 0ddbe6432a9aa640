package nginxconf

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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
	builtin := func(program string) built { return new(Programs).paths(program) }
	if got := builtin("/nonexistent"); got != defaults {
		t.Errorf("got %+v, want %+v", got, defaults)
	}
	const arguments = "configure arguments: --prefix=/p --conf-path=/c --pid-path='/x y'\x00"
	program := filepath.Join(t.TempDir(), "nginx")
	for _, at := range []int64{0, 128<<10 - 30, 256<<10 - 30, 384<<10 - 50, 512<<10 - 30,
		60 << 20} {
		f, err := os.Create(program)
		if err != nil {
			t.Fatal(err)
		}
		_, err1 := f.WriteAt([]byte(arguments), at)
		if err := errors.Join(err1, f.Truncate(250<<20), f.Close()); err != nil {
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
			t.Errorf("at %d: %d bytes of memory for a program of 250 MiB", at, used)
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

// TestConfigured: it finds configure's arguments, in time proportional to their
// length.
func TestConfigured(t *testing.T) {
	for line, want := range map[string]built{
		"": defaults,
		" --prefix=/a --conf-path='/b c' --with-x --pid-path=d": {"/a", "/b c", "d"},
		" --with-cc-opt='-g --prefix' --prefix='":               {"", defaults.conf, defaults.pid},
		" --prefix= --pid-path":                                 {"", defaults.conf, ""},
	} {
		if got := configured(line); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
	line := strings.Repeat(" --prefix='", maxLine/11)
	plain := quickest(func() { strings.Fields(line) })
	if took := quickest(func() { configured(line) }); took > 5*time.Millisecond+200*plain {
		t.Errorf("%d bytes take %v", len(line), took)
	}
}

// quickest is the shortest time of three.
func quickest(f func()) time.Duration {
	best := time.Duration(math.MaxInt64)
	for range 3 {
		began := time.Now()
		f()
		best = min(best, time.Since(began))
	}
	return best
}

// TestPrograms: a program is read once, until it changes, and a look reads no
// more than maxPrograms of all of them.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	write := func(name, prefix string, size int64) string {
		name = filepath.Join(dir, name)
		text := "configure arguments: --prefix=" + prefix + "\x00"
		err := os.WriteFile(name, []byte(text), 0o755)
		if err := errors.Join(err, os.Truncate(name, size)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	var p Programs
	look := func(program, want string, bytes int64) {
		t.Helper()
		before := p.read
		if got := p.paths(program); got.prefix != want || p.read-before != bytes {
			t.Errorf("%s: got %s and read %d bytes, want %s and %d", program,
				got.prefix, p.read-before, want, bytes)
		}
	}
	a := write("a", "/a", 1000)
	look(a, "/a", 1000)
	p.looked()
	look(a, "/a", 0)
	write("a", "/b", 1000)
	look(a, "/b", 1000)
	empty := filepath.Join(dir, "empty")
	err := errors.Join(os.WriteFile(empty, nil, 0o755), os.Truncate(empty, 250<<20))
	if err != nil {
		t.Fatal(err)
	}
	look(empty, defaults.prefix, maxPrograms-1000)
	c := write("c", "/c", 1000)
	look(c, defaults.prefix, 0)
	p.looked()
	look(c, "/c", 1000)
	look(empty, defaults.prefix, maxPrograms-1000)
	p.looked()
	p.looked()
	look(empty, defaults.prefix, maxPrograms)
	p.looked()
	look(empty, defaults.prefix, 0) // it has nothing in what is read of a program
	look("nginx", defaults.prefix, 0)
}

// FuzzTitle: no title of a process takes long to read.
func FuzzTitle(f *testing.F) {
	for _, title := range []string{"nginx -c /a.conf", strings.Repeat("-g ", 2700),
		strings.Repeat("a ", 4096), "nginx -g " + strings.Repeat("pid ", 2000),
		"nginx -g " + strings.Repeat("x; ", 2700), strings.Repeat("-gpid\tx ", 1000),
		strings.Repeat("-g x; ", 1300)} {
		f.Add(title)
	}
	f.Fuzz(func(t *testing.T, title string) {
		plain := quickest(func() { strings.Fields(title) })
		most := 5*time.Millisecond + 200*plain // on this machine, with its detectors
		if took := quickest(func() { parseArgs(title) }); took > most {
			t.Errorf("%d bytes take %v, want %v", len(title), took, most)
		}
	})
}

// Masters finds a real NGINX by the network namespace it is in, and its main
// file by the rules of the command line; one in another namespace is none of
// lasthop.
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
		if found, _, err = Masters(MastersOptions{NetNS: ns.Path}); err != nil {
			t.Fatal(err)
		}
	}
	if len(found) != 1 || found[0].PID != c.Process.Pid || found[0].Conf != conf ||
		found[0].Prefix != dir+"/" || found[0].Root != "" {
		t.Errorf("found %+v, want one, pid %d, with %s", found, c.Process.Pid, conf)
	}
	none, _, err := Masters(MastersOptions{NetNS: other.Path})
	if err != nil || len(none) != 0 {
		t.Errorf("another namespace has %+v, %v", none, err)
	}
}
