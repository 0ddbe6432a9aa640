package routing_test

import (
	"net/netip"
	"slices"
	"testing"

	"lasthop/routing"
)

// A pinned gateway is far if its link has a subnet, and nothing on the host
// says that it is on this link. What lasthop itself has installed for it says
// nothing.
func TestFarGateway(t *testing.T) {
	const hostLines = `
		link add eth0 type veth
		link add eth1 type veth
		link set eth0 up
		link set eth1 up
		addr add 10.0.0.10/24 dev eth0
		route add default via 10.0.0.1 dev eth0
		addr add 2001:db8:1::100/64 dev eth1
		addr add `
	const v4, v6 = "10.0.1.100", "2001:db8:1::100"
	const subnet = v4 + "/24 dev eth1\n"
	for _, c := range []struct{ name, more, listener, gateway, want string }{
		{"typo", subnet, v4, "10.0.9.9", "10.0.1.0/24"},
		{"IPv6 typo", subnet, v6, "2001:db8:9::1", "2001:db8:1::/64"},
		{"in another link's subnet", subnet, v4, "10.0.0.254", "10.0.1.0/24"},
		{"on-link by another link", subnet + "route add 10.0.9.9 dev eth0", v4, "10.0.9.9",
			"10.0.1.0/24"},
		{"in the subnet", subnet, v4, "10.0.1.1", ""},
		{"in a subnet without a route", v4 + "/24 dev eth1 noprefixroute", v4, "10.0.1.1", ""},
		{"link-local", subnet, v6, "fe80::1", ""},
		{"in a second subnet", subnet + "addr add 10.0.9.10/24 dev eth1", v4, "10.0.9.9", ""},
		{"on-link", subnet + "route add 10.0.9.9 dev eth1", v4, "10.0.9.9", ""},
		{"known to another table", subnet + "route add default via 10.0.9.9 dev eth1 " +
			"onlink table 7", v4, "10.0.9.9", ""},
		{"no subnet", v4 + "/32 dev eth1", v4, "10.0.9.9", ""},
		{"a line between two hosts", v4 + "/31 dev eth1", v4, "10.0.9.9", ""},
		{"DHCP knows it", subnet, v4, "10.0.7.7", ""},
	} {
		h, gateway := parseHost(t, hostLines+c.more), netip.MustParseAddr(c.gateway)
		h.Routes = slices.DeleteFunc(h.Routes, // a link may lack it
			func(r routing.Route) bool { return r.Dst.Addr().IsLinkLocalUnicast() })
		h.Leases = []routing.Lease{{Link: "eth1", Gateway: netip.MustParseAddr("10.0.7.7")}}
		want := ""
		if c.want != "" {
			want = c.gateway + " is in no subnet of eth1 (" + c.want +
				"): lasthop sends replies to it as to a neighbour"
		}
		link, address := plain, plain
		link.Gateways = []routing.GatewayPin{{Link: "eth1", Addr: gateway}}
		address.Addresses = []routing.AddressPin{{Addr: netip.MustParseAddr(c.listener),
			Link: "eth1", Gateway: gateway}}
		for _, p := range []routing.Policy{link, address} {
			first := planOf(t, h, listenOn(c.listener), nil, p)
			after := routing.With(h, first.State)
			again := planOf(t, after, listenOn(c.listener), nil, p)
			for _, plan := range []routing.Plan{first, again} {
				if got := told(plan, "far-gateway").Message; got != want {
					t.Errorf("%s: got %q, want %q", c.name, got, want)
				}
			}
		}
	}
}

// told returns the first finding of a plan with a code, the zero Finding if
// there is none.
func told(p routing.Plan, code routing.Code) (f routing.Finding) {
	i := slices.IndexFunc(p.Findings, func(f routing.Finding) bool { return f.Code == code })
	if i >= 0 {
		f = p.Findings[i]
	}
	return f
}
