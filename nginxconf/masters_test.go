package nginxconf

import (
	"testing"

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
		if diff := cmp.Diff(want, parseArgs(title), cmp.AllowUnexported(args{})); diff != "" {
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
