package host

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// Both ends of each connection are in the namespace. An IPv6 socket that serves
// IPv4 has IPv4 addresses; listening sockets and those of other namespaces are
// not there.
func TestSessions(t *testing.T) {
	ns, k := open(t)
	var want []routing.Session
	connect := func(listen, dial string) {
		l, err := net.Listen("tcp", listen+":0")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		c, err := net.Dial("tcp",
			netip.AddrPortFrom(netip.MustParseAddr(dial), port).String())
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		here, there := c.LocalAddr().(*net.TCPAddr).AddrPort(),
			c.RemoteAddr().(*net.TCPAddr).AddrPort()
		want = append(want, routing.Session{Local: here, Remote: there},
			routing.Session{Local: there, Remote: here})
	}
	ns.Do(func() {
		connect("127.0.0.1", "127.0.0.1")
		connect("[::1]", "::1")
		connect("[::]", "127.0.0.1")
	})
	got, err := k.Sessions()
	if err != nil {
		t.Fatal(err)
	}
	byLocal := func(a, b routing.Session) int { return a.Local.Compare(b.Local) }
	slices.SortFunc(got, byLocal)
	slices.SortFunc(want, byLocal)
	if diff := cmp.Diff(want, got,
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
