package host

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// opened is a socket of the net package.
type opened interface {
	Close() error
	File() (*os.File, error)
}

// inodeOf keeps a socket open while the test runs, and returns its inode.
func inodeOf(t *testing.T, s opened) (uint32, bool) {
	f, err := s.File()
	if err != nil {
		t.Error(err)
		return 0, false
	}
	t.Cleanup(func() { f.Close(); s.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Error(err)
		return 0, false
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino), true
}

// oneCgroup wants that the sockets, which one process has opened, are in one
// cgroup, and forgets it.
func oneCgroup(t *testing.T, list []Socket) {
	for n := range list {
		if list[n].Cgroup != list[0].Cgroup {
			t.Errorf("cgroups %d and %d", list[n].Cgroup, list[0].Cgroup)
		}
	}
	for n := range list {
		list[n].Cgroup = 0
	}
}

// It lists sockets that wait for clients, with the inode that their owner's
// descriptors show; it does not list connections, or sockets of another
// namespace.
func TestSockets(t *testing.T) {
	ns, k := open(t)
	var want []Socket
	keep := func(s opened, at net.Addr, transport routing.Transport, v6only bool) {
		if inode, ok := inodeOf(t, s); ok {
			want = append(want, Socket{netip.MustParseAddrPort(at.String()), transport,
				v6only, inode, 0})
		}
	}
	ns.Do(func() {
		for _, tt := range []struct {
			network, addr string
			v6only        bool
		}{{"tcp4", "127.0.0.1:80", false}, {"tcp4", "0.0.0.0:81", false},
			{"tcp6", "[::1]:80", true}, {"tcp6", "[::]:82", true},
			{"tcp", "[::]:83", false}} {
			l, err := net.Listen(tt.network, tt.addr)
			if err != nil {
				t.Error(err)
				continue
			}
			keep(l.(*net.TCPListener), l.Addr(), routing.TCP, tt.v6only)
		}
		for _, addr := range []string{"127.0.0.1:53", "[::1]:53"} {
			c, err := net.ListenPacket("udp", addr)
			if err != nil {
				t.Error(err)
				continue
			}
			keep(c.(*net.UDPConn), c.LocalAddr(), routing.UDP, addr[0] == '[')
		}
		for _, network := range []string{"tcp", "udp"} {
			port := map[string]string{"tcp": "80", "udp": "53"}[network]
			c, err := net.Dial(network, "127.0.0.1:"+port)
			if err != nil {
				t.Error(err)
				continue
			}
			t.Cleanup(func() { c.Close() })
		}
	})
	got, err := k.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	oneCgroup(t, got)
	byLocal := func(a, b Socket) int { return a.Local.Compare(b.Local) }
	slices.SortFunc(got, byLocal)
	slices.SortFunc(want, byLocal)
	if diff := cmp.Diff(want, got,
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
