package report

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func makeLastHop(at time.Time) *LastHop {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	return &LastHop{Time: at, More: 3, Hops: []Hop{
		{Link: "eth1", MAC: "02:00:00:00:00:01", Ours: "02:00:00:00:01:01", Router: true,
			Addrs: addrs("10.1.0.1"), State: HopDead, StandIn: "02:00:00:00:00:02",
			Noted: at.Add(-time.Minute)},
		{Link: "eth2", MAC: "02:00:00:00:00:03", Ours: "02:00:00:00:01:02", State: HopDead,
			Noted: at.Add(-time.Second)},
		{Link: "eth1", MAC: "02:00:00:00:00:02", Ours: "02:00:00:00:01:01",
			Addrs: addrs("10.1.0.254"), State: HopAlive, Noted: at.Add(-3 * time.Second),
			Flows: &HopFlows{Connections: 1204, Handshakes: 1}},
		{MAC: "02:00:00:00:00:09", Ours: "02:00:00:00:01:01", State: HopQuiet,
			Noted: at.Add(-time.Hour)}},
		Links: []LinkHops{{Link: "", Quiet: 1}, {Link: "eth1", Alive: 4, Dead: 1},
			{Link: "eth2", Dead: 1}},
		Fill: []Fill{{"connections", .125}, {"handshakes", 1}},
		Counts: HopCounts{Learned: 5120, Moved: 12, Refused: 3, Answered: 1234567,
			ByTable: 9, Dead: 2}}
}

func TestStatusLastHop(t *testing.T) {
	s := makeStatus(t)
	text := textOf(t, s, Style{Width: 120})
	want := `
Last hops (7): 2 dead, 4 alive, 1 quiet
  eth1  02:00:00:00:00:01  10.1.0.1    DEAD: 02:00:00:00:00:02 answers
  eth2  02:00:00:00:00:03  -           DEAD: the route answers
  eth1  02:00:00:00:00:02  10.1.0.254  alive, last new connection 3s ago
      1,204 connections, 1 handshake, 0 datagram flows
  -     02:00:00:00:00:09  -           quiet: last new connection 1h0m0s ago, not watched
  … and 3 more
  learned 5,120, moved 12, refused 3; packets answered 1,234,567, by table 9, hop dead 2
  maps: connections 12 %, handshakes 100 % full
`
	if !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	s.LastHop = nil
	if strings.Contains(textOf(t, s, Style{}), "Last hops") {
		t.Error("a status without the mode speaks of hops")
	}
}

// TestPublicHops: everybody may see the addresses of routers. Another hop may
// be a client.
func TestPublicHops(t *testing.T) {
	s := Status{LastHop: makeLastHop(time.Time{})}
	p := s.Public(func(string, string) (bool, bool) { return true, false })
	if p.LastHop.Hops[0].Addrs == nil || p.LastHop.Hops[2].Addrs != nil {
		t.Errorf("public: %v", p.LastHop.Hops)
	}
	if d := cmp.Diff(makeLastHop(time.Time{}), s.LastHop, cmp.Comparer(
		func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("the status itself has changed:\n%s", d)
	}
}
