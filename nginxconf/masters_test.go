package nginxconf

import (
	"os"
	"path/filepath"
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

func TestBuiltin(t *testing.T) {
	got := builtin("/nonexistent")
	if want := (built{"/usr/local/nginx", "conf/nginx.conf", "logs/nginx.pid"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
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
