package survey

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"golang.org/x/sys/unix"
)

// kindCase is a link of the host that requests come in by, of a kind that not
// every kernel has, and its other end at the router. Both get addresses of
// 10.8.0.0/24 and 2001:db8:8::/64. The host's default is by another link.
type kindCase struct {
	name         string
	router, host []string // `ip` commands
	here, there  string   // the link, and its other end
	out4, out6   string   // where replies leave without lasthop, if not by eth0
	nameless     bool     // a link without Ethernet addresses
	more         func(*street)
}

const vlan20 = "link add link r1 name r1.20 type vlan id 20"

// tunnelled joins host and router over eth1.
func tunnelled(name, kind string) kindCase {
	add := "link add tunnel0 type " + kind
	return kindCase{name: name, here: "tunnel0", there: "tunnel0", nameless: true,
		router: []string{add + " local 10.7.1.1 remote 10.7.1.10"},
		host:   []string{add + " local 10.7.1.10 remote 10.7.1.1"}}
}

var kindCases = []kindCase{
	{name: "NIC", here: "eth1", there: "r1"}, // every kernel has one: this tries the test
	{name: "VLAN", here: "eth1.20", there: "r1.20",
		router: []string{vlan20},
		host:   []string{"link add link eth1 name eth1.20 type vlan id 20"}},
	{name: "two VLANs of a trunk", here: "eth1.20", there: "r1.20",
		out4: "eth1.10 10.9.0.1", out6: "eth1.10 2001:db8:9::1",
		router: []string{vlan20, "link add link r1 name r1.10 type vlan id 10",
			"link set r1.10 up", "addr add 10.9.0.1/24 dev r1.10",
			"addr add 2001:db8:9::1/64 dev r1.10 nodad"},
		host: []string{"link add link eth1 name eth1.20 type vlan id 20",
			"link add link eth1 name eth1.10 type vlan id 10", "link set eth1.10 up",
			"addr add 10.9.0.10/24 dev eth1.10",
			"addr add 2001:db8:9::10/64 dev eth1.10 nodad",
			"addr add fe80::10/64 dev eth1.10 nodad",
			"route replace default via 10.9.0.1",
			"-6 route del default", "-6 route add default via 2001:db8:9::1"}},
	{name: "VLAN in a VLAN", here: "inner", there: "inner",
		router: []string{"link add link r1 name outer type vlan protocol 802.1ad id 7",
			"link set outer up", "link add link outer name inner type vlan id 20"},
		host: []string{"link add link eth1 name outer type vlan protocol 802.1ad id 7",
			"link set outer up", "link add link outer name inner type vlan id 20"}},
	{name: "bond", here: "bond0", there: "sw0", more: (*street).ports,
		host: []string{"link add bond0 type bond mode active-backup miimon 100"}},
	{name: "bond that sends by each port in turn", here: "bond0", there: "sw0",
		more: (*street).ports,
		host: []string{"link add bond0 type bond mode balance-rr miimon 100"}},
	{name: "VLAN on a bond", here: "bond0.20", there: "sw0.20", more: (*street).ports,
		host: []string{"link add bond0 type bond mode active-backup miimon 100",
			"link add link bond0 name bond0.20 type vlan id 20"},
		router: []string{"link add sw0 type bridge",
			"link add link sw0 name sw0.20 type vlan id 20"}},
	{name: "bridge over a VLAN on a bond", here: "br0", there: "sw0.20", more: (*street).ports,
		host: []string{"link add bond0 type bond mode active-backup miimon 100",
			"link add link bond0 name bond0.20 type vlan id 20",
			"link add br0 type bridge", "link set bond0.20 master br0", "link set bond0 up",
			"link set bond0.20 up"},
		router: []string{"link add sw0 type bridge",
			"link add link sw0 name sw0.20 type vlan id 20"}},
	{name: "ipvlan", here: "ipvl0", there: "r1",
		host: []string{"link add link eth1 name ipvl0 type ipvlan mode l2"}},
	tunnelled("GRE", "gre"),
	tunnelled("GRE with a key, sums and numbers", "gre key 7 csum seq"),
	{name: "GRE to many", here: "tunnel0", there: "tunnel0", nameless: true,
		more:   (*street).neighbours,
		router: []string{"link add tunnel0 type gre local 10.7.1.1 key 7"},
		host:   []string{"link add tunnel0 type gre local 10.7.1.10 key 7"}},
	{name: "GRE over IPv6", here: "tunnel0", there: "tunnel0", nameless: true,
		router: []string{"link add tunnel0 type ip6gre local 2001:db8:1::1 remote 2001:db8:1::10"},
		host:   []string{"link add tunnel0 type ip6gre local 2001:db8:1::10 remote 2001:db8:1::1"}},
	{name: "WireGuard", here: "wg0", there: "wg0", nameless: true, more: (*street).wireguard,
		router: []string{"link add wg0 type wireguard"},
		host:   []string{"link add wg0 type wireguard"}},
}

// TestObserveKinds: on each kind of link that requests come in by, a connection
// is seen once, by the link that has the address, before and after `apply`, and
// dark once a firewall drops its replies.
func TestObserveKinds(t *testing.T) {
	t.Parallel()
	for _, tt := range kindCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			tt.build(s)
			s.walk(tt)
		})
	}
}

// build makes the link.
func (tt kindCase) build(s *street) {
	s.t.Helper()
	s.make(s.Host, tt.host)
	s.make(s.Router, tt.router)
	if tt.more != nil {
		tt.more(s)
	}
	s.Lines(s.Router, "link set "+tt.there+" up", "addr add 10.8.0.1/24 dev "+tt.there,
		"addr add 2001:db8:8::1/64 nodad dev "+tt.there,
		"addr replace fe80::1:1/64 nodad dev "+tt.there)
	s.Lines(s.Host, "link set "+tt.here+" up", "addr add 10.8.0.100/24 dev "+tt.here,
		"addr add 2001:db8:8::100/64 nodad dev "+tt.here,
		"addr replace fe80::10/64 nodad dev "+tt.here)
}

// make runs `ip` commands. It skips the test if the kernel has no links of a
// kind.
func (s *street) make(n *nstest.NS, lines []string) {
	s.t.Helper()
	for _, line := range lines {
		c := n.Command(append([]string{"ip"}, strings.Fields(line)...)...)
		out, err := c.CombinedOutput()
		if strings.Contains(string(out), "Unknown device type") {
			s.t.Skipf("this kernel has no such links: ip %s", line)
		}
		if err != nil {
			s.t.Fatalf("ip %s: %v\n%s", line, err, out)
		}
	}
}

// ports makes bond0 of eth1 and of a second NIC, and a switch of their other
// ends.
func (s *street) ports() {
	s.Cable(s.Router, "r2", s.Host, "eth2")
	_ = s.Router.Command("ip", "link", "add", "sw0", "type", "bridge").Run() // or is there
	s.Lines(s.Router, "link set sw0 up", "addr flush dev r1", "link set r1 master sw0",
		"link set r2 master sw0")
	s.Lines(s.Host, "addr flush dev eth1", "link set eth1 down", "link set eth2 down",
		"link set eth1 master bond0", "link set eth2 master bond0", "link set bond0 up")
}

// neighbours says behind which outer address of a tunnel to many each end is.
func (s *street) neighbours() {
	s.Lines(s.Router, "neigh add 10.8.0.100 lladdr 10.7.1.10 dev tunnel0",
		"neigh add 2001:db8:8::100 lladdr 10.7.1.10 dev tunnel0")
	s.Lines(s.Host, "neigh add 10.8.0.1 lladdr 10.7.1.1 dev tunnel0",
		"neigh add 2001:db8:8::1 lladdr 10.7.1.1 dev tunnel0")
}

// wireguard makes host and router each other's peers.
func (s *street) wireguard() {
	nstest.WireGuard(s.t, "wg0", nstest.Peer{NS: s.Router, Addr: "10.7.1.1"},
		nstest.Peer{NS: s.Host, Addr: "10.7.1.10"})
}

// asked is how many TCP connections each address of the link gets.
const asked = 6

// walk asks by TCP in both families and by UDP.
func (s *street) walk(tt kindCase) {
	four, six := "10.8.0.100:80", "[2001:db8:8::100]:80"
	s.listens = []string{four, six, "10.8.0.100:443 quic"}
	s.Serve(s.Host, four)
	s.Serve(s.Host, six)
	s.echo("10.8.0.100:443")
	traffic := []func(){s.datagrams("10.8.0.100:443"),
		nstest.Knock(s.Client, four, asked, "198.51.100.2", "198.51.100.3"),
		nstest.Knock(s.Client, six, asked)}
	s.counts = true

	out4, out6 := cmp.Or(tt.out4, "eth0 10.7.0.1"), cmp.Or(tt.out6, "eth0 2001:db8::1")
	seen := s.observe(tt.ways(out4, out6, "asymmetric", "works"), traffic...)
	want(s.t, "warning asymmetric", codes(seen))

	s.more.Gateways = []string{tt.here + "=10.8.0.1", tt.here + "=2001:db8:8::1"}
	s.apply()
	out4, out6 = tt.here+" 10.8.0.1", tt.here+" 2001:db8:8::1"
	seen = s.observe(tt.ways(out4, out6, "symmetric", "works"), traffic...)
	want(s.t, "", codes(seen))
	want(s.t, "", s.checked(seen))

	s.nft(s.Router, "table inet t { chain c { type filter hook forward priority 0; "+
		"iifname "+tt.there+" tcp sport 80 drop; }; }")
	seen = s.observe(tt.ways(out4, out6, "symmetric", "dark"), traffic...)
	want(s.t, "error dark", codes(seen))
}

// ways are those of the street's listeners: they come in by the link, and leave
// as given.
func (tt kindCase) ways(four, six, verdict, outcome string) string {
	in4, in6 := tt.here+" 10.8.0.1", tt.here+" 2001:db8:8::1"
	if verdict == "asymmetric" { // nothing asked for the router's other address
		in6 = tt.here + " fe80::1:1"
	}
	if tt.nameless {
		in4, in6 = tt.here, tt.here
		four, six = strings.TrimSuffix(four, " 10.8.0.1"),
			strings.TrimSuffix(six, " 2001:db8:8::1")
	}
	return fmt.Sprintf(`
10.8.0.100:443/udp off-link by %s -> %s: %s unknown
10.8.0.100:80 off-link by %[1]s -> %[2]s: %[3]s %s (%d)
[2001:db8:8::100]:80 off-link by %s -> %s: %[3]s %[4]s (%[5]d)`,
		in4, four, verdict, outcome, asked, in6, six)
}

// echo answers datagrams on the host.
func (s *street) echo(addr string) {
	s.t.Helper()
	var c net.PacketConn
	var err error
	s.Host.Do(func() { c, err = net.ListenPacket("udp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// datagrams asks by UDP for two seconds: the sampling is coarse at first.
func (s *street) datagrams(addr string) func() {
	return func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 100 {
			<-tick.C
			nstest.Ask(s.Client, "udp", "", addr, time.Second)
		}
	}
}

// TestObserveVRF: an address in a VRF is off, nothing is planned for it, and a
// reply that stays in the VRF is seen to leave by the link that its request
// came by, also where packets pass the VRF's own device.
func TestObserveVRF(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.make(s.Host, []string{"link add blue type vrf table 10", "link set blue up",
		"link set eth1 master blue", "addr add 10.8.0.100/24 dev eth1",
		"addr add 2001:db8:8::100/64 nodad dev eth1", "addr add fe80::10/64 nodad dev eth1",
		"route add default via 10.8.0.1 table 10",
		"-6 route add default via 2001:db8:8::1 table 10"})
	s.Lines(s.Router, "addr add 10.8.0.1/24 dev r1", "addr add 2001:db8:8::1/64 nodad dev r1")
	s.listens = []string{"10.8.0.100:80", "[2001:db8:8::100]:80"}
	var traffic []func()
	for _, l := range s.listens {
		s.serveOn("blue", l)
		traffic = append(traffic, nstest.Knock(s.Client, l, asked))
	}
	s.counts = true
	if d := s.look().Decision; !d.Diff.Empty() {
		t.Errorf("planned in a VRF: %v", d.Diff)
	}
	ways := fmt.Sprintf(`
10.8.0.100:80 off-link by eth1 10.8.0.1 -> eth1 10.8.0.1: symmetric works (%d)
[2001:db8:8::100]:80 off-link by eth1 2001:db8:8::1 -> eth1 2001:db8:8::1: symmetric works (%[1]d)`,
		asked)
	want(t, "", codes(s.observe(ways, traffic...)))
	s.Host.Run("tc", "qdisc", "add", "dev", "blue", "root", "fq_codel")
	s.tap("blue")
	want(t, "", codes(s.observe(ways, traffic...)))
}

// serveOn accepts connections of a VRF.
func (s *street) serveOn(vrf, addr string) {
	s.t.Helper()
	bind := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), vrf) })
		return errors.Join(failed, err)
	}}
	var l net.Listener
	var err error
	s.Host.Do(func() { l, err = bind.Listen(context.Background(), "tcp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go nstest.Answer(l)
}

// tap looks at the packets of a link of the host, as tcpdump does.
func (s *street) tap(link string) {
	s.t.Helper()
	s.Host.Do(func() {
		i, err := net.InterfaceByName(link)
		if err != nil {
			s.t.Error(err)
			return
		}
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		if err != nil {
			s.t.Error(err)
			return
		}
		s.t.Cleanup(func() { unix.Close(fd) })
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all),
			Ifindex: i.Index})
		if err != nil {
			s.t.Error(err)
		}
	})
}
