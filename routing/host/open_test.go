package host

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
)

func TestNamespacePath(t *testing.T) {
	for name, want := range map[string]string{"": "", "blue": "/run/netns/blue",
		"4711": "/proc/4711/ns/net", "/proc/self/ns/net": "/proc/self/ns/net",
		"./ns": "./ns"} {
		if got := NamespacePath(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, name := range []string{"no-such-name", "/no/such/path", "2147483647"} {
		_, err := Open(name)
		if !errors.Is(err, fs.ErrNotExist) ||
			!strings.Contains(err.Error(), NamespacePath(name)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := Open("/etc/passwd"); err == nil ||
		!strings.Contains(err.Error(), "/etc/passwd") {
		t.Errorf("a file that is no namespace: error %v", err)
	}
}

// A namespace opened by a process's number is that process's, also when it has
// ended, and the caller stays where it was.
func TestOpenPID(t *testing.T) {
	ns := nstest.New(t)
	ns.IP("link add marker type veth peer name other")
	c := ns.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	here, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	k := here
	// until nsenter has entered
	for deadline := time.Now().Add(5 * time.Second); k.Inode() == here.Inode(); time.Sleep(
		time.Millisecond) {
		if k, err = Open(strconv.Itoa(c.Process.Pid)); err != nil ||
			time.Now().After(deadline) {
			t.Fatalf("the process does not enter its namespace: %v", err)
		}
		defer k.Close()
	}
	c.Process.Kill()
	c.Wait()
	if h := read(t, k); len(h.Links) != 3 || h.Sysctls["ipv4.conf.marker.rp_filter"] != "0" {
		t.Errorf("links %v, want lo, marker and other, and their sysctls", h.Links)
	}
	if k.Own() {
		t.Error("another namespace is taken for the process's own")
	}
	again, err := Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Inode() != here.Inode() {
		t.Error("reading another namespace moved this process")
	}
	if !here.Own() || !again.Own() {
		t.Error("the process's own namespace is not known as such")
	}
}

// Links that come and go while the host is read neither fail the read nor leave
// names without a link.
func TestReadWhileLinksChange(t *testing.T) {
	ns, k := open(t, uplinks)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			c := ns.Command("ip", "-batch", "-")
			c.Stdin = strings.NewReader("link add v0 type veth peer name v1\n" +
				"link set v0 up\nlink set v1 up\naddr add 10.7.0.1/24 dev v0\n" +
				"route add 10.8.0.0/16 via 10.7.0.2\n" +
				"neigh add 10.7.0.2 dev v0 lladdr 02:00:00:00:00:01\nlink del v0\n")
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	}()
	for reading := true; reading; {
		h := read(t, k)
		for _, link := range linksOf(h) {
			if !slices.ContainsFunc(h.Links,
				func(l routing.Link) bool { return l.Name == link }) {
				t.Errorf("link %q is not listed", link)
			}
		}
		select {
		case <-done:
			reading = false
		default:
		}
	}
}

// linksOf returns every link that is named anywhere.
func linksOf(h routing.Host) (names []string) {
	for _, a := range h.Addrs {
		names = append(names, a.Link)
	}
	for _, n := range h.Neighs {
		names = append(names, n.Link)
	}
	for _, r := range h.Routes {
		for _, hop := range r.Hops {
			names = append(names, hop.Link)
		}
	}
	return names
}

// Reading needs no privilege: a user without any opens the namespace that the
// process is in.
func TestOpenOwnWithoutPrivilege(t *testing.T) {
	if os.Getenv("LASTHOP_TEST_PLAIN") != "" {
		k, err := Open("")
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		if _, err := k.Read(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 || os.Getenv("LASTHOP_TEST_USERNS") != "" {
		t.Skip("no other user to become") // in a user namespace there is but one
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestOpenOwnWithoutPrivilege$")
	c.Env = append(os.Environ(), "LASTHOP_TEST_PLAIN=1", "LASTHOP_TEST_USERNS=1")
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534,
		NoSetGroups: true}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
