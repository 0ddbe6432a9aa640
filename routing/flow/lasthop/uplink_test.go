package lasthop_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// uplinks are the kinds of links that a host has its addresses on.
var uplinks = []uplink{
	{"vlan", "link add link %[1]s name %[2]s type vlan id 5\nlink set %[2]s up",
		"link add link %[1]s name %[2]s type vlan id 5\nlink set %[2]s up"},
	{"bond", "link add name %[2]s type bond mode active-backup miimon 100\n" +
		"link set %[1]s down\nlink set %[1]s master %[2]s\nlink set %[1]s up\nlink set %[2]s up", ""},
	{"macvlan", "link add link %[1]s name %[2]s type macvlan mode bridge\nlink set %[2]s up", ""},
	{"bridge", "link add name %[2]s type bridge\nlink set %[1]s master %[2]s\nlink set %[2]s up", ""},
}

// TestUplinkKinds: on each kind of uplink every client is answered by its own
// router: TCP, fragments, a router that takes over, and through a queue that
// drops what it has no room for.
func TestUplinkKinds(t *testing.T) {
	for _, u := range uplinks {
		t.Run(u.kind, func(t *testing.T) {
			if !makes(t, u.kind) {
				t.Skipf("the kernel has no %s", u.kind)
			}
			l := newLabOf(t, u)
			l.serve()
			s := l.steer(4096)
			s.install()
			for _, r := range routers {
				for _, addr := range vips["nic"] {
					l.ask(r.name, addr, "at first")
				}
			}
			if n := l.astray(); n > 0 {
				t.Errorf("%d packets went astray", n)
			}
			l.throttle(s)
			s.failOver("c", 20_000_000)
		})
	}
}

// throttle lets the queue of the second uplink drop packets that the program
// redirects to it: CVE-2023-53338 was that the kernel went on with them.
func (l *lab) throttle(s *steer) {
	l.t.Helper()
	l.host.Run(strings.Fields("tc qdisc add dev e2 root tbf rate 2mbit burst 5kb limit 5kb")...)
	addr := vips["nic"][4]
	dropped := func() (n int) {
		stats := l.host.Run("tc", "-s", "qdisc", "show", "dev", "e2")
		for line := range strings.Lines(stats) {
			if _, after, ok := strings.Cut(line, "(dropped "); ok {
				fmt.Sscanf(after, "%d", &n)
				return n
			}
		}
		return 0
	}
	for end := time.Now().Add(nstest.Patience(20 * time.Second)); dropped() < 200; {
		if c, err := dial(l.clients["c"], "udp", addr, udpPort); err == nil {
			_, _ = c.Write([]byte{0, 0, 60000 >> 8, 60000 & 0xff, 0, 0, 0, 0}) // loses
			c.Close()
		}
		time.Sleep(20 * time.Millisecond)
		if time.Now().After(end) {
			l.t.Errorf("the queue has dropped %d packets, not 200", dropped())
			break
		}
	}
	l.host.Run("tc", "qdisc", "del", "dev", "e2", "root")
	l.ask("c", addr, "after the queue dropped packets")
}

// ask has the client of a router ask for everything.
func (l *lab) ask(router string, addr netip.Addr, when string) {
	l.t.Helper()
	for _, k := range kinds {
		if err := k.ask(l.clients[router], addr); err != nil {
			l.t.Errorf("%s by router %s to %s, %s: %v", k.name, router, addr, when, err)
		}
	}
}

// makes reports whether the kernel has a kind of links.
func makes(t *testing.T, kind string) bool {
	n := nstest.New(t)
	n.IP("link add v0 type veth peer name v1")
	more := map[string][]string{"vlan": {"link", "v0", "name", "x0", "type", "vlan", "id", "5"},
		"macvlan": {"link", "v0", "name", "x0", "type", "macvlan"}}[kind]
	if more == nil {
		more = []string{"name", "x0", "type", kind}
	}
	return n.Command(append([]string{"ip", "link", "add"}, more...)...).Run() == nil
}
