package host

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/capture"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fixture has a route, rule or address of every shape that Read must tell
// apart.
const fixture = `
link add eth1 type veth peer name p1
link add eth2 type veth peer name p2
link add br0 type bridge
link set eth1 up group 76
link set p1 up
link set p1 master br0
link set eth2 up
link set p2 up
link set br0 up
addr add 10.0.1.10/24 dev eth1
addr add 10.0.1.11/24 dev eth1
addr add 10.9.0.1 peer 10.9.0.2/32 dev eth1
addr add 10.5.0.1/24 dev eth2 noprefixroute
addr add 2001:db8:1::10/64 dev eth1 nodad
addr add 2001:db8:5::1 peer 2001:db8:5::2/126 dev eth1 nodad
link add eth3.7 type veth peer name p3
route add default via 10.0.1.1 dev eth1 metric 100 mtu 1400 advmss 1000 proto dhcp
route add default table 100 nexthop via 10.0.1.1 dev eth1 weight 2 nexthop via 10.5.0.9 dev eth2 onlink
route add blackhole 9.9.9.9
route add throw 9.9.9.7 metric 5
route add unreachable 9.9.9.8 table 5000
route add 10.7.0.0/16 tos 0x10 via 10.0.1.1
route add 10.8.0.0/16 via inet6 fe80::5 dev eth1
nexthop add id 5 via 10.0.1.1 dev eth1
route add 10.66.0.0/16 nhid 5
nexthop add id 6 via 10.5.0.9 dev eth2 onlink
nexthop add id 9 group 6,2/5,3
route add 10.67.0.0/16 nhid 9
route add 10.68.0.0/16 via 10.0.1.1 window 9000 initcwnd 20 rtt 100ms features ecn congctl reno
route add 10.69.0.0/16 via 10.0.1.1 realm 3/7
route add 10.70.0.0/16 encap ip id 100 dst 10.0.1.9 via 10.0.1.1
route add 2001:db8:a::/48 nexthop via 2001:db8:1::1 dev eth1 weight 2 nexthop via 2001:db8:1::2 dev eth1
route add default via 2001:db8:1::1 dev eth1 pref high
route add unreachable 2001:db8:9::/64
route add 2001:db8:8::/64 from 2001:db8:1::/64 via 2001:db8:1::1
rule add pref 50 not from 10.0.0.0/8 to 10.1.0.0/16 fwmark 0x10/0xff iif lo oif eth1 lookup 1000 suppress_prefixlength 7 suppress_ifgroup 76
rule add pref 60 from all ipproto tcp dport 80-90 uidrange 0-0 goto 32766
rule add pref 61 blackhole to 10.3.3.3
rule add pref 62 l3mdev protocol 77
rule add pref 63 nop
rule add pref 64 fwmark 5 lookup 52
rule add pref 65 tos 0x10 lookup 5
rule add pref 66 ipproto udp sport 53 lookup 53
rule add pref 67 lookup 53 realms 3/7
rule add pref 68 tun_id 5 ipproto sctp lookup 53
rule add pref 69 iif gone prohibit
neigh add 2001:db8:1::1 dev eth1 lladdr 02:00:00:00:00:01 router nud permanent
`

func openFixture(t *testing.T) (*nstest.NS, *Kernel) {
	t.Helper()
	ns, k := open(t, fixture)
	ns.IP("-6 rule add pref 70 unreachable from 2001:db8:66::/64")
	ns.Sysctl("net.ipv6.conf.default.accept_dad=1")
	ns.Batch("link add eth4 type veth peer name p4\naddr add 2001:db8:7::1/64 dev eth4\n")
	return ns, k
}

var compareNetip = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var comparePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// fixtureLinks are the links of the fixture by name, without their numbers.
var fixtureLinks = map[string]routing.Link{
	"lo":     {Name: "lo", Loopback: true, Up: true, Carrier: true, MTU: 65536},
	"eth1":   {Name: "eth1", Kind: "veth", Up: true, Carrier: true, MTU: 1500, Group: 76},
	"p1":     {Name: "p1", Kind: "veth", Up: true, Carrier: true, MTU: 1500, Master: "br0"},
	"eth2":   {Name: "eth2", Kind: "veth", Up: true, Carrier: true, MTU: 1500},
	"p2":     {Name: "p2", Kind: "veth", Up: true, Carrier: true, MTU: 1500},
	"eth3.7": {Name: "eth3.7", Kind: "veth", MTU: 1500},
	"eth4":   {Name: "eth4", Kind: "veth", MTU: 1500},
	"p4":     {Name: "p4", Kind: "veth", MTU: 1500},
	"p3":     {Name: "p3", Kind: "veth", MTU: 1500},
	"br0":    {Name: "br0", Kind: "bridge", Up: true, Carrier: true, MTU: 1500},
}

func TestReadLinksAddrsNeighsSysctls(t *testing.T) {
	ns, k := openFixture(t)
	ns.Sysctl("net.ipv4.ip_forward=1")
	h := read(t, k)
	links := map[string]routing.Link{}
	for _, l := range h.Links {
		l.Index = 0
		links[l.Name] = l
	}
	if diff := cmp.Diff(fixtureLinks, links); diff != "" {
		t.Error(diff)
	}
	wantAddrs := []routing.Addr{
		{Link: "eth1", Prefix: netip.MustParsePrefix("10.0.1.10/24")},
		{Link: "eth1", Prefix: netip.MustParsePrefix("10.9.0.1/32"), Peer: netip.MustParsePrefix("10.9.0.2/32")},
		{Link: "eth1", Prefix: netip.MustParsePrefix("10.0.1.11/24")}, // secondary: the same bit as temporary in IPv6
		{Link: "eth2", Prefix: netip.MustParsePrefix("10.5.0.1/24"), NoPrefix: true},
		{Link: "eth1", Prefix: netip.MustParsePrefix("2001:db8:5::1/128"), Peer: netip.MustParsePrefix("2001:db8:5::2/126")},
		{Link: "eth1", Prefix: netip.MustParsePrefix("2001:db8:1::10/64")},
		{Link: "eth4", Prefix: netip.MustParsePrefix("2001:db8:7::1/64"), Tentative: true}, // the link is down
	}
	addrs := slices.DeleteFunc(slices.Clone(h.Addrs), func(a routing.Addr) bool {
		return a.Link == "lo" || a.Prefix.Addr().IsLinkLocalUnicast()
	})
	if diff := cmp.Diff(wantAddrs, addrs, compareNetip, comparePrefix); diff != "" {
		t.Error(diff)
	}
	wantNeighs := []routing.Neigh{{Link: "eth1", Addr: netip.MustParseAddr("2001:db8:1::1"),
		Router: true, MAC: "02:00:00:00:00:01", State: "PERMANENT"}}
	if diff := cmp.Diff(wantNeighs, h.Neighs, compareNetip); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{"ipv4.ip_forward": "1",
		"ipv4.conf.eth1.rp_filter": "0", "ipv4.conf.eth3.7.rp_filter": "0",
		"ipv6.conf.all.forwarding": "0"} {
		if got := h.Sysctls[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if len(h.Leases) != 0 {
		t.Errorf("leases of another namespace were read from this one's files: %v",
			h.Leases)
	}
}

// recipe returns the shell commands of the comment of capture.Capture.
func recipe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("../capture/capture.go")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(string(source), "\n") {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			lines = append(lines, code)
		}
	}
	return strings.Join(lines, "\n")
}

// captureByShell makes a capture of the namespace without lasthop.
func captureByShell(t *testing.T, ns *nstest.NS) routing.Host {
	t.Helper()
	c, err := capture.Decode("shell.json", []byte(ns.Run("sh", "-c", recipe(t))))
	if err != nil {
		t.Fatal(err)
	}
	return c.Host
}

// A shell can make a capture, and it is the host that Read sees.
func TestCaptureByShell(t *testing.T) {
	ns, k := openFixture(t)
	got, want := captureByShell(t, ns), read(t, k)
	want.Sysctls = nil
	if diff := cmp.Diff(sortedHost(want), sortedHost(got), compareNetip,
		comparePrefix); diff != "" {
		t.Error(diff)
	}
}

// sortedHost brings lists into one order: `ip` shows them in its own.
func sortedHost(h routing.Host) routing.Host {
	slices.SortFunc(h.Routes, func(a, b routing.Route) int {
		return strings.Compare(a.String(), b.String())
	})
	slices.SortStableFunc(h.Addrs, func(a, b routing.Addr) int {
		return strings.Compare(a.Link+a.Prefix.String(), b.Link+b.Prefix.String())
	})
	slices.SortStableFunc(h.Rules, func(a, b routing.Rule) int {
		return int(a.Family) - int(b.Family)
	})
	return h
}

// writable is a state with a route and a rule of every shape that is written.
func writable(t *testing.T) (want routing.State) {
	t.Helper()
	parse := func(f routing.Family, s string) routing.Route {
		r, err := routing.ParseRoute(f, s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want = routing.State{Groups: []routing.LinkGroup{{Link: "eth1", Group: 76},
		{Link: "eth2", Group: 76}}}
	for _, s := range []string{
		"default via 10.0.1.1 dev eth1 table 20001 proto 76 mtu 1400 advmss 1000 onlink", "10.0.1.0/24 dev eth1 table 20001 proto 76 scope link",
		"unreachable default table 20001 proto 76 metric 4294967295", "blackhole 9.9.9.9 table 20001 proto 76",
		"default table 20002 proto 76 nexthop via 10.0.1.1 dev eth1 weight 2 onlink nexthop via 10.5.0.9 dev eth2 weight 1 onlink",
		"10.8.0.0/16 via inet6 fe80::5 dev eth1 table 20001 proto 76 onlink"} {
		want.Routes = append(want.Routes, parse(routing.IPv4, s))
	}
	for _, s := range []string{"default via 2001:db8:1::1 dev eth1 table 20001 proto 76 onlink",
		"unreachable default table 20001 proto 76 metric 4294967295",
		"default table 20002 proto 76 nexthop via 2001:db8:1::1 dev eth1 weight 1 onlink nexthop via 2001:db8:1::2 dev eth1 weight 3 onlink"} {
		want.Routes = append(want.Routes, parse(routing.IPv6, s))
	}
	for _, f := range routing.Families {
		prefix := map[routing.Family]string{routing.IPv4: "10.0.1.0/24",
			routing.IPv6: "2001:db8:1::/64"}[f]
		for _, s := range []string{" iif lo lookup main " +
			"suppress_prefixlength 7 suppress_ifgroup 76", " iif lo lookup 20001",
			" iif lo oif eth2 lookup main"} {
			r, err := routing.ParseRule(f, "pref 5100 from "+prefix+s+" protocol 76")
			if err != nil {
				t.Fatal(err)
			}
			want.Rules = append(want.Rules, r)
		}
	}
	want.Sort()
	return want
}

// Every write is read back as it was meant, a repetition changes nothing, and
// the deletes take away just that.
func TestDo(t *testing.T) {
	_, k := openFixture(t)
	k.GroupsFile = filepath.Join(t.TempDir(), "groups")
	if err := os.WriteFile(k.GroupsFile, nil, 0o644); err != nil { // no link of another's
		t.Fatal(err)
	}
	before := read(t, k)
	n := routing.DefaultNumbers
	want := writable(t)
	d := routing.Compare(routing.Owned(before, n), want)
	for range 2 { // a repetition is no error
		if _, err := k.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want.String(), routing.Owned(read(t, k), n).String()); diff != "" {
		t.Error(diff)
	}
	undo := routing.Compare(routing.Owned(read(t, k), n), routing.Owned(before, n))
	for range 2 {
		if _, err := k.Write(undo); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, read(t, k), compareNetip, comparePrefix); diff != "" {
		t.Error(diff)
	}
}

func TestAskEveryAnswer(t *testing.T) {
	_, k := open(t, fixture, "rule add pref 90 from 10.5.0.1 lookup 5000\n"+
		"route add prohibit 9.9.9.6\nroute add default dev eth2 table 5000\n")
	addr := netip.MustParseAddr
	tests := []struct {
		q    routing.Query
		want string
	}{
		{routing.Query{Src: addr("10.0.1.10"), Dst: addr("198.51.100.1")}, "eth1 via 10.0.1.1"},
		{routing.Query{Src: addr("10.5.0.1"), Dst: addr("198.51.100.1")}, "eth2, on-link"},
		{routing.Query{Dst: addr("10.0.1.9")}, "eth1, on-link"},
		{routing.Query{Dst: addr("10.0.1.10")}, "this host"},
		{routing.Query{Dst: addr("9.9.9.9")}, "blackhole"},
		{routing.Query{Src: addr("10.5.0.1"), Dst: addr("9.9.9.8")}, "unreachable"},
		{routing.Query{Dst: addr("9.9.9.6")}, "prohibit"},
		{routing.Query{Src: addr("10.6.6.6"), Dst: addr("198.51.100.1")}, "no route"},
		{routing.Query{Src: addr("2001:db8:1::10"), Dst: addr("2001:db8:ffff::1")}, "eth1 via 2001:db8:1::1"},
		{routing.Query{Dst: addr("2001:db8:9::1")}, "unreachable"},
		{routing.Query{Dst: addr("2001:db8:1::10")}, "this host"},
		{routing.Query{Dst: addr("10.0.1.9"), OIF: "eth2"}, "eth2, on-link"},
	}
	var queries []routing.Query
	for _, tt := range tests {
		queries = append(queries, tt.q)
	}
	links := 0
	k.Fault = func(kind int) error {
		if kind == unix.RTM_GETLINK {
			links++
		}
		return nil
	}
	ways, err := k.Ask(queries)
	if err != nil || links != 1 {
		t.Fatalf("the links were read %d times, want once (%v)", links, err)
	}
	for i, tt := range tests {
		if got := ways[i].String(); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.q, got, tt.want)
		}
	}
	gone := append(queries, routing.Query{Dst: addr("10.0.1.9"), OIF: "gone"})
	if _, err := k.Ask(gone); !errors.Is(err, unix.ENODEV) ||
		!strings.Contains(err.Error(), "gone") {
		t.Errorf("a link that is not there: error %v", err)
	}
}
