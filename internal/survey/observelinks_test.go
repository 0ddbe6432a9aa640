package survey

import (
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"golang.org/x/sys/unix"
)

// linkCase is a host, and what the packets of its listener show.
type linkCase struct {
	name, want, codes string
	listen            string
	build             func(*street)
}

var linkCases = []linkCase{
	{"VIP on lo, by the link of the replies", "10.7.9.9:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric works", "", "10.7.9.9:80", func(s *street) {
		s.Lines(s.Host, "addr add 10.7.9.9/32 dev lo")
		s.Router.IP("route add 10.7.9.9 via 10.7.0.10")
	}},
	{"VIP on lo, by the other link", "10.7.9.9:80 off-link by eth1 10.7.1.1 -> eth0 10.7.0.1: asymmetric works", "warning asymmetric", "10.7.9.9:80", func(s *street) {
		s.Lines(s.Host, "addr add 10.7.9.9/32 dev lo")
		s.Router.IP("route add 10.7.9.9 via 10.7.1.10")
	}},
	{"bridge over a NIC", "10.7.0.10:80 off-link by br0 10.7.0.1 -> br0 10.7.0.1: symmetric works", "", "10.7.0.10:80", func(s *street) {
		s.Lines(s.Host, "link add br0 type bridge", "link set eth0 master br0",
			"link set br0 up", "addr flush dev eth0", "addr add 10.7.0.10/24 dev br0",
			"route add default via 10.7.0.1")
	}},
	{"VIP on a macvlan", "10.7.1.200:80 off-link by vrrp 10.7.1.1 -> eth1 10.7.1.1: symmetric works", "", "10.7.1.200:80", func(s *street) {
		s.Lines(s.Host, "link add vrrp link eth1 address 00:00:5e:00:01:33 type macvlan mode private",
			"link set vrrp up", "addr add 10.7.1.200/32 dev vrrp",
			"route replace default via 10.7.1.1 dev eth1")
		s.Host.Sysctl("net.ipv4.conf.all.arp_ignore=1")
		s.Host.Sysctl("net.ipv4.conf.all.arp_announce=2")
	}},
	{"tunnel", "10.9.0.2:80 off-link by tun0 -> tun0: symmetric works", "", "10.9.0.2:80", (*street).tunnel},
	{"one subnet on two NICs", "10.7.0.11:80 off-link by eth2 10.7.0.1 -> eth0 10.7.0.1: asymmetric works", "warning asymmetric", "10.7.0.11:80", func(s *street) {
		s.lan()
		s.Cable(s.Router, "r2", s.Host, "eth2")
		s.Router.IP("link set r2 master lan")
		s.Lines(s.Host, "addr add 10.7.0.11/24 dev eth2")
		s.Host.Sysctl("net.ipv4.conf.all.arp_ignore=1")
		s.Host.Sysctl("net.ipv4.conf.all.arp_announce=2")
	}},
	{"strict rp_filter of its own", "10.7.1.100:80 off-link by eth1 10.7.1.1 -> : unanswered dark", "error dark, warning seen-gateway", "10.7.1.100:80", func(s *street) {
		s.Host.Sysctl("net.ipv4.conf.eth1.rp_filter=1")
	}},
	{"output chain of its own", "10.7.0.10:80 off-link by eth0 10.7.0.1 -> : unanswered dark", "error dark", "10.7.0.10:80", func(s *street) {
		s.nft(s.Host, "table ip t { chain c { type filter hook output priority 0; tcp sport 80 drop; }; }")
	}},
	{"replies lost behind the router", "10.7.0.10:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric dark", "error dark", "10.7.0.10:80", func(s *street) {
		s.nft(s.Router, "table ip t { chain c { type filter hook forward priority 0; tcp sport 80 drop; }; }")
	}},
	{"DNAT to a container", "10.7.0.10:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric works", "", "10.7.0.10:80", (*street).container},
	{"LVS with direct routing", "10.7.0.77:80 off-link by eth0 10.7.0.5 -> eth0 10.7.0.1: other-router works", "info other-router", "10.7.0.77:80", func(s *street) {
		s.director()
		s.Lines(s.Host, "addr add 10.7.0.77/32 dev lo")
	}},
}

// TestObserveLinks: each kind of link shows the way that it is. A bridge, its
// port and a macvlan's parent are one wire.
func TestObserveLinks(t *testing.T) {
	t.Parallel()
	for _, tt := range linkCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			s.listens = []string{tt.listen}
			tt.build(s)
			if !strings.HasPrefix(tt.name, "DNAT") {
				s.Serve(s.Host, tt.listen)
			}
			seen := s.observe(tt.want, nstest.Knock(s.Client, tt.listen, 4,
				"198.51.100.2", "198.51.100.3"))
			want(t, tt.codes, codes(seen))
		})
	}
}

// lan makes the router's link to eth0 a bridge, for further stations.
func (s *street) lan() {
	s.Lines(s.Router, "link add lan type bridge", "link set lan up", "addr flush dev r0",
		"link set r0 master lan", "addr add 10.7.0.1/24 dev lan")
}

// director puts a station on the LAN that hands requests for 10.7.0.77 to the
// host, which answers by the router.
func (s *street) director() {
	s.lan()
	d := nstest.New(s.t)
	s.Cable(s.Router, "r2", d, "d0")
	s.Router.IP("link set r2 master lan")
	d.Sysctl("net.ipv4.ip_forward=1")
	d.Sysctl("net.ipv4.conf.all.send_redirects=0")
	s.Lines(d, "addr add 10.7.0.5/24 dev d0", "route add default via 10.7.0.1",
		"route add 10.7.0.77 via 10.7.0.10")
	s.Router.IP("route add 10.7.0.77 via 10.7.0.5")
}

// container puts a server behind a bridge of the host, and leads port 80 there.
func (s *street) container() {
	c := nstest.New(s.t)
	s.Cable(s.Host, "veth0", c, "eth0")
	s.Lines(s.Host, "link add docker0 type bridge", "link set docker0 up",
		"addr add 172.17.0.1/24 dev docker0", "link set veth0 master docker0")
	s.Lines(c, "addr add 172.17.0.2/24 dev eth0", "route add default via 172.17.0.1")
	s.Host.Sysctl("net.ipv4.ip_forward=1")
	s.nft(s.Host, "table ip t { chain c { type nat hook prerouting priority -100; "+
		"ip daddr 10.7.0.10 tcp dport 80 dnat to 172.17.0.2:80; }; }")
	s.Serve(c, "172.17.0.2:80")
}

// tunnel joins router and host by a tunnel without link headers, and answers
// the client through it.
func (s *street) tunnel() {
	a, b := s.tun(s.Router), s.tun(s.Host)
	go pump(a, b)
	go pump(b, a)
	s.Router.IP("addr add 10.9.0.1/30 dev tun0")
	s.Lines(s.Host, "addr add 10.9.0.2/30 dev tun0", "route add 198.51.100.0/24 dev tun0")
}

// tun makes a tunnel in a namespace, and returns its other end.
func (s *street) tun(n *nstest.NS) (end *os.File) {
	n.IP("tuntap add tun0 mode tun")
	n.IP("link set tun0 up")
	n.Do(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			s.t.Error(err)
			return
		}
		req, _ := unix.NewIfreq("tun0")
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			s.t.Error(err)
		}
		end = os.NewFile(uintptr(fd), "tun0")
	})
	if end == nil {
		s.t.Fatal("no tunnel")
	}
	s.t.Cleanup(func() { end.Close() })
	return end
}

func pump(from, to *os.File) {
	b := make([]byte, 2048)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		_, _ = to.Write(b[:n]) // as lossy as a network
	}
}

func (s *street) nft(n *nstest.NS, rules string) {
	s.t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		s.t.Skip(err)
	}
	n.Run("nft", rules)
}

// TestObserveLongLived: a connection that is older than the window is
// confirmed by acknowledged payload.
func TestObserveLongLived(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.Serve(s.Host, "10.7.1.100:80")
	var c net.Conn
	var err error
	s.Client.Do(func() { c, err = net.Dial("tcp", "10.7.1.100:80") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.observe(`10.7.1.100:80 off-link by eth1 10.7.1.1 -> eth0 10.7.0.1: asymmetric works`,
		chat(c, 20))
}

// chat asks and waits for the answer, several times a second.
func chat(c net.Conn, times int) func() {
	return func() {
		for range times {
			_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Write([]byte("GET\n")); err != nil {
				return
			}
			n, _ := c.Read(make([]byte, 64))
			_, _ = c.Read(make([]byte, n)) // nothing: waits for the deadline
		}
	}
}

// TestObserveDatagrams: UDP and ping show ways, but no outcome: packets do not
// show that a client got an answer.
func TestObserveDatagrams(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.listens = []string{"10.7.1.100:443 quic"}
	s.more.Listens = nil
	s.echo("10.7.1.100:443")
	ping := func() {
		_ = s.Client.Command("ping", "-c", "4", "-i", "0.2", "10.7.1.100").Run()
	}
	s.observe(`
10.7.1.100 ping off-link by eth1 10.7.1.1 -> eth0 10.7.0.1: asymmetric unknown
10.7.1.100:443/udp off-link by eth1 10.7.1.1 -> eth0 10.7.0.1: asymmetric unknown`,
		ping, s.datagrams("10.7.1.100:443"))
}

// TestObserveVRRP: requests come from the router's own MAC, replies go to the
// MAC that its group shares. Its announcement joins the two.
func TestObserveVRRP(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.listens = []string{"10.7.1.10:80"}
	s.Serve(s.Host, "10.7.1.10:80")
	s.Lines(s.Router, "link add v link r1 address 00:00:5e:00:01:33 type macvlan mode private",
		"link set v up", "addr add 10.7.1.254/32 dev v")
	s.Router.Sysctl("net.ipv4.conf.all.arp_ignore=1")
	s.Host.IP("route replace default via 10.7.1.254 dev eth1")
	traffic := nstest.Knock(s.Client, "10.7.1.10:80", 4)
	seen := s.observe(`10.7.1.10:80 off-link by eth1 10.7.1.1 -> eth1 10.7.1.254: same-link works`,
		traffic)
	want(t, "info same-link", codes(seen))
	announce := func() {
		s.send(s.Router, "v", "01005e000012"+"00005e000133"+"0800"+
			"45c0001c00000000ff700000"+"0a070101"+"e0000012"+"2133640100010000")
	}
	seen = s.observe(`10.7.1.10:80 off-link by eth1 10.7.1.1 -> eth1 10.7.1.254: symmetric works`,
		announce, traffic)
	want(t, "", codes(seen))
}

// send sends a frame, in hexadecimal, from a link.
func (s *street) send(n *nstest.NS, link, frame string) {
	b, err := hex.DecodeString(frame)
	if err != nil {
		s.t.Error(err)
		return
	}
	n.Do(func() {
		i, err := net.InterfaceByName(link)
		if err != nil {
			s.t.Error(err)
			return
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			s.t.Error(err)
			return
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
		if err != nil {
			s.t.Error(err)
		}
	})
}

// TestObserveTwoRouters: a second router of the LAN sends requests, and the
// replies go to the first. It works while that one delivers them, and is dark
// where it does not. A probe names the second router.
func TestObserveTwoRouters(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.listens = []string{"10.7.0.10:80"}
	s.Serve(s.Host, "10.7.0.10:80")
	second := nstest.New(t)
	s.lan()
	s.Cable(s.Router, "r2", second, "lan0")
	s.Router.IP("link set r2 master lan")
	s.Cable(second, "rc", s.Client, "c1")
	second.Sysctl("net.ipv4.ip_forward=1")
	s.Lines(second, "addr add 10.7.0.2/24 dev lan0", "addr add 192.0.2.1/24 dev rc")
	s.Lines(s.Client, "addr add 192.0.2.2/24 dev c1", "addr add 192.0.2.3/24 dev c1",
		"rule add from 192.0.2.0/24 lookup 9", "route add default via 192.0.2.1 table 9")
	s.Router.IP("route add 192.0.2.0/24 via 198.51.100.2")
	// The host knows the second router by no address.
	s.Lines(second, "neigh replace 10.7.0.10 dev lan0 lladdr "+s.mac("eth0"))
	traffic := nstest.Knock(s.Client, "10.7.0.10:80", 4, "192.0.2.2", "192.0.2.3")
	s.probe = true
	seen := s.observe(`10.7.0.10:80 off-link by eth0 10.7.0.2 -> eth0 10.7.0.1: other-router works`,
		traffic, chatter(s.Client, "192.0.2.2"))
	want(t, "info other-router", codes(seen))
	if w := seen.Listeners[0].Ways[0]; w.In.Source != "probe" {
		t.Errorf("the router is named by %s, want by a probe", w.In.Source)
	}

	s.Router.IP("route replace blackhole 192.0.2.0/24")
	seen = s.observe(`10.7.0.10:80 off-link by eth0 10.7.0.2 -> eth0 10.7.0.1: other-router dark`,
		traffic)
	want(t, "error dark, warning seen-gateway", codes(seen))
}

// chatter asks for a second more, so that a probe falls into the window.
func chatter(n *nstest.NS, from string) func() {
	return func() {
		for range 5 {
			nstest.Ask(n, "tcp", from, "10.7.0.10:81", 200*time.Millisecond)
		}
	}
}

// mac is the Ethernet address of a link of the host.
func (s *street) mac(link string) (mac string) {
	s.Host.Do(func() {
		if i, err := net.InterfaceByName(link); err == nil {
			mac = i.HardwareAddr.String()
		}
	})
	return mac
}

// TestObserveRouterAdvertisements: two routers announce themselves, and the one
// that replies do not go to sends the requests. Its announcement names it.
func TestObserveRouterAdvertisements(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.listens = []string{"[2001:db8:0::10]:80"}
	s.Serve(s.Host, "[2001:db8:0::10]:80")
	second := nstest.New(t)
	s.lan()
	s.Lines(s.Router, "addr add 2001:db8:0::1/64 dev lan nodad",
		"addr add fe80::1/64 dev lan nodad")
	s.Cable(s.Router, "r2", second, "lan0")
	s.Router.IP("link set r2 master lan")
	s.Cable(second, "rc", s.Client, "c1")
	second.Sysctl("net.ipv6.conf.all.forwarding=1")
	s.Lines(second, "link set lan0 address 02:00:00:00:00:02",
		"addr add 2001:db8:0::2/64 dev lan0 nodad",
		"addr add 2001:db8:d::1/64 dev rc nodad",
		"neigh replace 2001:db8:0::10 dev lan0 lladdr "+s.mac("eth0"))
	s.Lines(s.Client, "addr add 2001:db8:d::2/64 dev c1 nodad",
		"-6 rule add from 2001:db8:d::/64 lookup 9",
		"-6 route add default via 2001:db8:d::1 table 9")
	s.Router.IP("-6 route add 2001:db8:d::/64 via 2001:db8:c::2")
	announce := func() { // hop limit 255, from fe80::2 to all nodes
		s.send(second, "lan0", "333300000001"+"020000000002"+"86dd"+"6000000000103aff"+
			"fe800000000000000000000000000002"+"ff020000000000000000000000000001"+
			"86000000400007080000000000000000")
	}
	seen := s.observe(`[2001:db8::10]:80 off-link by eth0 fe80::2 -> eth0 2001:db8::1: other-router works`,
		announce, nstest.Knock(s.Client, "[2001:db8:0::10]:80", 4, "2001:db8:d::2"))
	if w := seen.Listeners[0].Ways[0]; w.In.Source != "RA" {
		t.Errorf("the router is named by %s, want by its announcement", w.In.Source)
	}
	want(t, "info other-router", codes(seen))
}
