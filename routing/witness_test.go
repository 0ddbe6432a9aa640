package routing_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
	"lasthop/routing/sim"
)

const witnessHost = `
link add eth0 type veth
link add eth1 type veth
link set eth0 up
link set eth1 up
addr add 10.7.0.10/24 dev eth0
addr add 10.7.1.100/24 dev eth1
route add default via 10.7.0.1 dev eth0
route add default via 10.7.1.1 dev eth1 metric 100
`

// macs of stations: the last byte is their number.
func station(n byte) routing.MAC { return routing.MAC{2, 0, 0, 0, 0, n} }

var vrrpMAC = routing.MAC{0, 0, 0x5e, 0, 1, 0x33}

// seenWay is a way of 10.7.1.100:80 as a table has it: in and out are a link
// and a MAC, and c what was counted.
func seenWay(in, out string, from, to routing.MAC, c routing.Connections) routing.SeenWay {
	return routing.SeenWay{Addr: netip.MustParseAddr("10.7.1.100"), Port: 80,
		Transport: routing.TCP, Class: routing.OffLinkClient, Clients: c.Seen, Count: c,
		In:  routing.Crossing{Link: in, Wire: in, MAC: from},
		Out: routing.Crossing{Link: out, Wire: out, MAC: to}}
}

func decide(t *testing.T, host string) routing.Decision {
	t.Helper()
	s, err := sim.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	d, err := routing.Decide(routing.Inputs{Host: s.Host,
		Policy: routing.Policy{Numbers: routing.DefaultNumbers},
		Listeners: []routing.Listener{{Addr: netip.MustParseAddr("10.7.1.100"),
			Ports:     routing.PortRange{First: 80, Last: 81},
			Transport: routing.TCP}}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestJudge(t *testing.T) {
	d := decide(t, witnessHost)
	works := routing.Connections{Seen: 5, Confirmed: 5}
	dark := routing.Connections{Seen: 3, Unanswered: 3}
	name := func(link string, mac routing.MAC, addr, source string) routing.MACName {
		return routing.MACName{Wire: link, MAC: mac, Addr: netip.MustParseAddr(addr),
			Source: source}
	}
	router := []routing.MACName{name("eth1", station(1), "10.7.1.1", "ARP")}
	joined := []routing.MACName{name("eth1", station(1), "10.7.1.2", "ARP"), name("eth1", vrrpMAC, "10.7.1.2", "VRRP")}
	for _, tt := range []struct {
		name  string
		names []routing.MACName
		ways  []routing.SeenWay
		want  string
	}{
		{"nothing", nil, nil, " | "},
		{"the same router", router, []routing.SeenWay{seenWay("eth1", "eth1", station(1), station(1), works)}, "symmetric works | "},
		{"another link", router, []routing.SeenWay{seenWay("eth1", "eth0", station(1), station(2), works)}, "asymmetric works | warning asymmetric"},
		{"the same MAC on another link", router, []routing.SeenWay{seenWay("eth1", "eth0", station(1), station(1), works)}, "asymmetric works | warning asymmetric"},
		{"another router that works", nil, []routing.SeenWay{seenWay("eth1", "eth1", station(5), station(1), works)}, "other-router works | info other-router"},
		{"another router, dark", []routing.MACName{name("eth1", station(5), "10.7.1.5", "ARP")}, []routing.SeenWay{seenWay("eth1", "eth1", station(5), station(1), routing.Connections{Seen: 3, Unconfirmed: 3})}, "other-router dark | error dark, warning seen-gateway --gateway eth1=10.7.1.5"},
		{"dark by a router that is off the link", []routing.MACName{name("eth1", station(5), "192.0.2.5", "probe")}, []routing.SeenWay{seenWay("eth1", "eth1", station(5), station(1), dark)}, "other-router dark | error dark"},
		{"a group's MAC, unproved", nil, []routing.SeenWay{seenWay("eth1", "eth1", station(1), vrrpMAC, works)}, "same-link works | info same-link"},
		{"a group's MAC, proved", joined, []routing.SeenWay{seenWay("eth1", "eth1", station(1), vrrpMAC, works)}, "symmetric works | "},
		{"no MACs", nil, []routing.SeenWay{seenWay("wg0", "wg0", routing.MAC{}, routing.MAC{}, works)}, "symmetric works | "},
		{"nothing left", router, []routing.SeenWay{seenWay("eth1", "", station(1), routing.MAC{}, dark)}, "unanswered dark | error dark"},
		{"two are no proof of darkness", router, []routing.SeenWay{seenWay("eth1", "", station(1), routing.MAC{}, routing.Connections{Seen: 2, Unanswered: 2})}, "unanswered unknown | "},
		{"nothing yet", router, []routing.SeenWay{seenWay("eth1", "", station(1), routing.MAC{}, routing.Connections{Seen: 2})}, "unknown unknown | "},
		{"refused", router, []routing.SeenWay{seenWay("eth1", "eth1", station(1), station(1), routing.Connections{Seen: 4, Refused: 4})}, "symmetric refused | "},
		{"one leftover of a thousand", router, []routing.SeenWay{seenWay("eth1", "eth1", station(1), station(1), routing.Connections{Seen: 999, Confirmed: 999}), seenWay("eth1", "eth0", station(1), station(2), routing.Connections{Seen: 1, Confirmed: 1})}, "symmetric works | "},
		{"two routers of a link", append(slices.Clone(router), name("eth1", station(2), "10.7.1.2", "ARP")), []routing.SeenWay{seenWay("eth1", "eth1", station(1), station(1), works), seenWay("eth1", "eth1", station(2), station(1), works)}, "other-router works | info other-router, info seen-routers"},
	} {
		s := routing.Judge(d, routing.Evidence{Ways: tt.ways, Names: tt.names})
		if got := judged(s); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if silent := len(s.Silent) == 1; silent != (len(tt.ways) == 0) {
			t.Errorf("%s: silent: %v", tt.name, s.Silent)
		}
	}
}

// judged is the verdict, the outcome, and the findings with the gateways that
// they propose.
func judged(s routing.Seen) (text string) {
	for _, l := range s.Listeners {
		text += fmt.Sprintf("%s %s", l.Verdict, l.Outcome)
	}
	var codes []string
	for _, f := range s.Findings {
		code := string(f.Severity) + " " + string(f.Code)
		if _, flag, ok := strings.Cut(f.Hint, "--gateway"); ok {
			code += " --gateway" + flag
		}
		codes = append(codes, code)
	}
	slices.Sort(codes)
	return text + " | " + strings.Join(slices.Compact(codes), ", ")
}

// TestJudgeLossy: if packets were lost, silence means nothing.
func TestJudgeLossy(t *testing.T) {
	w := seenWay("eth1", "", station(1), routing.MAC{},
		routing.Connections{Seen: 9, Unanswered: 9})
	s := routing.Judge(decide(t, witnessHost), routing.Evidence{Ways: []routing.SeenWay{w},
		Sampling: routing.Sampling{Packets: 1000, Dropped: 20}})
	if l := s.Listeners[0]; l.Outcome != routing.WayNotSure || len(s.Findings) > 0 {
		t.Errorf("got %+v, %v", l, s.Findings)
	}
}

// TestLookout: a change is undone by lost clients alone, as many as were
// reached before.
func TestLookout(t *testing.T) {
	clients := func(first, n int) (out []netip.Addr) {
		for i := range n {
			out = append(out, netip.AddrFrom4([4]byte{203, 0, 113, byte(first + i)}))
		}
		return out
	}
	window := func(reached int, lost []netip.Addr) routing.Evidence {
		w := seenWay("eth1", "eth1", station(1), station(1), routing.Connections{})
		w.Reached, w.Lost = reached, lost
		return routing.Evidence{Ways: []routing.SeenWay{w}}
	}
	for _, tt := range []struct {
		name   string
		before int
		after  []routing.Evidence // the last is not over
		undo   bool
	}{
		{"silence", 5, []routing.Evidence{{}}, false},
		{"as many lost", 3, []routing.Evidence{window(0, clients(0, 3))}, true},
		{"fewer lost", 3, []routing.Evidence{window(0, clients(0, 2))}, false},
		{"one client is no evidence", 1, []routing.Evidence{window(0, clients(0, 1))}, false},
		{"one was reached", 3, []routing.Evidence{window(1, clients(0, 3))}, false},
		{"spoofed, without clients before", 0, []routing.Evidence{window(0, clients(0, 200))}, false},
		{"lost over two windows", 3, []routing.Evidence{window(0, clients(0, 2)), window(0, clients(2, 1))}, true},
		{"the same two in both windows", 3, []routing.Evidence{window(0, clients(0, 2)), window(0, clients(0, 2))}, false},
		{"reached meanwhile", 3, []routing.Evidence{window(0, clients(0, 2)), window(1, nil), window(0, clients(2, 1))}, false},
		{"reached at first, dark then", 3, []routing.Evidence{window(2, nil), window(0, clients(0, 3))}, true},
	} {
		l := routing.NewLookout(routing.Host{}, window(tt.before, nil))
		for _, e := range tt.after[:len(tt.after)-1] {
			l.Turn(e)
		}
		if why := l.Dark(tt.after[len(tt.after)-1]); (why != "") != tt.undo {
			t.Errorf("%s: got %q, want %t", tt.name, why, tt.undo)
		}
	}
	lossy := window(0, clients(0, 9))
	lossy.Sampling = routing.Sampling{Packets: 10, Dropped: 10}
	if why := routing.NewLookout(routing.Host{}, window(3, nil)).Dark(lossy); why != "" {
		t.Errorf("with packets lost: %s", why)
	}
}

func TestMAC(t *testing.T) {
	for text, want := range map[string]bool{"02:00:00:00:00:0a": true, "": true,
		"02:00:00:00:00": false, "0200000000aa": false, "02:00:00:00:00:0g": false} {
		var m routing.MAC
		err := m.UnmarshalText([]byte(text))
		if (err == nil) != want || want && m.String() != text {
			t.Errorf("%q: got %q, %v", text, m, err)
		}
	}
	for text, want := range map[string]bool{"00:00:5e:00:01:33": true, "00:00:5e:00:02:01": true,
		"00:00:0c:07:ac:01": true, "00:00:0c:9f:f0:01": true, "00:00:0c:9f:e0:01": false,
		"00:09:0f:09:00:01": true, "02:00:00:00:00:01": false, "": false} {
		var m routing.MAC
		if err := m.UnmarshalText([]byte(text)); err != nil || m.Redundant() != want {
			t.Errorf("%q: got %t, want %t", text, m.Redundant(), want)
		}
	}
}
