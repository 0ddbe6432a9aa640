package sockets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/internal/procfs"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// TestMain is also a program that listens: argv[0] is its title, argv[1:] are
// the addresses.
func TestMain(m *testing.M) {
	if title := os.Args[0]; title == "nginx" || strings.HasPrefix(title, "nginx: ") {
		for _, addr := range os.Args[1:] {
			network := "tcp" // for [::], of both families
			if addr[0] != '[' {
				network = "tcp4"
			}
			if _, err := net.Listen(network, addr); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		fmt.Println("listening")
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(nstest.Main(m))
}

// program runs in a namespace with a title of its own, and listens on
// addresses.
func program(t *testing.T, ns *nstest.NS, title string, addrs ...string) int {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{title}, addrs...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(func() { err = c.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	said := make([]byte, 100)
	if n, err := out.Read(said); string(said[:n]) != "listening\n" {
		t.Fatalf("%s says %q, %v", title, said[:n], err)
	}
	return c.Process.Pid
}

func key(text string) Key {
	at := netip.MustParseAddrPort(text)
	return Key{at.Addr(), at.Port(), routing.TCP}
}

// TestOwner: a socket is its master's, a worker's whose master has ended,
// another NGINX's, another program's; what `nginx -t` opens is another
// program's.
func TestOwner(t *testing.T) {
	ns := nstest.New(t)
	ns.Batch("link set lo up")
	k, err := host.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	nginx := program(t, ns, "nginx: master process nginx", "127.0.0.1:80", "0.0.0.0:81",
		"[::]:82")
	opt := program(t, ns, "nginx: master process /opt/nginx", "127.0.0.1:90")
	program(t, ns, "nginx: worker process", "127.0.0.2:80")
	program(t, ns, "nginx", "127.0.0.3:80", "0.0.0.0:22")
	look, err := Take(k, "", []int{nginx, opt})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   string
		want Owner
	}{{"127.0.0.1:80", NGINX}, {"127.0.0.1:90", Another}, {"127.0.0.2:80", NGINX},
		{"127.0.0.3:80", Another}, {"127.0.0.9:22", Another}, {"127.0.0.9:80", Nobody},
		{"127.0.0.9:81", NGINX}, {"[::1]:81", Nobody}, {"127.0.0.9:82", NGINX},
		{"[::1]:82", NGINX}} {
		got := Nobody
		for _, s := range look.At(key(tt.at)) {
			got = max(got, look.Owner(s, []int{nginx}))
		}
		if got != tt.want {
			t.Errorf("%s: %d, want %d", tt.at, got, tt.want)
		}
	}
	if list, ok := look.Of(nginx); len(list) != 3 || !ok {
		t.Errorf("the master's: %v, %t", list, ok)
	}
	if list, ok := look.Of(1 << 30); ok {
		t.Errorf("of no master: %v", list)
	}
}

// fixed lists sockets that are not there.
type fixed []host.Socket

func (f fixed) Sockets() ([]host.Socket, error) {
	if f == nil {
		return nil, errors.New("no sock_diag")
	}
	return f, nil
}

// TestOwnerByCgroup: if no process may be read, the cgroup gives the owner of a
// socket; if that is not known either, the owner is unknown.
func TestOwnerByCgroup(t *testing.T) {
	if _, err := Take(fixed(nil), "", nil); err == nil {
		t.Error("no error without sock_diag")
	}
	proc := t.TempDir() // without a fd
	if err := os.MkdirAll(filepath.Join(proc, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	root := ""
	for _, dir := range cgroupRoots {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			root = dir
		}
	}
	if root == "" {
		t.Skip("no cgroup v2 is mounted here")
	}
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, cgroup string
		of           uint64
		want         Owner
	}{{"its own", "0::/\n", st.Ino, NGINX}, {"another", "0::/\n", st.Ino + 1, Another},
		{"the kernel does not say", "0::/\n", 0, Unknown},
		{"v1 alone", "5:memory:/\n", st.Ino, Unknown},
		{"outside of the namespace", "0::/../x\n", st.Ino, Unknown}} {
		err := os.WriteFile(filepath.Join(proc, "7/cgroup"), []byte(tt.cgroup), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		s := host.Socket{Local: netip.MustParseAddrPort("10.0.0.1:80"),
			Transport: routing.TCP, Inode: 5, Cgroup: tt.of}
		look, err := Take(fixed{s}, procfs.Dir(proc), []int{7})
		if err != nil {
			t.Fatal(err)
		}
		if got := look.Owner(s, []int{7}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
