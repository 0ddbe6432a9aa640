package routing

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	h := manyUplinks(2)
	h.Addrs = append(h.Addrs,
		Addr{Link: "eth1", Prefix: netip.MustParsePrefix("10.77.0.10/24")})
	pin := func(link, addr string) GatewayPin {
		return GatewayPin{Link: link, Addr: netip.MustParseAddr(addr)}
	}
	none := GatewayPin{Link: "eth1", None: true}
	ret := func(link string, m Return) ReturnPin { return ReturnPin{Link: link, Mode: m} }
	vip := netip.MustParseAddr("192.0.2.7")
	for _, c := range []struct {
		name string
		p    Policy
		want string // part of the error; "" is none
	}{
		{"one gateway", Policy{Gateways: []GatewayPin{pin("eth1", "10.1.0.1")}}, ""},
		{"the same twice", Policy{Gateways: []GatewayPin{pin("eth1", "10.1.0.1"), pin("eth1", "10.1.0.1")}}, ""},
		{"two of one prefix", Policy{Gateways: []GatewayPin{pin("eth1", "10.1.0.1"), pin("eth1", "10.1.0.2")}}, "eth1=10.1.0.1 and =10.1.0.2"},
		{"two of two prefixes", Policy{Gateways: []GatewayPin{pin("eth1", "10.1.0.1"), pin("eth1", "10.77.0.1")}}, ""},
		{"two of two families", Policy{Gateways: []GatewayPin{pin("eth1", "10.1.0.1"), pin("eth1", "2001:db8:1::1")}}, ""},
		{"two outside", Policy{Gateways: []GatewayPin{pin("eth1", "192.0.2.1"), pin("eth1", "192.0.2.2")}}, "contradiction"},
		{"none and one", Policy{Gateways: []GatewayPin{none, pin("eth1", "10.1.0.1")}}, "eth1=none and =10.1.0.1"},
		{"other link", Policy{Gateways: []GatewayPin{none, pin("eth0", "10.0.0.1")}}, ""},
		{"own address", Policy{Gateways: []GatewayPin{pin("eth1", "10.1.0.10")}}, "address of the host itself"},
		{"multicast", Policy{Gateways: []GatewayPin{pin("eth1", "224.0.0.1")}}, "not the address of a router"},
		{"two returns", Policy{Returns: []ReturnPin{ret("eth1", Strict), ret("eth1", NoReturn)}}, "return eth1=strict and =off"},
		{"two addresses", Policy{Addresses: []AddressPin{{Addr: vip, Link: "eth0"}, {Addr: vip, Link: "eth1"}}}, "address 192.0.2.7=eth0 and =eth1"},
		{"absent link", Policy{Gateways: []GatewayPin{pin("eth9", "10.9.0.1")}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.p.Validate(h)
			if c.want == "" {
				if err != nil {
					t.Fatalf("got %v, want no error", err)
				}
				return
			}
			var policyErr *PolicyError
			if !errors.As(err, &policyErr) || !strings.Contains(err.Error(), c.want) ||
				policyErr.Hint() == "" {
				t.Fatalf("got %v, want one with a hint that contains %q",
					err, c.want)
			}
		})
	}
}
