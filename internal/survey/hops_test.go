package survey

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"

	"github.com/google/go-cmp/cmp"
)

func hopOn(link uint32, n byte) lasthop.Hop {
	return lasthop.Hop{Link: link, Router: lasthop.MAC{2, 0, 0, 0, 0, n},
		Own: lasthop.MAC{2, 0, 0, 0, 1, 1}}
}

func hopsFixture(now time.Time) *Hops {
	type neigh = routing.Neigh
	at := func(link, addr string, mac byte, router bool) neigh {
		return neigh{Link: link, Addr: netip.MustParseAddr(addr), Router: router,
			MAC: fmt.Sprintf("02:00:00:00:00:%02x", mac), State: "REACHABLE"}
	}
	return &Hops{Time: now,
		Noted: map[lasthop.Hop]lasthop.Noted{hopOn(2, 1): {At: now.Add(-time.Minute)},
			hopOn(2, 2): {At: now.Add(-time.Second)}, hopOn(2, 9): {At: now},
			hopOn(3, 3): {At: now.Add(-time.Hour)},
			hopOn(7, 7): {At: now.Add(-time.Minute)},
			hopOn(8, 8): {At: now.Add(-time.Hour)}},
		Dead: map[lasthop.Hop]lasthop.Hop{hopOn(2, 1): hopOn(2, 2), hopOn(7, 7): {},
			hopOn(8, 8): {}},
		Neighs: []neigh{
			at("eth1", "10.0.1.254", 2, false), at("eth1", "10.0.1.1", 1, false),
			at("eth1", "fe80::1", 1, false), at("eth1", "10.0.1.77", 9, false),
			at("eth2", "fe80::3", 3, true), at("eth1", "10.0.1.3", 3, false)},
		Links:    []routing.Link{{Index: 2, Name: "eth1"}, {Index: 3, Name: "eth2"}},
		Gateways: []routing.Hop{{Link: "eth1", Via: netip.MustParseAddr("10.0.1.1")}}}
}

// TestHops: each hop has the link, the addresses of its MAC on that link, and
// its state; the dead are named first, and routers in front of clients. Those
// of a link that went long ago are left out.
func TestHops(t *testing.T) {
	l := hopsFixture(time.Unix(100_000, 0)).Report()
	var got []string
	for _, h := range l.Hops {
		got = append(got,
			fmt.Sprintf("%s router=%t %s %s", h, h.Router, h.State, h.StandIn))
	}
	want := []string{
		"eth1 02:00:00:00:00:01 (10.0.1.1, fe80::1) router=true dead 02:00:00:00:00:02",
		"a link that is gone, 02:00:00:00:00:07 router=false dead ",
		"eth2 02:00:00:00:00:03 (fe80::3) router=true quiet ",
		"eth1 02:00:00:00:00:09 (10.0.1.77) router=false alive ",
		"eth1 02:00:00:00:00:02 (10.0.1.254) router=false alive ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	links := []report.LinkHops{{Link: "", Dead: 1}, {Link: "eth1", Alive: 2, Dead: 1},
		{Link: "eth2", Quiet: 1}}
	if d := cmp.Diff(links, l.Links); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestHopsMany: any host on the link can make hops; only so many are named, and
// the dead router is among them.
func TestHopsMany(t *testing.T) {
	now := time.Unix(100_000, 0)
	h := hopsFixture(now)
	for i := range 4000 {
		mac := lasthop.MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}
		h.Noted[lasthop.Hop{Link: 2, Router: mac}] = lasthop.Noted{At: now}
	}
	l := h.Report()
	if len(l.Hops) != mostHops || l.More != 4005-mostHops || l.Links[1].Alive != 4002 {
		t.Errorf("%d hops, %d more, links %+v", len(l.Hops), l.More, l.Links)
	}
	if l.Hops[0].MAC != "02:00:00:00:00:01" {
		t.Errorf("the first is %s", l.Hops[0])
	}
}

func TestMapFull(t *testing.T) {
	look := func(fill float64, answered, byTable int) report.LastHop {
		return report.LastHop{Fill: []report.Fill{{Map: "datagrams", Ratio: .5},
			{Map: "connections", Ratio: fill}},
			Counts: report.HopCounts{Answered: answered, ByTable: byTable}}
	}
	for _, tt := range []struct {
		name          string
		before, after report.LastHop
		want          bool
	}{
		{"full, and 11 % by the table", look(1, 1000, 1000), look(1, 90_000, 12_000), true},
		{"there is room", look(.9, 1000, 1000), look(.9, 90_000, 12_000), false},
		{"full of what has ended", look(1, 1000, 1000), look(1, 90_000, 1000), false},
		{"less than one in a hundred", look(1, 0, 0), look(1, 90_000, 800), false},
		{"a few", look(1, 0, 0), look(1, 0, 99), false},
		{"new maps", look(1, 90_000, 12_000), look(1, 1000, 200), false},
	} {
		f, found := MapFull(tt.before, tt.after, 262144)
		if found != tt.want {
			t.Errorf("%s: found %t", tt.name, found)
		}
		if found && (f.Severity != routing.Warning ||
			!strings.Contains(f.Hint, "last_hop_flows: 524288") ||
			!strings.Contains(f.Message, "no room for more connections and") ||
			!strings.Contains(f.Message, "of 100000 packets that listeners sent, "+
				"11000 left")) {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}
