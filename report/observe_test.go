package report

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// seenExample has a way of each kind.
func seenExample() Observe {
	addr := netip.MustParseAddr
	r0 := routing.Crossing{Link: "eth0", Wire: "eth0", MAC: routing.MAC{2, 0, 0, 0, 0, 1},
		Router: addr("10.7.0.1"), Source: "neighbour"}
	r1 := routing.Crossing{Link: "eth1", Wire: "eth1", MAC: routing.MAC{2, 0, 0, 0, 1, 1},
		Router: addr("10.7.1.1"), Source: "ARP"}
	nameless := routing.Crossing{Link: "eth1", Wire: "eth1",
		MAC: routing.MAC{0x0e, 0x2d, 0x9a, 0x26, 0x7e, 0xd0}}
	vain := routing.Crossing{Link: "eth0", Asked: addr("10.7.0.1")}
	listener := func(a string, port uint16, seen int, in, out routing.Crossing,
		v routing.WayVerdict, o routing.WayOutcome) routing.SeenListener {
		w := routing.SeenWay{Class: routing.OffLinkClient, Clients: 9, In: in, Out: out,
			Count: routing.Connections{Seen: seen}, Verdict: v, Outcome: o,
			Examples: []netip.Addr{addr("198.51.100.2"), addr("198.51.100.3")}}
		return routing.SeenListener{Addr: addr(a), Port: port, Transport: routing.TCP,
			Verdict: v, Outcome: o, Ways: []routing.SeenWay{w}}
	}
	from := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Observe{Head: Head{Lasthop: "test", Host: "web1", Kernel: "6.1.0", Time: from},
		Seen: routing.Seen{Clients: 3411,
			Window: routing.Window{From: from, To: from.Add(30 * time.Second),
				Seconds: 30},
			Sampling: routing.Sampling{Handshakes: 4, Payload: 1, Requests: 1,
				Segments: 8, Packets: 54321},
			Listeners: []routing.SeenListener{
				listener("10.7.0.10", 443, 8840, r0, r0, routing.WaySymmetric,
					routing.WayWorks),
				listener("10.7.1.100", 443, 214, r1, r0, routing.WayAsymmetric,
					routing.WayWorks),
				listener("10.7.1.101", 443, 9, r1, vain, routing.WayUnanswered,
					routing.WayDark),
				listener("203.0.113.5", 80, 57, nameless, r1, routing.WayOther,
					routing.WayWorks)},
			Silent: []routing.Silent{{Addr: addr("10.7.1.102"), Port: 443,
				Transport: routing.TCP}, {Addr: addr("10.7.1.103"), Port: 8000,
				LastPort: 8005, Transport: routing.UDP}},
			Gateways: []routing.SeenGateway{{Link: "eth1", Family: routing.IPv4,
				MAC: r1.MAC, Addr: r1.Router, Source: "ARP", Connections: 223,
				Clients: 9}},
			Findings: []routing.Finding{routing.Error.Finding("dark",
				"10.7.1.101:443", "9 connections of 9 clients, no answer left "+
					"this host"),
				routing.Warning.Finding("asymmetric", "10.7.1.100:443",
					"a stateful firewall would drop these replies").
					Advise("see what lasthop would change: lasthop plan")}}}
}

const seenText = `Seen in 30 s: 9,120 connections of 3,411 clients (1 in 4 looked at, no packet
lost)
  LISTENER        CLIENTS   SEEN  VERDICT
      CAME BY -> REPLIES LEFT BY
  10.7.0.10:443   off-link  8840  symmetric            eth0 10.7.0.1 -> the same
  10.7.1.100:443  off-link   214  ASYMMETRIC, works
      eth1 10.7.1.1 -> eth0 10.7.0.1
  10.7.1.101:443  off-link     9  UNANSWERED
      eth1 10.7.1.1 -> none: 10.7.0.1 on eth0 does not answer
  203.0.113.5:80  off-link    57  other router, works
      eth1 0e:2d:9a:26:7e:d0 -> eth1 10.7.1.1
  no packets: 10.7.1.102:443 and 1 more (nothing is known of them)

Findings (2)
  error: dark: 10.7.1.101:443
    9 connections of 9 clients, no answer left this host
  warning: asymmetric: 10.7.1.100:443
    a stateful firewall would drop these replies
    do: see what lasthop would change: lasthop plan

lasthop help CODE explains a finding.
`

func TestObserveText(t *testing.T) {
	var b strings.Builder
	if err := seenExample().Text(&b, Style{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(seenText, b.String()); d != "" {
		t.Errorf("-want +got\n%s\n%s", d, b.String())
	}
}

// TestObserveWidth: a terminal of 200 columns has a line for each way; 80
// columns hold the longest addresses and names of links.
func TestObserveWidth(t *testing.T) {
	o := seenExample()
	for _, line := range strings.Split(textOf(t, o, Style{Width: 200}), "\n")[1:6] {
		if !strings.Contains(line, " -> ") {
			t.Errorf("not one line for a way: %q", line)
		}
	}
	addr := netip.MustParseAddr("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff")
	for i := range o.Listeners {
		l := &o.Listeners[i]
		l.Addr, l.Port = addr, 65535
		w := &l.Ways[0]
		w.Count.Seen = 123456789
		w.In.Link, w.In.Router = "enp129s0f1np1.7", addr
		if w.Out.Link = "enp129s0f1np1.8"; w.Out.Router.IsValid() {
			w.Out.Router = addr
		}
		if w.Out.Asked.IsValid() {
			w.Out.Asked = addr
		}
	}
	o.Silent[0].Addr, o.Silent[0].LastPort = addr, 65535
	o.Findings[0].Message = strings.Repeat("a long message ", 20)
	wantWidth(t, o)
}

// TestObserveJSON holds the document against its schema, also without packets.
func TestObserveJSON(t *testing.T) {
	empty := Observe{Head: seenExample().Head}
	empty.Sampling = routing.Sampling{Handshakes: 1, Payload: 1, Requests: 1, Segments: 1}
	for _, o := range []Observe{seenExample(), empty} {
		wantSchema(t, "observe", o)
	}
}
