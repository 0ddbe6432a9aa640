package host

import (
	"net/netip"
	"os/exec"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

func TestDNATs(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip(err)
	}
	ns, k := open(t)
	ns.Run("nft", `table inet nat {
		chain prerouting { type nat hook prerouting priority dstnat;
			ip daddr 10.0.1.100 tcp dport 8080 dnat ip to 10.0.0.10:80
			ip daddr { 10.0.2.100, 10.0.3.0/24 } udp dport { 53, 5000-6000 } dnat ip to 10.0.0.11
			ip6 daddr 2001:db8:1::100 dnat ip6 to 2001:db8::10
			tcp dport 22 accept
		}
	}`)
	got, err := k.DNATs()
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i].Origin == "" {
			t.Error("a rule without origin")
		}
		got[i].Origin = ""
	}
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	want := []routing.DNAT{
		{Addrs: []netip.Prefix{prefix("10.0.1.100/32")}, Transport: "tcp", First: 8080, Last: 8080, To: addr("10.0.0.10")},
		{Addrs: []netip.Prefix{prefix("10.0.2.100/32"), prefix("10.0.3.0/24")}, Transport: "udp", First: 53, Last: 6000, To: addr("10.0.0.11")},
		{Addrs: []netip.Prefix{prefix("2001:db8:1::100/128")}, To: addr("2001:db8::10")},
	}
	if diff := cmp.Diff(want, got, compareNetip, comparePrefix); diff != "" {
		t.Error(diff)
	}
}
