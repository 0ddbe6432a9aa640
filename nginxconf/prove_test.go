package nginxconf

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// startScript starts NGINX in namespaces of its own and prints its sockets.
// NGINX returns when it is a daemon, with all sockets open; everything ends
// with the script, the first process of its pid namespace.
const startScript = `
set -e
dir=$1; shift
nsenter --mount=/proc/self/ns/mnt -- mount --make-rprivate /
for d in /run /var/log /var/lib /var/cache; do test ! -d $d || mount -t tmpfs none $d; done
mkdir -p /var/log/nginx /var/lib/nginx /var/cache/nginx
mount --bind "$dir/hosts" /etc/hosts
echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind
echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind
ip link set lo up
ip link add a0 type veth peer name a1
ip link set a0 up
ip link set a1 up
ip address add 10.9.0.1/24 dev a0
ip address add 2001:db8:9::1/64 dev a0 nodad
cd "$dir"
timeout -s KILL 2 nginx -p "$dir/" -c "$dir/nginx.conf" "$@" </dev/null >&2
ss -ltunH
`

// hosts are the names that both NGINX and Load resolve.
var hosts = map[string][]string{
	"localhost": {"127.0.0.1", "::1"}, "four.test": {"10.9.0.4"}, "six.test": {"2001:db8:9::6"}, "both.test": {"10.9.0.5", "2001:db8:9::5"},
	"many.test": {"10.9.0.7", "10.9.0.8"}, "web-1": {"10.9.0.9"}, "10.1.1.1-8003": {"10.9.0.10"},
}

// trial is one configuration in a directory of its own.
type trial struct {
	dir   string
	hosts map[string][]string
}

func newTrial(t *testing.T, files map[string]string) *trial {
	tr := &trial{dir: t.TempDir(), hosts: map[string][]string{}}
	for name, addrs := range hosts {
		tr.hosts[name] = addrs
	}
	for name, data := range files {
		name = filepath.Join(tr.dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"logs", "conf", "html"} {
		if err := os.MkdirAll(filepath.Join(tr.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func (tr *trial) resolve(host string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, a := range tr.hosts[strings.ToLower(host)] {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

// start returns the sockets that NGINX opened, or its error message.
func (tr *trial) start(t *testing.T, globals string) (sockets []string, refusal string) {
	t.Helper()
	var lines strings.Builder
	for name, addrs := range tr.hosts {
		for _, a := range addrs {
			fmt.Fprintln(&lines, a, name)
		}
	}
	if err := os.WriteFile(filepath.Join(tr.dir, "hosts"), []byte(lines.String()),
		0o644); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("LASTHOP_TEST_USERNS") != "" {
		globals += " user root;" // the only user that there is in a user namespace of one
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork",
		"--kill-child", "--mount-proc", "--propagation", "unchanged",
		"sh", "-c", startScript, "sh", tr.dir, "-g", globals)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.WaitDelay = time.Second
	if err := c.Run(); err != nil {
		return nil, fmt.Sprintf("%v: %s", err, stderr.String())
	}
	return parseSS(stdout.String()), ""
}

// modules are needed by Debian's build for stream and mail.
func modules() string {
	var s string
	for _, name := range []string{"ngx_stream_module", "ngx_mail_module"} {
		if path := "/usr/lib/nginx/modules/" + name + ".so"; exists(path) {
			s += "load_module " + path + "; "
		}
	}
	return s
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// compare holds the prediction against what NGINX opened; "" is equality. The
// kernel chooses a port for each listen that Load warns of as no-port.
func (tr *trial) compare(got []string) string {
	c, err := Load(filepath.Join(tr.dir, "nginx.conf"), Options{Resolve: tr.resolve})
	if err != nil {
		return "Load: " + err.Error()
	}
	random := 0
	for _, w := range c.Warnings {
		if w.Code == "no-port" {
			random++
		}
	}
	want := sockets(c.Listens)
	extra := slices.DeleteFunc(slices.Clone(got), func(s string) bool {
		return slices.Contains(want, s)
	})
	if len(extra) <= random {
		got = slices.DeleteFunc(slices.Clone(got), func(s string) bool {
			return slices.Contains(extra, s)
		})
	}
	return cmp.Diff(want, got)
}

func needNGINX(t *testing.T) {
	t.Helper()
	err := nstest.Available()
	for _, name := range []string{"nginx", "ss", "ip", "unshare"} {
		if err == nil {
			_, err = exec.LookPath(name)
		}
	}
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// tally counts what became of the configurations.
type tally struct {
	sync.Mutex
	matched, refused, differing int
}

func (n *tally) count(what *int) {
	n.Lock()
	defer n.Unlock()
	*what++
}

func (n *tally) String() string {
	return fmt.Sprintf("matched %d, refused %d, differing %d", n.matched, n.refused,
		n.differing)
}

// TestSockets starts the real NGINX with each configuration of testdata/nginx
// and compares its sockets with those that follow from Load. NAME.refused.conf
// must be refused, every other must be accepted.
func TestSockets(t *testing.T) {
	needNGINX(t)
	names, err := filepath.Glob("../testdata/nginx/*")
	if err != nil {
		t.Fatal(err)
	}
	var n tally
	t.Run("nginx", func(t *testing.T) {
		for _, name := range names {
			t.Run(filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				proveOwn(t, &n, name)
			})
		}
	})
	fmt.Printf("%v (of %d own configurations)\n", &n, len(names))
	if len(names) < 60 || n.matched < 50 || n.differing > 0 {
		t.Errorf("%v of %d: want at least 60 configurations, 50 matched, none differing",
			&n, len(names))
	}
}

func proveOwn(t *testing.T, n *tally, name string) {
	tr := newTrial(t, readOwn(t, name))
	writeCertificate(t, tr.dir)
	got, refusal := tr.start(t, modules()+"error_log stderr;")
	mustRefuse := strings.Contains(name, ".refused.")
	switch {
	case refusal != "" && mustRefuse:
		n.count(&n.refused)
		_, _ = Load(filepath.Join(tr.dir, "nginx.conf"), Options{Resolve: tr.resolve})
	case refusal != "":
		t.Error("refused:", refusal)
	case mustRefuse:
		t.Error("accepted, but its name says that NGINX refuses it")
	default:
		if diff := tr.compare(got); diff != "" {
			n.count(&n.differing)
			t.Errorf("-predicted +opened\n%s", diff)
			return
		}
		n.count(&n.matched)
	}
}

// readOwn reads a configuration: one file, or a txtar archive of several.
func readOwn(t *testing.T, name string) map[string]string {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(name) != ".txtar" {
		return map[string]string{"nginx.conf": string(data)}
	}
	files := map[string]string{}
	for _, f := range txtar.Parse(data).Files {
		files[f.Name] = string(f.Data)
	}
	return files
}
