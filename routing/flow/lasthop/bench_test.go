package lasthop_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// costs is how a host sends datagrams of 18 bytes in BenchmarkAnswer: from an
// address that plain source routing leads, from one whose client is known, from
// one whose client is not, and from an address that no rule is for.
var costs = []struct {
	name, from string
	port       uint16
}{{"plain", "192.0.2.1", udpPort}, {"hit", "192.0.2.2", udpPort}, {"miss", "192.0.2.2", 999},
	{"other", "10.1.0.2", udpPort}}

// BenchmarkAnswer measures the cost of sending a UDP datagram of 18 bytes, as
// ratios to plain source routing in the same run. On a wire, the frames end at
// the other end of a veth, which is not their destination: this is the host's
// own work and no more. In the lab, one router forwards them to a client.
func BenchmarkAnswer(b *testing.B) {
	for _, family := range []int{4, 6} {
		b.Run(fmt.Sprint("wire/IPv", family), func(b *testing.B) { benchAnswer(b, family) })
	}
	b.Run("lab/IPv4", func(b *testing.B) {
		s := benchRouters(b)
		client, from := netip.AddrPortFrom(clientAddr(4, "a"), 4000), map[string]int{}
		fd := -1
		s.clients["a"].Do(func() { fd = benchBound(b, client) })
		for name, to := range map[string]string{"plain": "192.0.2.11", "hit": "192.0.2.10",
			"other": "10.1.0.3"} {
			at := netip.AddrPortFrom(netip.MustParseAddr(to), udpPort)
			s.host.Do(func() {
				from[name] = benchSocket(b, at.Addr(), at.Port(),
					client)
			})
			if err := unix.Sendto(fd, make([]byte, 8), 0,
				&unix.SockaddrInet4{Port: udpPort,
					Addr: at.Addr().As4()}); err != nil {
				b.Fatal(err)
			}
		}
		benchSends(b, s, from)
	})
}

// benchRouters is a lab whose host has two more addresses: one whose table has
// no programs, and one that no rule is for.
func benchRouters(b *testing.B) *steer {
	l := newLab(b)
	s := l.steer(1 << 18)
	plain, gateway := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("10.1.0.1")
	l.host.Batch("addr add 192.0.2.11/32 dev lo\naddr add 10.1.0.3/24 dev e1\n")
	s.state.Rules = append(s.state.Rules, rule(plain, table+1))
	s.state.Routes = append(s.state.Routes, byGateway(table+1, "e1", gateway, ""))
	s.state.Sort()
	s.install()
	return s
}

// benchBound is a socket without a reader.
func benchBound(b *testing.B, at netip.AddrPort) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()),
			Addr: at.Addr().As4()})
	}
	if err != nil {
		b.Error(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return fd
}

func benchAnswer(b *testing.B, family int) {
	address := func(s string) netip.Addr {
		a := netip.MustParseAddr(s)
		if family == 6 {
			v4 := a.As4()
			a = netip.MustParseAddr(fmt.Sprintf("fd00:%x:%x::%x", v4[0], v4[1], v4[3]))
		}
		return a
	}
	s := benchLab(b, address)
	client := netip.AddrPortFrom(address("198.51.100.2"), 4000)
	sockets := map[string]int{}
	for _, c := range costs {
		s.host.Do(func() {
			sockets[c.name] = benchSocket(b, address(c.from), c.port,
				client)
		})
	}
	benchSends(b, s, sockets)
}

func benchSends(b *testing.B, s *steer, sockets map[string]int) {
	b.Helper()
	const batch = 100
	payload := make([]byte, 18)
	times := map[string][]float64{}
	for b.Loop() {
		for name, fd := range sockets {
			start := time.Now()
			for range batch {
				if err := unix.Send(fd, payload, 0); err != nil {
					b.Fatal(name, err)
				}
			}
			times[name] = append(times[name], float64(time.Since(start))/batch)
		}
	}
	counts := s.counts()
	if want := uint64(len(times["hit"]) * batch); counts.Answered < want ||
		counts.ByTable > want*11/10 {
		b.Errorf("the programs counted %+v, of %d hits", counts, want)
	}
	median := func(name string) float64 {
		slices.Sort(times[name])
		return times[name][len(times[name])/2]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median("plain"), "ns/plain-send")
	for name := range sockets {
		if name != "plain" {
			b.ReportMetric(median(name)/median("plain"), name+"/plain")
		}
	}
}

func benchSocket(b *testing.B, from netip.Addr, port uint16, to netip.AddrPort) int {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, port)),
		net.UDPAddrFromAddrPort(to))
	if err != nil {
		b.Error(err)
		return -1
	}
	b.Cleanup(func() { conn.Close() })
	fd := -1
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int(f) })
	}
	if err != nil {
		b.Error(err)
	}
	return fd
}

// benchLab is a host with one link. Its tables are one without programs for the
// first address, and one with them for the second, of which a client is known.
func benchLab(b *testing.B, address func(string) netip.Addr) *steer {
	host, peer := nstest.New(b), nstest.New(b)
	host.IP(fmt.Sprintf("link add e1 type veth peer name r0 netns %s", peer.Path))
	peer.IP("link set r0 up")
	host.IP("link set e1 up")
	gateway := address("10.1.0.1")
	for _, a := range []string{"10.1.0.2", "192.0.2.1", "192.0.2.2"} {
		host.IP(fmt.Sprintf("addr add %s dev e1", netip.PrefixFrom(address(a),
			gateway.BitLen())))
	}
	host.IP(fmt.Sprintf("neigh add %s dev e1 lladdr 02:00:00:00:00:77", gateway))
	host.IP(fmt.Sprintf("route add default via %s dev e1 onlink", gateway))
	s := newSteer(b, host, 1<<18)
	s.state.Filters = []routing.Filter{filter("e1", s.name())}
	s.state.Wanted = wanted(address("192.0.2.2"))
	s.state.Rules = []routing.Rule{rule(address("192.0.2.1"), table+1),
		rule(address("192.0.2.2"), table)}
	s.state.Routes = []routing.Route{byGateway(table, "e1", gateway, s.name()),
		byGateway(table+1, "e1", gateway, "")}
	s.state.Sort()
	s.install()
	newSender(b, peer, "r0").send(framed(macOf(b, host, "e1"), []byte{2, 0, 0, 0, 0, 0x77}, -1,
		datagram(netip.AddrPortFrom(address("198.51.100.2"), 4000),
			netip.AddrPortFrom(address("192.0.2.2"), udpPort))))
	return s
}
