package settings

import (
	"net/netip"
	"testing"

	"lasthop/routing"
)

// TestExplainLine: the command that a finding names looks at the same namespace
// or captured host as the one that found it.
func TestExplainLine(t *testing.T) {
	q := routing.Query{Src: netip.MustParseAddr("10.0.1.100"),
		Dst: netip.MustParseAddr("198.51.100.1")}
	for want, l := range map[string]Line{
		"lasthop explain 10.0.1.100 --from 198.51.100.1":                                             {},
		"lasthop explain 10.0.1.100 --from 198.51.100.1 --netns web":                                 {NetNS: "web"},
		"lasthop explain 10.0.1.100 --from 198.51.100.1 --nginx-conf n.conf --gateway eth1=10.0.1.1": {Flags: Flags{Confs: []string{"n.conf"}, Gateways: []string{"eth1=10.0.1.1"}}},
		"lasthop explain 10.0.1.100 --from 198.51.100.1 --host 'my host.json'":                       {Host: "my host.json"},
	} {
		if got := l.Explain(q); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
