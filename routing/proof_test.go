package routing_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const manyWays = `
link add eth0 type veth
link add eth1 type veth
link add br0 type bridge
link set eth0 up
link set eth1 up
link set br0 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.100/24 dev eth1
addr add 172.17.0.1/16 dev br0
addr add 2001:db8:1::100/64 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
route add 0.0.0.0/1 via 10.0.0.1 dev eth0
route add 10.50.0.0/16 nexthop via 10.0.1.1 dev eth1 nexthop via 10.0.0.2 dev eth0
route add 224.0.0.0/4 dev eth0
route add 10.66.0.6 via 10.0.0.3 dev eth0 tos 0x10
-6 route add default via 2001:db8:1::1 dev eth1 metric 2000
-6 route add 2001:db8:1::100 dev eth1
rule add pref 9000 to 10.77.0.0/16 lookup 7
rule add pref 9001 ipproto tcp dport 25 lookup 7
`

func TestClients(t *testing.T) {
	h := parseHost(t, manyWays)
	want := "198.51.100.1 10.0.0.50 10.0.1.50 10.50.0.50 10.66.0.6 10.77.0.50 172.17.0.50 " +
		"2001:db8:ffff::1 2001:db8:1::32"
	got := strings.Trim(fmt.Sprint(slices.Concat(routing.Clients(h, routing.IPv4),
		routing.Clients(h, routing.IPv6))), "[]")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestVerify: an asker that answers as Lookup does differs in nothing, and any
// other in what it says otherwise.
func TestVerify(t *testing.T) {
	h := parseHost(t, manyWays)
	listeners := listenOn("10.0.1.200", "10.0.1.100", "10.0.1.100", "127.0.0.1", "fe80::1",
		"2001:db8:1::100")
	plan := planOf(t, h, listeners, nil, plain)
	c := routing.Claim{Host: h, Plan: plan, Numbers: routing.DefaultNumbers}
	fib := map[routing.When]*routing.FIB{routing.BeforeApply: routing.NewFIB(h),
		routing.AfterApply: routing.NewFIB(routing.With(h, plan.State))}
	var p routing.Proof
	var sources []netip.Addr
	for _, when := range []routing.When{routing.BeforeApply, routing.AfterApply} {
		f := fib[when]
		err := c.Verify(&p, when, func(q routing.Query) (routing.Way, error) {
			sources = append(sources, q.Src)
			way := f.Way(q)
			if ends := f.Lookup(q).Ends; len(ends) > 1 { // a kernel takes one of them
				way = ends[1]
			}
			return way, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := routing.Proof{Addresses: 3, Clients: 9, Asked: 2 * (7 + 7 + 2)}
	if d := cmp.Diff(want, p, cmpopts.IgnoreUnexported(p)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if last := sources[len(sources)-1]; last != netip.MustParseAddr("10.0.1.200") {
		t.Errorf("%s is asked for last, want the address that is not here", last)
	}
	p = routing.Proof{}
	if err := c.Verify(&p, routing.AfterApply, func(q routing.Query) (routing.Way, error) {
		return fib[routing.BeforeApply].Way(q), nil
	}); err != nil {
		t.Fatal(err)
	}
	differs := routing.Difference{When: routing.AfterApply,
		Subject: "10.0.1.100 to 198.51.100.1", Want: "eth1 via 10.0.1.1, table 20431",
		Got: "eth0 via 10.0.0.1, table main"}
	if len(p.Differences) == 0 || p.Differences[0] != differs {
		t.Errorf("differences %v, want %v first", p.Differences, differs)
	}
}

// TestVerifyMoves: the plan must name each change, so a plan that does not name
// a class is no proof.
func TestVerifyMoves(t *testing.T) {
	h := parseHost(t, manyWays)
	c := routing.Claim{Host: h, Plan: planOf(t, h, listenOn("10.0.1.100"), nil, plain),
		Numbers: routing.DefaultNumbers}
	lan := slices.IndexFunc(c.Plan.Moves,
		func(m routing.Move) bool { return m.Class == routing.ClassOtherLAN })
	c.Plan.Moves = slices.Delete(c.Plan.Moves, lan, lan+1)
	var p routing.Proof
	for _, when := range []routing.When{routing.BeforeApply, routing.AfterApply} {
		f := routing.NewFIB(h)
		if when == routing.AfterApply {
			f = routing.NewFIB(routing.With(h, c.Plan.State))
		}
		if err := c.Verify(&p, when, func(q routing.Query) (routing.Way, error) {
			return f.Lookup(q).Ends[0], nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := []routing.Difference{{When: routing.AfterApply,
		Subject: "10.0.1.100 to 10.0.0.50", Want: "as before: eth0, on-link, table main",
		Got: "eth1 via 10.0.1.1, table 20431"}}
	if d := cmp.Diff(want, p.Differences); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestRebuildable(t *testing.T) {
	h := parseHost(t, manyWays+"-6 route add 2001:db8:9::/48 via fe80::1 dev eth1 hoplimit "+
		"64\nroute add 10.88.0.0/16 dev eth0 encap\nrule add pref 9002 dscp 10 lookup 7\n")
	h.Addrs = append(h.Addrs, routing.Addr{Link: "eth1",
		Prefix: netip.MustParsePrefix("2001:db8:1::7/64"), Tentative: true})
	got, lost := routing.Rebuildable(h)
	want := []string{"address 2001:db8:1::7/64 of eth1: tentative",
		"ip route replace 10.66.0.6 via 10.0.0.3 dev eth0 tos 0x10",
		"ip route replace 10.88.0.0/16 dev eth0 scope link: without encap",
		"ip rule add pref 9002 from all dscp 10 lookup 7"}
	if d := cmp.Diff(want, lost); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if n := len(h.Addrs) - len(got.Addrs); n != 1 {
		t.Errorf("%d addresses are left out, want 1", n)
	}
	if n := len(h.Routes) - len(got.Routes); n != 1 {
		t.Errorf("%d routes are left out, want 1", n)
	}
	if i := slices.IndexFunc(got.Routes, func(r routing.Route) bool {
		return r.Opaque != ""
	}); i >= 0 {
		t.Errorf("%s is not what can be rebuilt", got.Routes[i])
	}
	if len(h.Routes) == 0 || !slices.ContainsFunc(h.Routes,
		func(r routing.Route) bool { return r.Opaque == "hoplimit 64" }) {
		t.Error("the host that was given has changed")
	}
}
