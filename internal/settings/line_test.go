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

// TestApplyLine: the command that carries out a plan begins with sudo for users
// that need it, and names the plan by 12 digits.
func TestApplyLine(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for want, l := range map[string]Line{
		"lasthop apply --expect 0123456789ab":                  {},
		"sudo lasthop apply --expect 0123456789ab":             {Sudo: true},
		"sudo lasthop apply --netns web --expect 0123456789ab": {Sudo: true, NetNS: "web"},
		"write these flags into /etc/lasthop/lasthop.yaml, then run: sudo lasthop reload": {
			Sudo: true, Served: true},
	} {
		if got := l.Apply(digest); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
