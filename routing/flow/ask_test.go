package flow

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/google/go-cmp/cmp"
)

// askLines make the host of TestAsk, its neighbours and what they have.
var askLines = map[string]string{
	"host": `addr add 10.7.1.10/24 dev eth1
addr add 10.7.1.100/32 dev eth1
addr add 10.7.1.101/32 dev eth1
addr add 10.7.1.102/32 dev eth1
addr add 10.7.2.10/24 dev eth2
addr add 192.0.2.7/32 dev eth8
addr add 2001:db8:1::10/64 dev eth1 nodad
addr add 2001:db8:1::100/128 dev eth1 nodad
addr add 2001:db8:1::101/128 dev eth1 nodad
addr add 2001:db8:1::102/128 dev eth1 nodad`,
	"lb": `addr add 10.7.1.2/24 dev eth0
addr add 10.7.1.100/32 dev eth0
addr add 2001:db8:1::2/64 dev eth0 nodad
addr add 2001:db8:1::100/128 dev eth0 nodad`,
	"router": `addr add 10.7.1.1/24 dev eth0
addr add 10.9.0.1/24 dev eth9
route add 10.7.1.101/32 dev eth9
addr add 2001:db8:1::1/64 dev eth0 nodad
neigh add proxy 2001:db8:1::101 dev eth0`,
}

// TestAsk: on one LAN a BIG-IP still has two of this host's addresses, a router
// answers for two more as a proxy, and two are this host's alone, which its own
// kernel answers for by a second link to the LAN.
func TestAsk(t *testing.T) {
	t.Parallel()
	lan := nstest.New(t)
	all := map[string]*nstest.NS{}
	lan.IP("link add br0 type bridge")
	lan.IP("link set br0 up")
	for _, cable := range []string{"host eth1", "host eth2", "lb eth0", "router eth0"} {
		name, link, _ := strings.Cut(cable, " ")
		if all[name] == nil {
			all[name] = nstest.New(t)
		}
		lan.IP(fmt.Sprintf("link add %s.%s type veth peer name %[2]s netns %s", name, link,
			all[name].Path))
		lan.IP(fmt.Sprintf("link set %s.%s master br0 up", name, link))
		all[name].IP("link set " + link + " up")
	}
	for name, link := range map[string]string{"router": "eth9", "host": "eth8"} {
		all[name].IP("link add " + link + " type veth peer name beyond")
	}
	all["router"].IP("link set eth9 up")
	all["router"].IP("link set beyond up")
	for name, lines := range askLines {
		all[name].Batch(lines)
	}
	for _, s := range []string{"net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.proxy_arp=1",
		"net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.eth0.proxy_ndp=1"} {
		all["router"].Sysctl(s)
	}
	lb, router := macOf(all["lb"]), macOf(all["router"])
	want := []string{"10.7.1.100 eth1: " + lb, "10.7.1.101 eth1: " + router + " proxy",
		"10.7.1.102 eth1:", "2001:db8:1::100 eth1: " + lb,
		"2001:db8:1::101 eth1: " + router + " proxy", "2001:db8:1::102 eth1:",
		"192.0.2.7 eth8: unasked, the interface is down",
		"192.0.2.7 eth7: unasked, the interface does not exist here",
		"192.0.2.7 lo: unasked, the interface has no MAC addresses"}
	if d := cmp.Diff(want, askedFor(t, all["host"], want)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if out := all["lb"].IP("-s neigh show"); !strings.Contains(out, "10.7.1.10 dev eth0") {
		t.Errorf("no question came from an address: %s", out)
	}
}

func macOf(n *nstest.NS) string {
	_, rest, _ := strings.Cut(n.IP("-o link show dev eth0"), "link/ether ")
	return strings.Fields(rest)[0]
}

// askedFor asks for what the lines begin with, and writes the answers so.
func askedFor(t *testing.T, n *nstest.NS, lines []string) (got []string) {
	k, err := host.Open(n.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	h, err := k.Read()
	if err != nil {
		t.Fatal(err)
	}
	var questions []routing.Question
	for _, line := range lines {
		words := strings.Fields(line)
		questions = append(questions, routing.Question{Addr: netip.MustParseAddr(words[0]),
			Link: strings.TrimSuffix(words[1], ":")})
	}
	asked, err := Ask(context.Background(), Options{Host: h, Inside: k.Inside}, questions)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range asked {
		line := fmt.Sprintf("%s %s:", a.Addr, a.Link)
		if a.Unasked != "" {
			line += " unasked, " + a.Unasked
		}
		for _, x := range a.Answers {
			line += " " + x.MAC.String()
			if x.Proxy {
				line += " proxy"
			}
		}
		got = append(got, line)
	}
	return got
}

// TestAskEnds: an interrupt ends it, and is an error: nothing is known then.
func TestAskEnds(t *testing.T) {
	t.Parallel()
	n := nstest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	k, err := host.Open(n.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	asked, err := Ask(ctx, Options{Inside: k.Inside}, nil)
	if err != context.Canceled || slices.ContainsFunc(asked,
		func(a routing.Asked) bool { return a.Unasked == "" }) {
		t.Errorf("got %v, %v", asked, err)
	}
}
