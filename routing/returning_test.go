package routing

import "testing"

// TestEthernet: a link has the mode last-hop if its frames have the MAC of the
// router that sent them.
func TestEthernet(t *testing.T) {
	for _, tt := range []struct {
		link Link
		want bool
	}{
		{Link{}, true},
		{Link{Kind: "bond"}, true},
		{Link{Kind: "vlan"}, true},
		{Link{Kind: "bridge"}, true},
		{Link{Kind: "macvlan"}, true},
		{Link{Kind: "veth"}, true},
		{Link{Loopback: true}, false},
		{Link{PointToPoint: true}, false}, // a modem
		{Link{Kind: "ppp", PointToPoint: true}, false},
		{Link{Kind: "wireguard"}, false},
		{Link{Kind: "tun"}, false},
		{Link{Kind: "vxlan"}, false},
		{Link{Kind: "dummy"}, false},
	} {
		if got := tt.link.ethernet(); got != tt.want {
			t.Errorf("%+v: %v", tt.link, got)
		}
	}
}

// TestLimit: the longest packet of a route is the smaller of what its link and
// its metrics allow; an unknown limit allows all.
func TestLimit(t *testing.T) {
	links := map[string]Link{"a": {MTU: 1500}, "b": {MTU: 1400}, "c": {}}
	for _, tt := range []struct {
		route string
		want  uint32
	}{
		{"default via 10.0.0.1 dev a", 1500},
		{"default via 10.0.0.1 dev a mtu 1300", 1300},
		{"default via 10.0.0.1 dev a mtu 9000", 1500},
		{"default via 10.0.0.1 dev a mtu lock 1350", 1350},
		{"default via 10.0.0.1 dev c", 1<<32 - 1},
		{"default via 10.0.0.1 dev c hoplimit 7 mtu lock 1350", 1350},
		{"default nexthop via 10.0.0.1 dev a nexthop via 10.0.1.1 dev b", 1400},
	} {
		r, err := ParseRoute(IPv4, tt.route)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.limit(links); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.route, got, tt.want)
		}
	}
}
