package migrate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/bigip"
	"lasthop/routing"
)

// verifyHost has the addresses that moved: .100 to .105 and those of IPv6.
const verifyHost = `link add eth1 type veth
link set eth1 up
link add eth2 type veth
addr add 10.0.1.10/24 dev eth1
addr add 10.0.1.100/24 dev eth1
addr add 10.0.1.101/32 dev eth1
addr add 10.0.1.102/32 dev eth1
addr add 10.0.1.103/32 dev eth1
addr add 10.0.1.104/32 dev eth1
addr add 10.0.2.10/24 dev eth2
addr add 10.0.2.100/32 dev eth2
addr add 2001:db8:1::10/64 dev eth1
addr add 2001:db8:1::100/128 dev lo
addr add 2001:db8:1::101/128 dev eth1
route add default via 10.0.1.1 dev eth1
`

const verifyFiles = `net vlan /Common/v1 { tag 1 }
net vlan /Common/v2 { tag 2 }
net self /Common/self1 { address 10.0.1.2/24 vlan /Common/v1 }
net self /Common/self2 { address 10.0.2.2/24 vlan /Common/v2 }
net self /Common/self6 { address 2001:db8:1::2/64 vlan /Common/v1 }
ltm virtual-address /Common/web { address 10.0.1.100 }
ltm virtual /Common/a { destination /Common/web:80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/a2 { destination /Common/web:81 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/b { destination /Common/10.0.1.101:80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/c { destination /Common/10.0.1.102:80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/d { destination /Common/10.0.1.103:80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/e { destination /Common/10.0.2.100:80 ip-protocol tcp vlans { /Common/v2 } vlans-enabled }
ltm virtual /Common/f { destination /Common/2001:db8:1::100.80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/g { destination /Common/2001:db8:1::101.80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual-address /Common/10.0.1.104 { address 10.0.1.104 arp disabled enabled no }
ltm virtual /Common/earlier { destination /Common/10.0.1.104:80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/later { destination /Common/10.0.1.200:80 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/no-listener { destination /Common/10.0.1.202:82 ip-protocol tcp vlans { /Common/v1 } vlans-enabled }
ltm virtual /Common/off { destination /Common/10.0.1.201:80 ip-protocol tcp disabled vlans { /Common/v1 } vlans-enabled }
`

func verifying(t *testing.T) (bigip.Config, Result, routing.Host) {
	t.Helper()
	c, err := bigip.Parse("bigip.conf", []byte(verifyFiles))
	if err != nil {
		t.Fatal(err)
	}
	h := hostOf(t, verifyHost)
	for i := range h.Links {
		h.Links[i].Carrier = h.Links[i].Up
	}
	h.Neighs = []routing.Neigh{
		{Link: "eth1", Addr: addrOf("10.0.1.1"), MAC: "02:00:00:00:00:01", State: "STALE"},
		{Link: "eth1", Addr: addrOf("10.0.1.9"), MAC: "02:00:00:00:00:09", State: "FAILED"}}
	r, err := Selection{}.Join(c, routing.Inputs{Host: h, Policy: routing.Policy{
		Numbers: routing.DefaultNumbers, Gateways: []routing.GatewayPin{
			{Link: "eth1", Addr: addrOf("2001:db8:1::1")}, {Link: "eth2", None: true}}},
		Listeners: listens(t, "*:80\n*:81\n[::]:80")})
	if err != nil {
		t.Fatal(err)
	}
	return c, r, h
}

func addrOf(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestQuestions: neighbours are asked for the addresses that are here, and for
// the BIG-IP's self IPs on the same links.
func TestQuestions(t *testing.T) {
	c, r, h := verifying(t)
	var got []string
	for _, q := range Questions(c, r, h) {
		got = append(got, q.Addr.String()+" "+q.Link)
	}
	want := []string{"10.0.1.100 eth1", "10.0.1.101 eth1", "10.0.1.102 eth1",
		"10.0.1.103 eth1", "10.0.2.100 eth2", "2001:db8:1::100 eth1",
		"2001:db8:1::101 eth1", "10.0.1.104 eth1", "10.0.1.2 eth1", "10.0.2.2 eth2",
		"2001:db8:1::2 eth1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// answered is the neighbours' answers in TestVerify: of the addresses of eth1,
// the BIG-IP has one, a router and another machine answer for other ones.
func answered(q routing.Question) (a routing.Asked) {
	a.Question = q
	mac := func(last byte) routing.MAC { return routing.MAC{2, 0, 0, 0, 0, last} }
	switch q.Addr.String() {
	case "10.0.1.2":
		a.Answers = []routing.Answer{{MAC: mac(2)}}
	case "10.0.1.100":
		a.Answers = []routing.Answer{{MAC: mac(1), Proxy: true}, {MAC: mac(2)}}
	case "10.0.1.101":
		a.Answers = []routing.Answer{{MAC: mac(1), Proxy: true}}
	case "10.0.1.103":
		a.Unasked = "the interface has no MAC addresses"
	case "10.0.2.100":
		a.Unasked = "the interface is down"
	case "2001:db8:1::101":
		a.Answers = []routing.Answer{{MAC: mac(9)}}
	}
	return a
}

const verified = `10.0.1.100 eth1 [/Common/a /Common/a2]: duplicate "" [02:00:00:00:00:01 ` +
	"(router 10.0.1.1) 02:00:00:00:00:02 (BIG-IP, self IP 10.0.1.2 " +
	"/Common/self1)]\n10.0.1.101 eth1 [/Common/b]: proxied \"\" [02:00:00:00:00:01 (router " +
	"10.0.1.1)]\n10.0.1.102 eth1 [/Common/c]: here \"\" []\n10.0.1.103 eth1 [/Common/d]: " +
	"not-asked \"the interface has no MAC addresses\" []\n10.0.2.100 eth2 [/Common/e]: " +
	"not-answered \"eth2 is down\" []\n2001:db8:1::100 eth1 [/Common/f]: not-answered \"it " +
	`is on lo, and the kernel answers for an IPv6 address only on its own interface" ` +
	"[]\n2001:db8:1::101 eth1 [/Common/g]: duplicate \"\" [02:00:00:00:00:09]\n10.0.1.104 " +
	"eth1 [/Common/earlier]: here \"\" []\n10.0.1.200 eth1 [/Common/later]: not-moved \"\" " +
	"[]\nerror duplicate-address 10.0.1.100: if it is the BIG-IP: tmsh modify ltm " +
	"virtual-address /Common/web arp disabled enabled no, and then here: arping -U -c 3 -I " +
	"eth1 10.0.1.100\nerror duplicate-address 2001:db8:1::101: if it is the BIG-IP: tmsh " +
	"modify ltm virtual-address NAME arp disabled enabled no\nerror not-answered " +
	"10.0.2.100: ip address show dev eth2\nerror not-answered 2001:db8:1::100: ip address " +
	"show dev eth1\nwarning proxy-answers 10.0.1.101: if it is a router: check its route " +
	"for the address, and its proxy ARP\ninfo not-asked 10.0.1.103 (the interface has no " +
	"MAC addresses): check the routes for them on the routers\ninfo not-moved " +
	"10.0.1.200: go on with the steps of migrate\n"

// TestVerify: each state of an address, who else has it, and what to do.
func TestVerify(t *testing.T) {
	c, r, h := verifying(t)
	var asked []routing.Asked
	for _, q := range Questions(c, r, h) {
		asked = append(asked, answered(q))
	}
	if d := cmp.Diff(verified, dumpVerified(Verify(c, r, h, asked, nil))); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	for i := range h.Addrs {
		h.Addrs[i].Tentative = h.Addrs[i].Prefix.Addr() == addrOf("2001:db8:1::101")
	}
	v := Verify(c, r, h, nil, nil)
	if m := v.Addresses[6]; m.State != NotAnswered || !strings.Contains(m.Reason, "tentative") {
		t.Errorf("an address that the kernel does not use: %+v", m)
	}
	v = Verify(c, Result{}, h, nil, nil)
	want := "warning not-moved no virtual server is ready: go on with the steps of " +
		"migrate, on the right host and with the right files\n"
	if got := dumpVerified(v); got != want {
		t.Errorf("nothing is here: %s", got)
	}
}

func dumpVerified(v Verification) string {
	var b strings.Builder
	for _, m := range v.Addresses {
		fmt.Fprintf(&b, "%s %s %v: %s %q %v\n", m.Address, m.Interface, m.Virtuals,
			m.State, m.Reason, m.Machines)
	}
	for _, f := range v.Findings {
		fmt.Fprintf(&b, "%s %s %s: %s\n", f.Severity, f.Code, f.Subject, f.Hint)
	}
	return b.String()
}

// domainFiles are those of a BIG-IP that has given away an address in each of
// two route domains.
const domainFiles = `net vlan /Common/v1 { tag 1 }
net vlan /Common/w1 { tag 2 }
net route-domain /Common/1 { id 1 vlans { /Common/w1 } }
net self /Common/self1 { address 10.0.1.2/24 vlan /Common/v1 }
net self /Common/other1 { address 10.0.1.2%1/24 vlan /Common/w1 }
ltm virtual-address /Common/10.0.1.100 { address 10.0.1.100 enabled no }
ltm virtual-address /Common/10.0.1.100%1 { address 10.0.1.100%1 enabled no }
ltm virtual /Common/a { destination /Common/10.0.1.100:80 ip-protocol tcp }
ltm virtual /Common/b { destination /Common/10.0.1.100%1:80 ip-protocol tcp }
ltm virtual /Common/c { destination /Common/10.0.1.101:80 ip-protocol tcp }
ltm virtual /Common/d { destination /Common/10.0.1.101%1:80 ip-protocol tcp }
`

// TestVerifyDomain: of two route domains with the same addresses, what is said
// is about the one that this host is for.
func TestVerifyDomain(t *testing.T) {
	c, err := bigip.Parse("bigip.conf", []byte(domainFiles))
	if err != nil {
		t.Fatal(err)
	}
	h := hostOf(t, verifyHost)
	for i := range h.Links {
		h.Links[i].Carrier = h.Links[i].Up
	}
	for _, tt := range []struct{ skip, virtual, self, address string }{
		{"%1", "/Common/a", "/Common/self1", "/Common/10.0.1.100 "},
		{"%0", "/Common/b", "/Common/other1", "/Common/10.0.1.100%1 "}} {
		sel := Selection{Skip: []string{tt.skip}}
		r, err := sel.Join(c, routing.Inputs{Host: h, Policy: routing.Policy{
			Numbers: routing.DefaultNumbers}, Listeners: listens(t, "*:80")})
		if err != nil {
			t.Fatal(err)
		}
		of, asked := sel.Domains(c), []routing.Asked(nil)
		for _, q := range Questions(of, r, h) {
			asked = append(asked, answered(q))
		}
		v := Verify(of, r, h, asked, nil)
		got, hint := v.Addresses[0], v.Findings[0].Hint
		want := "BIG-IP, self IP 10.0.1.2 " + tt.self
		if d := cmp.Diff([]string{tt.virtual, want}, append(got.Virtuals,
			got.Machines[1].Names...)); d != "" || !strings.Contains(hint, tt.address) {
			t.Errorf("--skip %s: %s\n-want +got\n%s", tt.skip, hint, d)
		}
	}
}

// TestVerifySeen: which address has had requests, and from which clients; a
// ping is none.
func TestVerifySeen(t *testing.T) {
	c, r, h := verifying(t)
	router := routing.Crossing{Link: "eth1", Router: addrOf("10.0.1.1")}
	way := func(n int) []routing.SeenWay {
		return []routing.SeenWay{{Class: routing.OffLinkClient, In: router, Clients: 1,
			Count: routing.Connections{Seen: n}}}
	}
	seen := &routing.Seen{Listeners: []routing.SeenListener{
		{Addr: addrOf("10.0.1.100"), Port: 80, Transport: routing.TCP, Ways: way(3)},
		{Addr: addrOf("10.0.1.100"), Port: 81, Transport: routing.TCP, Ways: way(4)},
		{Addr: addrOf("10.0.1.101"), Transport: routing.ICMP, Ways: way(5)}}}
	v := Verify(c, r, h, nil, seen)
	want := []Came{{Class: routing.OffLinkClient, Clients: 2, Connections: 7, In: router}}
	if d := cmp.Diff(want, v.Addresses[0].Came, cmp.Comparer(
		func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	last := v.Findings[len(v.Findings)-2:]
	if last[0].Code != "no-requests" || len(v.Addresses[1].Came) != 0 ||
		!strings.HasPrefix(last[0].Subject, "10.0.1.101, 10.") {
		t.Errorf("no request came to it: %+v", last)
	}
}
