package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lasthop/internal/nstest"
)

// family is IPv4 or IPv6 with the addresses of a street.
type family struct {
	name    string
	options []string // of ip
	flags   string   // of an address: usable immediately
	bits    int      // of an uplink's subnet
	host    int      // the length of a host prefix
	address func(uplink, n int) netip.Addr
	client  netip.Addr // behind every router
	hole    netip.Addr // behind every router; the routers drop packets to it
}

var families = []family{
	{"IPv4", nil, "", 16, 32, func(uplink, n int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(16 + uplink), byte(n >> 8), byte(n)})
	}, netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("203.0.113.1")},
	{"IPv6", []string{"-6"}, "nodad", 64, 128, func(uplink, n int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(16 + uplink),
			14: byte(n >> 8), 15: byte(n)})
	}, netip.MustParseAddr("2001:db8:c::2"), netip.MustParseAddr("2001:db8:b::1")},
}

// router returns the address of the router behind an uplink.
func (f family) router(uplink int) netip.Addr { return f.address(uplink, 1) }

// own returns the host's first address on an uplink, which is no VIP.
func (f family) own(uplink int) netip.Addr { return f.address(uplink, 2) }

func (f family) subnet(uplink int) netip.Prefix {
	return netip.PrefixFrom(f.own(uplink), f.bits).Masked()
}

// street is a host with uplinks eth0, eth1, ... and as many VIPs on each, and
// the world behind r0, r1, ...: all routers and clients in one. Main's default
// is by eth0.
type street struct {
	host, world   *nstest.NS
	t             testing.TB
	exe, dir      string // lasthop, and a directory for its files
	uplinks, vips int
}

func newStreet(t testing.TB, exe string, uplinks, vips int) *street {
	t.Helper()
	s := &street{nstest.New(t), nstest.New(t), t, exe, t.TempDir(), uplinks, vips}
	for u := range uplinks {
		s.world.IP(fmt.Sprintf("link add r%d type veth peer name eth%d netns %s", u, u,
			s.host.Path))
	}
	for _, f := range families {
		s.address(f)
	}
	s.configure(func(i int) string {
		return fmt.Sprintf("server { listen %s:80; listen [%s]:80; }\n",
			s.vip(families[0], i), s.vip(families[1], i))
	})
	return s
}

// configure writes an nginx.conf with the server block of each VIP.
func (s *street) configure(server func(vip int) string) {
	s.t.Helper()
	var conf strings.Builder
	fmt.Fprintf(&conf, "pid %[1]s/pid;\nerror_log %[1]s/error.log;\n"+
		"worker_rlimit_nofile 65536;\nevents { worker_connections 40000; }\nhttp {\n",
		s.dir)
	for i := range s.vips {
		conf.WriteString(server(i))
	}
	conf.WriteString("}\n")
	s.write(s.conf(), conf.String())
}

func (s *street) write(file, text string) {
	s.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// address configures the addresses and routes of a family on both sides.
func (s *street) address(f family) {
	s.t.Helper()
	var host, world strings.Builder
	for u := range s.uplinks {
		fmt.Fprintf(&host, "link set eth%d up\naddr add %s/%d dev eth%d %s\n", u, f.own(u),
			f.bits, u, f.flags)
		fmt.Fprintf(&world, "link set r%d up\naddr add %s/%d dev r%d %s\n", u, f.router(u),
			f.bits, u, f.flags)
		if f.bits == 64 { // the kernel asks for neighbours from there
			fmt.Fprintf(&host, "addr add fe80::2/64 dev eth%d nodad\n", u)
			fmt.Fprintf(&world, "addr add fe80::1/64 dev r%d nodad\n", u)
		}
		fmt.Fprintf(&host, "route add %s\n", s.defaultBy(f, u))
	}
	for i := range s.vips {
		fmt.Fprintf(&host, "addr add %s/%d dev eth%d %s\n", s.vip(f, i), f.bits,
			s.uplinkOf(i), f.flags)
	}
	fmt.Fprintf(&world, "addr add %s/%d dev lo\nroute add blackhole %s/%d\n", f.client, f.host,
		f.hole, f.host)
	s.world.Batch(world.String(), f.options...)
	s.host.Batch(host.String(), f.options...)
}

// defaultBy returns main's default route by an uplink.
func (s *street) defaultBy(f family, uplink int) string {
	return fmt.Sprintf("default via %s dev eth%d metric %d", f.router(uplink), uplink,
		10+uplink)
}

// uplinkOf returns the uplink of a VIP: the first is on the last uplink, by
// which no reply leaves without rules.
func (s *street) uplinkOf(vip int) int { return s.uplinks - 1 - vip%s.uplinks }

// vip returns a VIP. Between two of an uplink there is a free address, so that
// no prefix holds only VIPs.
func (s *street) vip(f family, i int) netip.Addr {
	return f.address(s.uplinkOf(i), 256+2*(i/s.uplinks))
}

// sample returns VIPs from the first to the last, at equal distances: in a list
// of rules they match at the beginning, in the middle and at the end.
func (s *street) sample() (vips []int) {
	n := min(16, s.vips)
	for i := range n {
		vips = append(vips, (2*i+1)*s.vips/(2*n))
	}
	return vips
}

// conf returns the path of the nginx.conf of the VIPs.
func (s *street) conf() string { return filepath.Join(s.dir, "nginx.conf") }

// lasthop runs the program on the host.
func (s *street) lasthop(args ...string) string {
	s.t.Helper()
	return s.host.Run(s.command(args...)...)
}

func (s *street) command(args ...string) []string {
	line := append(append([]string{s.exe}, args...), "--config", "", "--run-dir", s.dir)
	if args[0] == "clear" {
		return line
	}
	return append(line, "-c", s.conf())
}

// received counts the frames that have come to the world by each of its links.
func (s *street) received() []int {
	s.t.Helper()
	var text []byte
	var err error
	s.world.Do(func() { text, err = os.ReadFile("/proc/thread-self/net/dev") })
	if err != nil {
		s.t.Fatal(err)
	}
	counts := make([]int, s.uplinks)
	for line := range strings.Lines(string(text)) {
		var link, bytes, packets int
		line = strings.Replace(strings.TrimSpace(line), ":", " ", 1)
		if n, _ := fmt.Sscanf(line, "r%d %d %d", &link, &bytes, &packets); n == 3 {
			counts[link] = packets
		}
	}
	return counts
}
