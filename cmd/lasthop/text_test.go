package main_test

import (
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
)

// ruleTexts are rules as `ip` shows them.
var ruleTexts = []string{
	"5102:	from 10.0.1.0/24 iif lo lookup 20123 proto 76",
	"5101:	from 10.0.1.0/24 iif lo lookup main suppress_prefixlength 7 suppress_ifgroup 76 proto 76",
	"5100:	from 10.0.1.0/24 to 10.9.0.0/16 iif lo lookup main proto 76",
	"5099:	from 10.0.1.0/24 iif lo oif eth2 lookup main proto 76",
	"90:	not from all fwmark 0xca6c lookup 51820",
	"91:	from all fwmark 0x10/0xff lookup 100 proto 18",
	"92:	from all to 10.0.0.1 nop",
	"93:	from 10.0.9.0/24 unreachable",
	"94:	from 10.0.9.0/24 blackhole",
	"95:	from 10.0.9.0/24 prohibit proto static",
	"96:	from all goto 32766",
	"97:	from all iif nosuch oif eth1 lookup default",
	"98:	from all tos 0x10 lookup 7",
	"99:	from all ipproto tcp sport 80 dport 90-99 lookup 7",
	"6:	from 2001:db8:1::/64 iif lo lookup main suppress_prefixlength 15 suppress_ifgroup 76 proto 76",
	"6:	not from 2001:db8:2::1 to 2001:db8:3::/48 lookup 7",
	"6:	from 2001:db8:9::/64 prohibit",
}

// routeTexts are routes as `ip` shows them.
var routeTexts = []string{
	"default via 10.0.1.1 dev eth1 table 20123 proto 76 onlink",
	"default via 192.0.2.1 dev eth1 table 20124 proto 76 metric 5 mtu 1400 advmss 1360 onlink",
	"unreachable default table 20123 proto 76 metric 4294967295",
	"10.5.0.0/16 dev eth1 table 20123 proto 76 scope link",
	"10.6.0.0/16 via 10.0.1.7 dev eth1 src 10.0.2.10",
	"10.7.0.0/16 proto 76 nexthop via 10.0.1.7 dev eth1 weight 3 nexthop via 10.0.2.7 dev eth2 weight 1 onlink",
	"10.8.0.1 dev eth1 scope global",
	"blackhole 10.66.0.0/16",
	"prohibit 10.67.0.0/16 proto static metric 7",
	"throw 10.68.0.0/16",
	"local 10.69.0.0/16 dev lo scope host",
	"10.70.0.0/16 via inet6 fe80::1 dev eth1",
	"default via fe80::1 dev eth1 table 20123 proto 76 onlink",
	"default via 2001:db8:1::1 dev eth1 proto ra metric 100 pref high hoplimit 64",
	"2001:db8:5::/48 via fe80::1 dev eth1 src 2001:db8:1::10 metric 5 mtu 1400",
	"2001:db8:6::/48 nexthop via 2001:db8:1::1 dev eth1 weight 1 nexthop via fe80::2 dev eth2 weight 2",
	"2001:db8:7::7 dev eth2 table 20123 proto 76 metric 256",
	"blackhole 2001:db8:66::/48",
	"unreachable 2001:db8:67::/48 table 20123 proto 76 metric 4294967295",
	"throw 2001:db8:68::/48",
}

// TestTextIsWhatIPTakes gives the texts of rules and routes to `ip`, reads them
// back from what it shows and from the kernel, and deletes them by the same
// texts.
func TestTextIsWhatIPTakes(t *testing.T) {
	ns := newNamespace(t)
	ns.batch(t, `link add eth1 type veth peer name p-eth1
link set p-eth1 up
link set eth1 up
link add eth2 type veth peer name p-eth2
link set p-eth2 up
link set eth2 up
addr add 10.0.1.10/24 dev eth1
addr add 10.0.2.10/24 dev eth2
addr add 2001:db8:1::10/64 dev eth1 nodad
`)
	for _, line := range ruleTexts {
		ns.roundTripRule(t, line)
	}
	for _, line := range routeTexts {
		ns.roundTripRoute(t, line)
	}
}

func familyOfLine(line string) (routing.Family, string) {
	if strings.Contains(strings.ReplaceAll(line, ":\t", ""), ":") &&
		!strings.Contains(line, "inet6") {
		return routing.IPv6, "-6"
	}
	return routing.IPv4, "-4"
}

func (n *namespace) roundTripRule(t *testing.T, line string) {
	t.Helper()
	f, option := familyOfLine(line)
	want, err := routing.ParseRule(f, line)
	if err != nil || want.String() != line {
		t.Fatalf("ParseRule(%q) = %s, %v", line, want, err)
	}
	n.IP(option + " rule add " + want.Args())
	var shown []routing.Rule
	for text := range strings.Lines(n.IP(option + " -N -d rule")) {
		r, err := routing.ParseRule(f, text)
		if err != nil {
			t.Error(err)
		}
		shown = append(shown, r)
	}
	h, err := n.kernel.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(shown, want) || !slices.Contains(h.Rules, want) {
		t.Errorf("%s: ip shows\n%v\nthe kernel has\n%v", line, shown, h.Rules)
	}
	n.IP(option + " rule del " + want.Args())
}

func (n *namespace) roundTripRoute(t *testing.T, line string) {
	t.Helper()
	f, option := familyOfLine(line)
	want, err := routing.ParseRoute(f, line)
	if err != nil || want.String() != line {
		t.Fatalf("ParseRoute(%q) = %s, %v", line, want, err)
	}
	n.IP(option + " route add " + want.String())
	var shown []string
	// Next hops come on lines of their own that begin with a tab.
	for text := range strings.Lines(
		strings.ReplaceAll(n.IP(option+" -N -d route show table all"), "\n\t", " ")) {
		r, err := routing.ParseRoute(f, text)
		if err != nil {
			t.Error(err)
		}
		shown = append(shown, r.String())
	}
	h, err := n.kernel.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(shown, line) || !slices.ContainsFunc(h.Routes,
		func(r routing.Route) bool { return r.String() == line && r.Family() == f }) {
		t.Errorf("%s: ip shows\n%s\nthe kernel has\n%s", line, strings.Join(shown, "\n"),
			strings.Join(routeLines(h.Routes), "\n"))
	}
	n.IP(option + " route del " + want.String())
}
