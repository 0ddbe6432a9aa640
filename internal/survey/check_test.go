package survey

import (
	"net/netip"
	"testing"

	"lasthop/report"
	"lasthop/routing"
)

// TestVerdictLastHop: a route with the program answers each connection, by
// whichever candidate it is. Without the program the gateway must be the
// path's.
func TestVerdictLastHop(t *testing.T) {
	via := netip.MustParseAddr
	s := &Survey{}
	s.Decision.Plan.Paths = []routing.Path{{Link: "eth1", LastHop: true,
		Hops: []routing.Hop{{Link: "eth1", Via: via("10.0.1.1")}}}}
	o := routing.Outcome{Status: routing.Ready, Path: 1}
	for _, tt := range []struct {
		now  routing.Way
		want report.Verdict
	}{
		{routing.Way{Link: "eth1", Via: via("10.0.1.1"), LastHop: true}, report.Symmetric},
		{routing.Way{Link: "eth0", Via: via("10.0.0.1"), LastHop: true}, report.Symmetric},
		{routing.Way{Link: "eth1", Via: via("10.0.1.1")}, report.Symmetric}, // not-installed says more
		{routing.Way{Link: "eth0", Via: via("10.0.0.1")}, report.Asymmetric},
	} {
		tt.now.Type = routing.Unicast
		if _, got := s.verdict(o, tt.now); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.now, got, tt.want)
		}
	}
	s.Decision.Plan.Paths[0].LastHop = false
	other := routing.Way{Type: routing.Unicast, Link: "eth0", Via: via("10.0.0.1"),
		LastHop: true}
	if _, got := s.verdict(o, other); got != report.Asymmetric {
		t.Errorf("a strict path, and a program of another's table: %s", got)
	}
}
