package capture

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzCaptureRoundTrip encodes hosts made from a seed: what is decoded is what
// was encoded.
func FuzzCaptureRoundTrip(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		roundTrip(t, g.capture())
	})
}

// FuzzDecode: no input panics, and what is accepted survives being written and
// read again.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(5) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		data, err := Encode(g.capture())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version":1,"host":"h","time":"2026-01-02T03:04:05Z","kernel":"6.1","links":[],"addrs":[],"routes":[{"dst":"default","dev":"e",` +
		`"table":"254","protocol":3,"scope":"0","metrics":[{"mtu":1400,"ecn":null}],"flow":{"to":"7"}}],"rules":[{"priority":1,"src":"all","table":"254","dscp":"7"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Decode("fuzz", data); err == nil && c.Time.Year() < 9999 {
			roundTrip(t, c)
		}
	})
}

// TestCaptureMapped: the kernel takes IPv4-mapped IPv6 addresses for what they
// are written as, and so does a capture.
func TestCaptureMapped(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.0.1.77")
	c := generator{rand.New(rand.NewPCG(1, 0))}.capture()
	c.Host.Addrs = []routing.Addr{{Link: "eth1", Prefix: netip.PrefixFrom(mapped, 128)}}
	c.Host.Neighs = []routing.Neigh{{Link: "eth1", Addr: mapped, State: "REACHABLE"}}
	roundTrip(t, c)
}

var compareNetip = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var comparePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func roundTrip(t *testing.T, want Capture) {
	t.Helper()
	data, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode("x.json", data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if (want.Listens == nil) != (got.Listens == nil) ||
		(want.Binds == nil) != (got.Binds == nil) {
		t.Errorf("listens or binds: none and not said are mixed up\n%s", data)
	}
	if diff := cmp.Diff(want, got, compareNetip, comparePrefix,
		cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got\n%s\n%s", diff, data)
	}
	// does not panic
	if _, err := routing.Decide(routing.Inputs{Host: got.Host, Listeners: got.Listens,
		Binds: got.Binds, Policy: routing.Policy{Numbers: routing.DefaultNumbers,
			FailClosed: []string{"*"}}}); err != nil {
		t.Fatal(err)
	}
}

// generator makes hosts of all shapes that Read can return.
type generator struct{ *rand.Rand }

func some[T any](g generator, one func() T) []T {
	if g.IntN(4) == 0 {
		return nil
	}
	list := []T{}
	for range g.IntN(6) {
		list = append(list, one())
	}
	return list
}

func pick[T any](g generator, values ...T) T { return values[g.IntN(len(values))] }

func (g generator) flip() bool { return g.IntN(2) == 0 }

func (g generator) capture() Capture {
	c := Capture{Version: Version, Time: time.Unix(g.Int64N(4e9), 0).UTC(), Host: g.host(),
		Listens: some(g, g.listener), Binds: some(g, g.bind),
		Inputs: some(g, func() Input {
			return Input{pick(g, "/etc/nginx/nginx.conf", "a b"), "00", g.flip()}
		}),
		Warnings: some(g, func() routing.Finding {
			return routing.NginxWarning("no-port", "a\nb", pick(g, "", "h"),
				pick(g, "", "f:3"))
		}),
		DNATs: some(g, g.dnat), Sessions: some(g, func() routing.SessionGroup {
			return routing.SessionGroup{Local: g.ip(routing.IPv4),
				Remote: g.ip(routing.IPv6), Count: g.IntN(9), Own: g.flip()}
		})}
	if g.flip() {
		c.Flags, c.Settings = map[string][]string{"netns": {"a"}},
			map[string][]string{"gateway": {"eth1=10.0.1.1", "eth2=none"}}
		c.Numbers = routing.DefaultNumbers
		c.NetworkFiles = map[string]string{
			g.name(): "/run/systemd/network/10-netplan-eth0.network"}
	}
	return c
}

func (g generator) dnat() routing.DNAT {
	p := g.ports()
	d := routing.DNAT{In: pick(g, "", "eth*"), Transport: pick(g, "", "tcp"),
		First: p.First, Last: p.Last,
		Origin: "nft: ip nat prerouting handle 4"}
	d.Addrs = some(g, func() netip.Prefix {
		return netip.PrefixFrom(g.ip(routing.IPv4), g.IntN(33))
	})
	if g.flip() {
		d.To = g.ip(routing.IPv6)
	} else {
		d.Redirect = g.flip()
	}
	return d
}

func (g generator) ports() routing.PortRange {
	a, b := uint16(g.Uint32()), uint16(g.Uint32())
	return routing.PortRange{First: min(a, b), Last: max(a, b)}
}

func (g generator) host() routing.Host {
	return routing.Host{Name: pick(g, "web1", "", `a "b"`), Kernel: "6.18",
		Links: some(g, g.link), Addrs: some(g, g.addr), Routes: some(g, g.route),
		Rules: some(g, g.rule), Neighs: some(g, g.neigh), Leases: some(g, g.lease),
		Grouped: some(g, g.linkGroup),
		Sysctls: map[string]string{"ipv4.ip_forward": pick(g, "0", "1"),
			"ipv4.conf." + g.name() + ".rp_filter": "2"},
		Rulesets: some(g, g.ruleset), Filters: some(g, g.filter),
		Wanted: some(g, g.wanted), LastHop: routing.LastHopSupport{
			Tag: pick(g, "", "5b2"), Missing: pick(g, "", "no CAP_BPF"),
			Known: g.flip()}}
}

func (g generator) filter() routing.Filter {
	return routing.Filter{Link: g.name(), Pref: uint16(g.Uint32()), Handle: g.Uint32(),
		Kind: pick(g, "bpf", "tcx"), Name: pick(g, "", "lasthop/5b2", "a b")}
}

func (g generator) wanted() routing.Wanted {
	return routing.Wanted{Addr: g.ip(g.family()), Port: uint16(g.Uint32()),
		Transport: pick(g, routing.TCP, routing.UDP, routing.ICMP)}
}

func (g generator) ruleset() routing.Ruleset {
	return routing.Ruleset{Family: pick(g, routing.Families[:]...),
		Lookup: pick(g, "", `ip "a b" c handle 1: fib saddr`), Unread: pick(g, "", "why")}
}

func (g generator) name() string {
	return pick(g, "eth0", "eth0.100", "not", "lo", `q"\`, "über", "via")
}

func (g generator) link() routing.Link {
	l := routing.Link{Index: g.IntN(100), Name: g.name(),
		Kind: pick(g, "", "veth", "vrf", "wireguard"), Loopback: g.flip(), Up: g.flip(),
		Carrier: g.flip(), Master: pick(g, "", g.name()), Group: pick(g, 0, 76),
		MTU: g.IntN(65536), PointToPoint: g.flip()}
	if l.Kind == "vrf" {
		l.Table = g.Uint32()
	}
	return l
}

func (g generator) ip(f routing.Family) netip.Addr {
	if f == routing.IPv4 {
		return netip.AddrFrom4([4]byte{10, byte(g.Uint32()), byte(g.Uint32()),
			byte(g.Uint32())})
	}
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", g.Uint32()&0xffff,
		g.Uint32()&0xffff))
}

func (g generator) family() routing.Family { return pick(g, routing.IPv4, routing.IPv6) }

func (g generator) addr() routing.Addr {
	f := g.family()
	a := routing.Addr{Link: g.name(), Prefix: netip.PrefixFrom(g.ip(f), g.IntN(f.Bits()+1)),
		Scope:     pick[uint8](g, 0, 200, 253, 254),
		Temporary: g.flip(), NoPrefix: g.flip(), Tentative: g.flip()}
	if g.flip() {
		a.Prefix, a.Peer = netip.PrefixFrom(a.Prefix.Addr(), f.Bits()),
			netip.PrefixFrom(g.ip(f), g.IntN(f.Bits()+1))
	}
	return a
}

func (g generator) route() routing.Route {
	f := g.family()
	r := routing.Route{RouteKey: routing.RouteKey{Table: g.Uint32(),
		Dst:    netip.PrefixFrom(g.ip(f), g.IntN(f.Bits()+1)).Masked(),
		Metric: 1 + g.Uint32N(9)},
		Type: routing.RouteType(1 + g.IntN(9)), Protocol: uint8(g.Uint32()),
		MTU: pick[uint32](g, 0, 1400), AdvMSS: pick[uint32](g, 0, 1300),
		Opaque: pick(g, "", "tos 0x10", "mtu lock 1400 realm 7", "attr 99 0a0b",
			"encap bpf")}
	if g.flip() {
		r.Src = g.ip(f)
	}
	if f == routing.IPv4 {
		r.Scope = pick[uint8](g, 0, 253, 254)
		r.Metric = pick(g, 0, r.Metric)
	} else {
		r.Pref = pick[int8](g, -1, 0, 1)
	}
	if r.Type.Rejects() || r.Type == routing.Throw {
		return r
	}
	r.Encap = pick(g, "", "lasthop/5b2")
	for n := range 1 + g.IntN(3) {
		h := routing.Hop{Link: g.name(), Weight: 1 + g.IntN(256), OnLink: g.flip(),
			Dead: g.flip(), LinkDown: g.flip()}
		if g.flip() {
			h.Via = g.ip(pick(g, f, routing.IPv6))
		}
		r.Hops = append(r.Hops, h)
		r.Hops[0].Weight = pick(g, 1, r.Hops[0].Weight)
		if n == 0 {
			r.Hops[0].Weight = 1 // `ip` prints the weights of several next hops alone
		}
	}
	return r
}

func (g generator) rule() routing.Rule {
	f := g.family()
	r := routing.NewRule(f, g.IntN(1<<31), 1+g.Uint32N(1<<32-1))
	prefix := func() netip.Prefix {
		if g.flip() {
			return netip.Prefix{}
		}
		return netip.PrefixFrom(g.ip(f), 1+g.IntN(f.Bits())).Masked()
	}
	r.From, r.To, r.Not, r.Protocol = prefix(), prefix(), g.flip(), uint8(g.Uint32())
	r.IIF, r.OIF = pick(g, "", g.name()), pick(g, "", g.name())
	r.SuppressPrefix, r.SuppressGroup = pick(g, routing.None, 0, 7),
		pick(g, routing.None, 0, 76)
	if g.flip() {
		r.Mark, r.Mask = g.Uint32(), pick[uint32](g, 0xffffffff, 0xff)
	}
	r.Opaque = pick(g, "", "", "ipproto tcp dport 80", "uidrange 0-99",
		"tun_id 5 attr 99 0a0b l3mdev", "l3mdev")
	switch r.Action = pick(g, routing.ToTable, routing.Goto, routing.Nop,
		routing.RejectBlackhole, routing.RejectProhibit, routing.RejectUnreachable); {
	case r.Action == routing.Goto:
		r.Goto = g.IntN(1 << 31)
		r.Table = 0
	case r.Action != routing.ToTable, r.Opaque != "" && r.Opaque[len(r.Opaque)-1] == 'v':
		r.Table = 0
	}
	return r
}

func (g generator) neigh() routing.Neigh {
	return routing.Neigh{Link: g.name(), Addr: g.ip(g.family()), Router: g.flip(),
		MAC: pick(g, "", "02:00:00:00:00:01"), State: pick(g, "STALE", "FAILED")}
}

func (g generator) lease() routing.Lease {
	return routing.Lease{Link: g.name(), Gateway: g.ip(routing.IPv4),
		Client: pick(g, "dhcpcd", "dhclient")}
}

func (g generator) linkGroup() routing.LinkGroup {
	return routing.LinkGroup{Link: g.name(), Group: pick(g, 0, 76)}
}

func (g generator) listener() routing.Listener {
	return routing.Listener{Addr: g.ip(g.family()), Ports: g.ports(),
		Transport: pick(g, routing.TCP, routing.UDP), Context: pick(g, "http", ""),
		Listen:  pick(g, "*:80", ""),
		Origins: pick(g, nil, []string{"nginx.conf:3", "a b:7"}),
		Servers: pick(g, nil, []string{"a.example"})}
}

func (g generator) bind() routing.Bind {
	b := routing.Bind{Transparent: g.flip(), Origin: pick(g, "", "nginx.conf:9")}
	if g.flip() {
		b.Addr = g.ip(g.family())
	}
	b.Upstreams = some(g, func() netip.Addr { return g.ip(g.family()) })
	return b
}

// TestCaptureEncap: a program of lasthop is known in what either `ip` prints; a
// foreign one is not modelled.
func TestCaptureEncap(t *testing.T) {
	for _, tt := range []struct{ said, encap, opaque string }{
		{`"encap":"bpf","xmit":"lasthop/5b2"`, "lasthop/5b2", ""},
		{`"encap":{"encap_type":"bpf","xmit":"lasthop/5b2"}`, "lasthop/5b2", ""},
		{`"encap":{"encap_type":"bpf","xmit":"other/5b2"}`, "", "encap bpf"},
		{`"encap":{"encap_type":"ip","xmit":"lasthop/5b2"}`, "", "encap ip"},
	} {
		c, err := Decode("x", []byte(`{"version":1,"host":"h","time":"2026-01-02T03:04:05Z",`+
			`"kernel":"6.1","links":[],"addrs":[],"routes":[{"dst":"default","dev":"e",`+
			tt.said+`}],"rules":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		if r := c.Host.Routes[0]; r.Encap != tt.encap || r.Opaque != tt.opaque {
			t.Errorf("%s: encap %q, opaque %q", tt.said, r.Encap, r.Opaque)
		}
	}
}

// TestCaptureNewerIproute2: `ip` of iproute2 6.15 says the same as that of 6.1
// in other words.
func TestCaptureNewerIproute2(t *testing.T) {
	newer := strings.NewReplacer(
		`"encap":"ip","id":7,"src":"1.2.3.4","dst":"5.6.7.8","tos":0,`,
		`"encap":{"encap_type":"ip","id":7,"src":"1.2.3.4","dst":"5.6.7.8","tos":0},`,
		`"dport":80,`, `"dport":80,"dport_mask":"0xffff",`).Replace(byHand)
	want, err := Decode("6.1.json", []byte(byHand))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode("6.15.json", []byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareNetip, comparePrefix); diff != "" {
		t.Errorf("-6.1 +6.15\n%s", diff)
	}
	if !strings.Contains(newer, "encap_type") || !strings.Contains(newer, "dport_mask") {
		t.Errorf("not what 6.15 prints:\n%s", newer)
	}
}
