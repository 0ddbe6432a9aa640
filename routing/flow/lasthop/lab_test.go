package lasthop_test

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// lab is a host with two routers on one subnet and a third on another, each
// with its own clients, and nothing else knows of them:
//
//	client a --- router a --+
//	                        +-- switch -- e1  host
//	client b --- router b --+
//	client c --- router c ------------- e2
//
// main's default is by router a. Every router has a strict stateful firewall.
// It passes no packet of a connection whose beginning it did not see, and
// counts what is not for its own client.
type lab struct {
	t       testing.TB
	host    *nstest.NS
	routers map[string]*nstest.NS
	clients map[string]*nstest.NS
}

// names of the routers, and the numbers in their addresses.
var routers = []struct {
	name, link string
	subnet, at int
}{{"a", "e1", 1, 1}, {"b", "e1", 1, 254}, {"c", "e2", 2, 1}}

// strict is the rules of a router's firewall, for its client's addresses.
const strict = `table inet strict {
	counter astray {}
	chain before {
		type filter hook prerouting priority -300
		iifname "r0" ip daddr 198.51.0.0/16 ip daddr != %s counter name astray
		iifname "r0" ip6 daddr 2001:db8:a0::/44 ip6 daddr != %s counter name astray
	}
	chain forward {
		type filter hook forward priority 0
		ct state invalid drop
		iifname "r0" ct state new drop
	}
}
`

func clientAddr(family int, router string) netip.Addr {
	n := int(router[0] - 'a')
	if family == 6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::2", 0xa0+n))
	}
	return netip.MustParseAddr(fmt.Sprintf("198.51.%d.2", 100+n))
}

// vips are the host's addresses for services: on the NIC of the first subnet,
// and on lo.
var vips = map[string]map[int]netip.Addr{
	"nic": {4: netip.MustParseAddr("10.1.0.2"), 6: netip.MustParseAddr("fd01::2")},
	"lo":  {4: netip.MustParseAddr("192.0.2.10"), 6: netip.MustParseAddr("2001:db8:f::10")},
}

func newLab(t testing.TB) *lab { return newLabOf(t, plain) }

// uplink is what a lab's host has for e1 and e2, made of links of other names.
type uplink struct {
	kind string
	// `ip` commands on the host, and at the other end of its cable; %[1]s
	// is the cable, %[2]s what is to be made of it
	host, other string
}

// plain is the cable itself.
var plain = uplink{}

// connect joins two namespaces by a cable of which the host's end has a name.
func (l *lab) connect(u uplink, other *nstest.NS, at, name string) {
	l.t.Helper()
	if u.host == "" {
		l.cable(other, at, l.host, name)
		return
	}
	cable := at + "w"
	if u.other == "" {
		cable = at
	}
	l.cable(other, cable, l.host, name+"w")
	l.host.Batch(fmt.Sprintf(u.host, name+"w", name))
	// else the parent of a macvlan claims the address
	l.host.Sysctl("net.ipv4.conf." + name + "w.arp_ignore=1")
	if u.other != "" {
		other.Batch(fmt.Sprintf(u.other, cable, at))
	}
}

func newLabOf(t testing.TB, u uplink) *lab {
	t.Helper()
	l := &lab{t: t, host: nstest.New(t), routers: map[string]*nstest.NS{},
		clients: map[string]*nstest.NS{}}
	s := nstest.New(t)
	s.Batch("link add name sw0 type bridge\nlink set sw0 up\n")
	l.connect(u, s, "p0", "e1")
	s.IP("link set p0 master sw0")
	for _, r := range routers {
		router, client := nstest.New(t), nstest.New(t)
		l.routers[r.name], l.clients[r.name] = router, client
		if r.link == "e1" {
			l.cable(s, "p"+r.name, router, "r0")
			s.IP("link set p" + r.name + " master sw0")
		} else {
			l.connect(u, router, "r0", r.link)
		}
		l.cable(router, "r1", client, "c0")
		router.Sysctl("net.ipv4.ip_forward=1")
		router.Sysctl("net.ipv6.conf.all.forwarding=1")
		n := r.name[0] - 'a'
		router.Batch(fmt.Sprintf(`addr add 10.%[1]d.0.%[2]d/24 dev r0
addr add fd0%[1]d::%[2]x/64 dev r0 nodad
addr add 198.51.%[3]d.1/24 dev r1
addr add 2001:db8:%[4]x::1/64 dev r1 nodad
addr add fe80::1/64 dev r0 nodad
addr add fe80::1/64 dev r1 nodad
route add 192.0.2.0/24 via 10.%[1]d.0.2
route add 2001:db8:f::/48 via fd0%[1]d::2
`, r.subnet, r.at, 100+int(n), 0xa0+int(n)))
		if r.subnet != 1 { // the first subnet's addresses are reached by it, too
			router.Batch(fmt.Sprintf("route add 10.1.0.2/32 via 10.%[1]d.0.2\n"+
				"route add fd01::2/128 via fd0%[1]d::2\n", r.subnet))
		}
		l.firewall(router, clientAddr(4, r.name), clientAddr(6, r.name))
		client.Batch(fmt.Sprintf(`addr add %s/24 dev c0
addr add %s/64 dev c0 nodad
route add default via 198.51.%d.1
route add default via 2001:db8:%x::1
`, clientAddr(4, r.name), clientAddr(6, r.name), 100+int(n), 0xa0+int(n)))
	}
	l.host.Batch(`addr add 10.1.0.2/24 dev e1
addr add fd01::2/64 dev e1 nodad
addr add 10.2.0.2/24 dev e2
addr add fd02::2/64 dev e2 nodad
addr add 192.0.2.10/32 dev lo
addr add 2001:db8:f::10/128 dev lo nodad
addr add fe80::2/64 dev e1 nodad
addr add fe80::2/64 dev e2 nodad
route add default via 10.1.0.1
route add default via fd01::1
`)
	return l
}

func (l *lab) cable(a *nstest.NS, nameA string, b *nstest.NS, nameB string) {
	l.t.Helper()
	a.IP(fmt.Sprintf("link add %s type veth peer name %s netns %s", nameA, nameB, b.Path))
	a.IP("link set " + nameA + " up")
	b.IP("link set " + nameB + " up")
}

func (l *lab) firewall(router *nstest.NS, client4, client6 netip.Addr) {
	l.t.Helper()
	c := router.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(fmt.Sprintf(strict, client4, client6))
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// eventually reports whether f becomes true: a packet arrives a moment after it
// was sent.
func eventually(f func() bool) bool {
	for end := time.Now().Add(nstest.Patience(patience)); !f(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

// astray counts the packets that came to a router and were for another's
// client.
func (l *lab) astray() (n int) {
	l.t.Helper()
	for _, r := range l.routers {
		f := strings.Fields(r.Run("nft", "list", "counter", "inet", "strict", "astray"))
		for i := range f[:len(f)-1] {
			if f[i] == "packets" {
				packets, _ := strconv.Atoi(f[i+1])
				n += packets
			}
		}
	}
	return n
}
