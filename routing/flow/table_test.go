package flow

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/routing"
)

// tableHost has two uplinks, a bridge over a NIC, one over a macvlan of a NIC,
// and macvlans that hold VIPs.
func tableHost() routing.Host {
	prefix := netip.MustParsePrefix
	return routing.Host{Links: []routing.Link{
		{Index: 1, Name: "lo", Loopback: true, Up: true},
		{Index: 2, Name: "eth0", Up: true}, {Index: 3, Name: "eth1", Up: true},
		{Index: 4, Name: "eth2", Up: true, Master: "br0"},
		{Index: 5, Name: "br0", Kind: "bridge", Up: true},
		{Index: 6, Name: "vrrp", Kind: "macvlan", Parent: "eth1", Up: true},
		{Index: 7, Name: "eth3", Up: true, Master: "red"},
		{Index: 8, Name: "red", Kind: "vrf", Up: true},
		{Index: 9, Name: "eth4", Up: true},
		{Index: 10, Name: "nic", Kind: "macvlan", Parent: "eth4", Master: "br1", Up: true},
		{Index: 11, Name: "br1", Kind: "bridge", Up: true},
		{Index: 12, Name: "vip", Kind: "macvlan", Parent: "eth1", Master: "red", Up: true}},
		Addrs: []routing.Addr{{Link: "eth0", Prefix: prefix("10.7.0.10/24")},
			{Link: "eth1", Prefix: prefix("10.7.1.10/24")}},
		Routes: []routing.Route{{RouteKey: routing.RouteKey{Dst: prefix("0.0.0.0/0")},
			Hops: []routing.Hop{{Link: "eth0",
				Via: netip.MustParseAddr("10.7.0.1")}}}}}
}

func tableListeners() []routing.Listener {
	return []routing.Listener{{Addr: netip.MustParseAddr("10.7.1.100"), Transport: routing.TCP,
		Ports: routing.PortRange{First: 80, Last: 80}}, {Transport: routing.UDP,
		Addr: netip.MustParseAddr("10.7.1.100"), Ports: routing.PortRange{First: 53, Last: 53}}}
}

func newTestTable() *table { return newTable(newNetwork(tableHost(), tableListeners())) }

// moment reads "100 in eth1 syn 7": the time in ms, the direction, the link,
// what, and its number. The client is 198.51.100.2 and its port 1000 unless it
// says "by ADDR:PORT".
func moment(t *testing.T, n *network, line string) Packet {
	t.Helper()
	line, by, _ := strings.Cut(line, " by ")
	if by == "" {
		by = "198.51.100.2:1000"
	}
	client, local := netip.MustParseAddrPort(by), netip.MustParseAddrPort("10.7.1.100:80")
	var ms, seq int
	var way, link, what string
	if c, err := fmt.Sscan(line, &ms, &way, &link, &what, &seq); c < 4 {
		t.Fatalf("%q: %v", line, err)
	}
	p := Packet{Meta: Meta{At: time.Duration(ms) * time.Millisecond, Proto: etherIPv4},
		Proto: protoTCP, Src: client.Addr(), Dst: local.Addr(), Sport: client.Port(),
		Dport: 80, Seq: uint32(seq),
		From: routing.MAC{2, 0, 0, 0, 0, 1}, hash: uint32(client.Port())}
	for index, name := range n.links {
		if name == link {
			p.Link = index
		}
	}
	switch what {
	case "syn":
		p.Flags = flagSYN
	case "synack":
		p.Flags = flagSYN | flagACK
	case "ack":
		p.Flags, p.Seq, p.Ack = flagACK, 99, uint32(seq)
	case "data":
		p.Flags, p.Payload = flagACK, 10
	case "rst":
		p.Flags = flagRST
	case "udp":
		p.Proto, p.Dport = protoUDP, 53
	default:
		t.Fatalf("%q: unknown", line)
	}
	if way == "out" {
		p.Type, p.Src, p.Dst = typeOutgoing, p.Dst, p.Src
		p.Sport, p.Dport = p.Dport, p.Sport
		p.From, p.To = routing.MAC{}, p.From
	}
	return p
}

// seenText prints the ways with what was counted.
func seenText(ways []routing.SeenWay) string {
	var out []string
	for _, w := range ways {
		c := w.Count
		text := fmt.Sprintf("%s %s -> %s seen %d", w.Class, w.In.Link, w.Out.Link, c.Seen)
		for _, x := range []struct {
			n    int
			word string
		}{{c.Confirmed, "confirmed"}, {c.Inferred, "inferred"},
			{c.Unconfirmed, "unconfirmed"}, {c.Unanswered, "unanswered"},
			{c.Refused, "refused"}} {
			if x.n > 0 {
				text += fmt.Sprintf(" %s %d", x.word, x.n)
			}
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

var tableCases = []struct{ name, packets, want string }{
	{"nothing", "", ""},
	{"payload left", "0 in eth1 syn 5|1 out eth1 synack 70|9 out eth1 data 71", "off-link eth1 -> eth1 seen 1 confirmed 1"},
	{"the exact acknowledgement", "0 in eth1 syn 5|1 out eth0 synack 70|2 in eth1 ack 71", "off-link eth1 -> eth0 seen 1 confirmed 1"},
	{"another acknowledgement", "0 in eth1 syn 5|1 out eth0 synack 70|2 in eth1 ack 72|3 in eth1 ack 70", "off-link eth1 -> eth0 seen 1 inferred 1"},
	{"answer not repeated", "0 in eth1 syn 5|1 out eth0 synack 70", "off-link eth1 -> eth0 seen 1 inferred 1"},
	{"answer repeated", "0 in eth1 syn 5|1 out eth0 synack 70|1001 out eth0 synack 70", "off-link eth1 -> eth0 seen 1 unconfirmed 1"},
	{"request and answer repeated", "0 in eth1 syn 5|1 out eth0 synack 70|1000 in eth1 syn 5|1001 out eth0 synack 70", "off-link eth1 -> eth0 seen 1 unconfirmed 1"},
	{"answer repeated, with a cookie", "0 in eth1 syn 5|1 out eth0 synack 70|1000 in eth1 syn 5|1001 out eth0 synack 9070", "off-link eth1 -> eth0 seen 1 unconfirmed 1"},
	{"the second answer acknowledged", "0 in eth1 syn 5|1 out eth0 synack 70|1001 out eth0 synack 90|1002 in eth1 ack 91", "off-link eth1 -> eth0 seen 1 confirmed 1"},
	{"no answer", "0 in eth1 syn 5|1000 in eth1 syn 5", "off-link eth1 ->  seen 1 unanswered 1"},
	{"no answer, not asked again", "0 in eth1 syn 5", "off-link eth1 ->  seen 1"},
	{"a copy of the request", "0 in eth1 syn 5|100 in eth1 syn 5", "off-link eth1 ->  seen 1"},
	{"refused", "0 in eth1 syn 5|1 out eth1 rst 0", "off-link eth1 -> eth1 seen 1 refused 1"},
	{"the same ports again", "0 in eth1 syn 5|1 out eth1 synack 70|2 in eth1 ack 71|900 in eth1 syn 6|901 out eth1 synack 80|902 in eth1 ack 81", "off-link eth1 -> eth1 seen 2 confirmed 2"},
	{"older than the window, acknowledged", "0 out eth0 data 100|1 in eth1 ack 110", "off-link eth1 -> eth0 seen 1 confirmed 1"},
	{"older, payload left", "0 in eth1 ack 100|1 out eth0 data 100", "off-link eth1 -> eth0 seen 1 confirmed 1"},
	{"older, repeated", "0 in eth1 ack 100|1 out eth0 data 100|301 out eth0 data 100", "off-link eth1 -> eth0 seen 1 unconfirmed 1"},
	{"older, repeated, acknowledged", "0 out eth0 data 100|301 out eth0 data 100|302 in eth1 ack 110", "off-link eth1 -> eth0 seen 1 confirmed 1"},
	{"older, repeated, acknowledged before", "0 out eth0 data 100|301 out eth0 data 100|302 in eth1 ack 100", "off-link eth1 -> eth0 seen 1 unconfirmed 1"},
	{"older, repeated, acknowledged too much", "0 out eth0 data 100|301 out eth0 data 100|302 in eth1 ack 4000", "off-link eth1 -> eth0 seen 1 unconfirmed 1"},
	{"blind acknowledgements", "0 in eth1 ack 7|1 in eth1 ack 8", ""},
	{"answers alone", "0 out eth1 data 100", ""},
	{"a datagram without answer", "0 in eth1 udp 1", "off-link eth1 ->  seen 1"},
	{"a datagram and its answer", "0 in eth1 udp 1|1 out eth0 udp 2", "off-link eth1 -> eth0 seen 1"},
	{"on-link", "0 in eth1 syn 5 by 10.7.1.7:99|1 out eth1 rst 0 by 10.7.1.7:99", "on-link eth1 -> eth1 seen 1 refused 1"},
	{"client of another LAN", "0 in eth1 syn 5 by 10.7.0.7:99|1 out eth0 rst 0 by 10.7.0.7:99", "off-link eth1 -> eth0 seen 1 refused 1"},
	{"a bridge: in at the last device, out at the first", "0 in eth2 syn 5|1 in br0 syn 5|2 out br0 synack 7|3 out eth2 synack 7|4 in eth2 ack 8|5 in br0 ack 8", "off-link br0 -> br0 seen 1 confirmed 1"},
	{"a bridge, the last packets on its port alone", "0 in eth2 syn 5|1 in br0 syn 5|2 out br0 synack 7|3 out eth2 synack 7|4 in eth2 ack 8|50 out eth2 data 9", "off-link br0 -> br0 seen 1 confirmed 1"},
	{"a bridge, the first packets on its port alone", "0 in eth2 syn 5|3 out eth2 synack 7|4 in eth2 ack 8|5 in br0 ack 8|50 out br0 data 9", "off-link br0 -> br0 seen 1 confirmed 1"},
	{"a bridge over a macvlan", "0 in eth4 syn 5|1 in nic syn 5|2 in br1 syn 5|3 out br1 synack 7|4 out nic synack 7|5 out eth4 synack 7|6 in eth4 ack 8|7 in nic ack 8|8 in br1 ack 8", "off-link br1 -> br1 seen 1 confirmed 1"},
	{"a macvlan answered by its parent", "0 in vrrp syn 5|1 out eth1 synack 7|2 in vrrp ack 8", "off-link vrrp -> eth1 seen 1 confirmed 1"},
	{"a repeated answer on another device", "0 in eth1 syn 5|1 out eth0 synack 7|900 out eth1 synack 7", "off-link eth1 -> eth1 seen 1 unconfirmed 1"},
	{"a link that came later", "0 in late syn 5", ""},
}

// TestTable: what a connection shows, and how it is counted 1.5 s after the
// last packet.
func TestTable(t *testing.T) {
	for _, tt := range tableCases {
		tab := newTestTable()
		last := 0 * time.Second
		for _, line := range strings.Split(tt.packets, "|") {
			if line == "" {
				continue
			}
			p := moment(t, tab.net, line)
			tab.add(&p)
			last = p.At
		}
		peeked := tab.peek(last + 1500*time.Millisecond)
		if got := seenText(peeked.list(false)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		turned := tab.turn(last + 1500*time.Millisecond)
		if got := seenText(turned.list(false)); got != tt.want {
			t.Errorf("%s: at the end got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestWires: links of one wire outside of the host have one name.
func TestWires(t *testing.T) {
	n := newNetwork(tableHost(), nil)
	want := map[string]string{"lo": "lo", "eth0": "eth0", "eth1": "eth1", "eth2": "br0",
		"br0": "br0", "vrrp": "eth1", "eth3": "eth3", "red": "red", "eth4": "br1",
		"nic": "br1", "br1": "br1", "vip": "eth1"}
	for index, wire := range n.wires {
		if link := n.links[index]; want[link] != wire {
			t.Errorf("%s is on the wire %q, want %q", link, wire, want[link])
		}
	}
}

// TestTableHonesty: the table concludes nothing that the sampling or a flood
// could have caused.
func TestTableHonesty(t *testing.T) {
	tab := newTestTable()
	for _, line := range []string{"0 in eth1 syn 5 by 198.51.100.2:1001",
		"0 in eth1 syn 5 by 198.51.100.2:1000", "1 out eth1 synack 7 by 198.51.100.2:1002",
		"0 in eth1 syn 5 by 198.51.100.2:1002"} {
		p := moment(t, tab.net, line)
		tab.add(&p)
	}
	tab.narrow(1) // hides the odd one
	for _, line := range []string{"1000 in eth1 syn 5 by 198.51.100.2:1001",
		"1000 in eth1 syn 5 by 198.51.100.2:1000"} {
		p := moment(t, tab.net, line)
		tab.add(&p)
	}
	done := tab.turn(2 * time.Second)
	want := "off-link eth1 ->  seen 2 unanswered 1; off-link eth1 -> eth1 seen 1 inferred 1"
	if got := seenText(done.list(false)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want = "off-link eth1 ->  seen 2 unanswered 1; off-link eth1 -> eth1 seen 1"
	if got := seenText(done.list(true)); got != want {
		t.Errorf("with SYN cookies: got %q, want %q", got, want)
	}
}

// TestTableNextWindow: an undecided connection is in the next window, too.
func TestTableNextWindow(t *testing.T) {
	tab := newTestTable()
	p := moment(t, tab.net, "2900 in eth1 syn 5")
	tab.add(&p)
	tab.turn(3 * time.Second)
	p = moment(t, tab.net, "3900 in eth1 syn 5")
	tab.add(&p)
	done := tab.turn(5 * time.Second)
	want := "off-link eth1 ->  seen 1 unanswered 1"
	if got := seenText(done.list(false)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(tab.flows) > 0 {
		t.Errorf("%d flows are left", len(tab.flows))
	}
}

// TestTableFlood: spoofed requests that fill the table evict no confirmed
// connection, and are counted as evicted.
func TestTableFlood(t *testing.T) {
	tab := newTestTable()
	for i := range 40 {
		for _, line := range []string{"%d in eth1 syn 5 by 198.51.100.2:%d",
			"%d out eth0 synack 7 by 198.51.100.2:%d",
			"%d in eth1 ack 8 by 198.51.100.2:%d"} {
			p := moment(t, tab.net, fmt.Sprintf(line, i, 1000+i))
			tab.add(&p)
		}
	}
	for i := range 3 * maxFlows {
		p := spoofedSYN(i)
		tab.add(&p)
	}
	if len(tab.flows) > maxFlows {
		t.Errorf("%d flows, want at most %d", len(tab.flows), maxFlows)
	}
	done := tab.turn(2 * time.Second)
	got := seenText(done.list(false))
	if !strings.Contains(got, "-> eth0 seen 40 confirmed 40") {
		t.Errorf("got %q", got)
	}
	if tab.forgotten < maxFlows {
		t.Errorf("%d forgotten", tab.forgotten)
	}
}

// spoofedSYN is one of a flood in which each client asks once.
func spoofedSYN(i int) Packet {
	return Packet{Meta: Meta{Link: 3, At: time.Second + time.Duration(i)*time.Microsecond},
		Src:   netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)}),
		Sport: 1000, Dst: netip.MustParseAddr("10.7.1.100"), Dport: 80,
		Proto: protoTCP, Flags: flagSYN}
}

// TestTableGarbage: a flood that fills the table again and again makes no
// garbage with each flow: collecting it would take time from NGINX.
func TestTableGarbage(t *testing.T) {
	tab, i := newTestTable(), 0
	ask := func() {
		p := spoofedSYN(i)
		tab.add(&p)
		i++
	}
	for range 4 * maxClients {
		ask()
	}
	if n := testing.AllocsPerRun(4*maxFlows, ask); n > 0 {
		t.Errorf("%.0f allocations for each flow", n)
	}
}

// TestTableEvicts: a full table forgets about a sixteenth, whatever the flows
// are, and the places of those are taken again.
func TestTableEvicts(t *testing.T) {
	for _, step := range []int{0, 1} { // 0: all at the same time
		tab := newTestTable()
		for i := range 5 * maxFlows {
			p := spoofedSYN(i)
			p.At = time.Second + time.Duration(i*step)*time.Microsecond
			before := len(tab.flows)
			tab.add(&p)
			if after := len(tab.flows); step > 0 && after < before-maxFlows/8 {
				t.Fatalf("%d flows became %d", before, after)
			}
		}
		places := map[uint16]bool{}
		for _, at := range tab.flows {
			places[at] = true
		}
		if len(places) != len(tab.flows) || len(tab.places) > maxFlows {
			t.Errorf("%d flows in %d of %d places", len(tab.flows), len(places),
				len(tab.places))
		}
	}
}

// TestSteering: a class comes near its budget from either side, and stays.
func TestSteering(t *testing.T) {
	for _, rate := range []int{0, 10, 100, 1900, 2100, 10_000, 150_000, 3_000_000} {
		m := coarse
		const step = 250 * time.Millisecond
		taken := 0
		for range 20 {
			taken = rate / 4 / oneIn(m[segments])
			m = m.steer([classes]int{segments: taken}, step)
		}
		if fit := budget / 4; taken > fit || rate > 2*budget && taken < fit/5 {
			t.Errorf("%d packets/s: %d are taken in a step, want at most %d", rate,
				taken, fit)
		}
		if rate < budget/3 && m[segments] != 0 {
			t.Errorf("%d packets/s: one in %d is taken, want all", rate,
				oneIn(m[segments]))
		}
	}
}

func TestCounter(t *testing.T) {
	const text = "TcpExt: SyncookiesSent SyncookiesRecv\nTcpExt: 12 3\n" +
		"IpExt: InNoRoutes\nIpExt: 9\n"
	for name, want := range map[string]int64{"SyncookiesSent": 12, "SyncookiesRecv": 3,
		"InNoRoutes": 0, "": 0} {
		if got := counter(text, "TcpExt:", name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}
