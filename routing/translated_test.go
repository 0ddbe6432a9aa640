package routing_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// TestTranslated: NGINX listens on 10.0.0.100 and on 10.0.1.100, each the
// second address of its link. Replies of the latter need a path.
func TestTranslated(t *testing.T) {
	h := parseHost(t, twoUplinks+"addr add 10.0.0.100/24 dev eth0\n"+
		"addr add 10.0.1.100/24 dev eth1\naddr add fe80::1/64 dev eth1\n"+
		"addr add 2001:db8:1::100/64 dev eth1\n"+
		"-6 route add default via 2001:db8:1::1 dev eth1\n")
	in := routing.Inputs{Host: h, Policy: plain,
		Listeners: listenOn("10.0.0.100", "10.0.1.100", "2001:db8:1::100", "127.0.0.1")}
	plan := planOf(t, h, in.Listeners, nil, plain)
	const both = "10.0.0.100 port 80, 10.0.1.100 port 80"
	for _, tt := range []struct {
		rule string
		dnat routing.DNAT
		want string // packets, and where they go
	}{
		{"a container", toPort(80, "172.17.0.2", "0.0.0.0/0"), both + " go to 172.17.0.2"},
		{"another port", toPort(81, "172.17.0.2", "0.0.0.0/0"), ""},
		{"another family", toPort(80, "2001:db8::9", "::/0"), "2001:db8:1::100 port 80 go to 2001:db8::9"},
		{"without addresses", toPort(80, "172.17.0.2"), both + ", 2001:db8:1::100 port 80 go to 172.17.0.2"},
		{"a service of Kubernetes", toPort(80, "10.244.0.7", "10.96.0.1/32"), ""},
		{"another port of the address", toPort(80, "10.0.1.100", "10.0.1.100/32"), ""},
		{"an address with the same way", toPort(80, "10.0.0.10", "10.0.0.100/32"), ""},
		{"an address with another way", toPort(80, "10.0.0.100", "10.0.1.100/32"), "10.0.1.100 port 80 go to 10.0.0.100"},
		{"an address that no path is for", toPort(80, "10.0.1.10", "10.0.1.100/32"), "10.0.1.100 port 80 go to 10.0.1.10"},
		{"a map", toPort(80, "", "10.0.1.0/24"), "10.0.1.100 port 80 go to another address"},
		{"redirected", routing.DNAT{First: 80, Last: 80, Redirect: true}, "10.0.1.100 port 80 go to 10.0.1.10"},
		{"by the link of one", routing.DNAT{In: "eth0"}, "10.0.0.100 port 80 go to another address"},
		{"by some links", routing.DNAT{In: "eth*", Addrs: toPort(1, "", "0.0.0.0/0").Addrs}, both + " go to another address"},
		{"by a bridge", routing.DNAT{In: "br0"}, ""},
		{"by all links but the other", routing.DNAT{In: "!eth1"}, "10.0.0.100 port 80 go to another address"},
		{"by all links but a bridge", routing.DNAT{In: "!br*", Addrs: toPort(1, "", "0.0.0.0/0").Addrs}, both + " go to another address"},
		{"by no such link", routing.DNAT{In: "!eth*"}, ""},
		{"UDP", routing.DNAT{Transport: "udp", Redirect: true}, ""},
	} {
		var got []string
		for _, f := range routing.Translated(in, plan, []routing.DNAT{tt.dnat, tt.dnat}) {
			text := strings.TrimPrefix(f.Message, "packets to ")
			got = append(got, strings.TrimSuffix(text,
				": their replies leave by the path of that address"))
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.rule, diff)
		}
	}
}

func toPort(port uint16, to string, addrs ...string) routing.DNAT {
	d := routing.DNAT{Transport: "tcp", First: port, Last: port, Origin: "here"}
	if to != "" {
		d.To = netip.MustParseAddr(to)
	}
	for _, a := range addrs {
		d.Addrs = append(d.Addrs, netip.MustParsePrefix(a))
	}
	return d
}

// A rule for every listener gives one finding, and so do all rules for one.
func TestTranslatedBounded(t *testing.T) {
	var plan routing.Plan
	var dnats []routing.DNAT
	for i := range 10_000 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		plan.Outcomes = append(plan.Outcomes, routing.Outcome{Listener: routing.Listener{
			Addr: addr, Ports: routing.PortRange{First: 80, Last: 80},
			Transport: routing.TCP}})
		d := toPort(80, "172.17.0.2", "10.0.0.0/8")
		if i > 0 {
			d = toPort(80, fmt.Sprintf("172.18.%d.%d", i>>8, i&255), "10.0.0.7/32")
			d.Origin = fmt.Sprint("rule ", i)
		}
		dnats = append(dnats, d)
	}
	var got []string
	for _, f := range routing.Translated(routing.Inputs{}, plan, dnats) {
		got = append(got, f.Subject+": "+f.Message+" at "+f.Origin)
	}
	want := []string{"10.0.0.0, 10.0.0.1, 10.0.0.2 and 9997 more: packets to 10.0.0.0 port 80, " +
		"10.0.0.1 port 80, 10.0.0.2 port 80 and 9997 more go to 172.17.0.2: their replies " +
		"leave by the path of that address at here",
		"10.0.0.7: packets to 10.0.0.7 port 80 go to 172.18.0.1, 172.18.0.2, 172.18.0.3 " +
			"and 9996 more: their replies leave by the path of that address at rule 1, " +
			"rule 2, rule 3 and 9996 more"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
