package migrate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"lasthop/bigip"
	"lasthop/routing"
)

// BenchmarkJoin joins 100,000 virtual servers: on 2 VLANs each its own, and on
// 30 VLANs 3,000 that serve all of them. Ratios of one run tell how it grows.
func BenchmarkJoin(b *testing.B) {
	for _, bb := range []struct {
		virtuals, vlans, addresses int
		silent                     bool // NGINX listens nowhere
	}{{10_000, 2, 10_000, false}, {100_000, 2, 100_000, false}, {100_000, 2, 1000, false},
		{10_000, 2, 10_000, true}, {100_000, 2, 100_000, true}, {3000, 30, 3000, false}} {
		b.Run(fmt.Sprintf("virtuals=%d/vlans=%d/addresses=%d/silent=%v", bb.virtuals,
			bb.vlans, bb.addresses, bb.silent), func(b *testing.B) {
			c, in := large(b, bb.virtuals, bb.vlans, bb.addresses)
			if bb.silent {
				in.Listeners = nil
			}
			for b.Loop() {
				r, err := Selection{}.Join(c, in)
				if err != nil || len(r.Rows) < bb.virtuals {
					b.Fatal(len(r.Rows), err)
				}
			}
		})
	}
}

// BenchmarkSelection takes half of 100,000 virtual servers that share their
// servers, and then all of them.
func BenchmarkSelection(b *testing.B) {
	c, in := large(b, 100_000, 2, 100_000)
	server := bigip.Member{Addr: netip.MustParseAddr("10.0.254.9")}
	c.Pools = []bigip.Pool{{Name: "/Common/p", Members: []bigip.Member{server}}}
	for i := range c.Selfs {
		c.Selfs[i].Floating = true
	}
	for _, only := range []string{"/Common/vs*[02468]", "/Common/"} {
		b.Run("only="+only, func(b *testing.B) {
			for b.Loop() {
				r, err := Selection{Only: []string{only}}.Join(c, in)
				if err != nil || len(r.Rows) != 100_000 {
					b.Fatal(len(r.Rows), err)
				}
			}
		})
	}
}

// large is a BIG-IP with virtual servers of which each serves its own VLAN if
// there are two, and all of them if there are more; and a host with an
// interface in each VLAN, whose NGINX listens everywhere.
func large(tb testing.TB, virtuals, vlans, addresses int) (bigip.Config, routing.Inputs) {
	tb.Helper()
	var conf, host strings.Builder
	for i := range vlans {
		fmt.Fprintf(&conf, "net vlan /Common/v%d {\n    tag %d\n}\n"+
			"net self /Common/s%[1]d {\n"+
			"    address 10.%[1]d.255.2/16\n    vlan /Common/v%[1]d\n}\n", i, i+100)
		fmt.Fprintf(&host, "link add eth%d type veth\nlink set eth%[1]d up\n"+
			"addr add 10.%[1]d.255.10/16 dev eth%[1]d\n"+
			"route add default via 10.%[1]d.255.1 dev eth%[1]d metric %d\n", i, i+100)
	}
	for i := range virtuals {
		vlan, n := i%vlans, i%addresses
		addr := fmt.Sprintf("10.%d.%d.%d", n%vlans, n/vlans/250, n/vlans%250+1)
		fmt.Fprintf(&conf, "ltm virtual /Common/vs%d {\n    destination /Common/%s:%d\n"+
			"    ip-protocol tcp\n    pool /Common/p\n", i, addr, 1000+i/addresses)
		if vlans == 2 {
			fmt.Fprintf(&conf, "    vlans {\n        /Common/v%d\n    }\n"+
				"    vlans-enabled\n", vlan)
		}
		conf.WriteString("}\n")
		if i == n {
			fmt.Fprintf(&conf, "ltm virtual-address /Common/%s {\n"+
				"    address %[1]s\n}\n", addr)
		}
	}
	c, err := bigip.Parse("bigip.conf", []byte(conf.String()))
	if err != nil {
		tb.Fatal(err)
	}
	in := routing.Inputs{Host: hostOf(tb, host.String()),
		Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	in.Listeners = []routing.Listener{{Addr: routing.IPv4.All().Addr(), Transport: routing.TCP,
		Ports: routing.PortRange{First: 1, Last: 65535}, Context: "http", Listen: "1-65535"}}
	return c, in
}
