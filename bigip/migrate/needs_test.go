package migrate

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// TestNeedsAgree: what is asked for is not known elsewhere, for each family by
// itself; an address has one flag, the last one; a question is one line.
func TestNeedsAgree(t *testing.T) {
	addr := netip.MustParseAddr
	n := newNeeds(routing.Policy{})
	n.unknown("eth1", "/Common/dmz", routing.IPv4, place{})
	n.unknown("eth1", "/Common/dmz", routing.IPv6, place{})
	n.gateway("eth1", addr("10.0.1.1"))
	n.gateway("eth1", addr("10.0.1.2")) // of two the first
	n.address(addr("192.0.2.7"), "eth1", netip.Addr{})
	n.address(addr("192.0.2.7"), "eth1", addr("10.0.1.9"))
	n.ask(question{link: "eth2", who: "a\nb", when: "%s is true", answer: "return: off"})
	n.ask(question{link: "eth2", who: "c", when: "%s is true", answer: "return: off"})
	if d := cmp.Diff([]string{"--gateway eth1=10.0.1.1", "--address 192.0.2.7=eth1,10.0.1.9",
		"--gateway eth1=IPv6-ADDR"}, n.all()); d != "" {
		t.Errorf("flags: -want +got\n%s", d)
	}
	want := "interfaces:\n  eth1:\n    gateways: [10.0.1.1]  # add the router for IPv6, " +
		"which migrate cannot detect\n  eth2:\n    # only if a b, c is true: return: " +
		"off\naddresses:\n  192.0.2.7: {interface: eth1, gateway: 10.0.1.9}\n"
	if d := cmp.Diff(want, n.settings()); d != "" {
		t.Errorf("lasthop.yaml: -want +got\n%s", d)
	}
}
