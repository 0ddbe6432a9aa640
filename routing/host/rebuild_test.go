package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

const (
	then       = "# when IPv6 is settled\n"
	routers    = "# and routers have advertised themselves\n"
	advertised = then + routers
)

// advertise adds default routes as advertisements of routers do.
func advertise(t *testing.T, ns *nstest.NS, h routing.Host) {
	t.Helper()
	i := slices.IndexFunc(h.Links, func(l routing.Link) bool { return l.Name == "eth1" })
	ns.Do(func() {
		for _, line := range []string{"::/0 via fe80::2 dev eth1 pref high",
			"::/0 via fe80::3 dev eth1"} {
			if err := addAdvertised(*route(t, line), h.Links[i].Index); err != nil {
				t.Error(err)
			}
		}
	})
}

// flagged reports whether the kernel has told all routes that a link has no
// carrier.
func flagged(h routing.Host) bool {
	for _, l := range h.Links {
		if l.Up && !l.Carrier && slices.ContainsFunc(h.Routes, func(r routing.Route) bool {
			return r.Type == routing.Unicast && slices.ContainsFunc(r.Hops,
				func(h routing.Hop) bool { return h.Link == l.Name && !h.LinkDown })
		}) {
			return false
		}
	}
	return true
}

var rebuildTests = []struct {
	name, batch string
	lost        string // what is not rebuilt
}{
	{"uplinks", uplinks, ""},
	{"every shape", fixture, `ip route replace 10.7.0.0/16 via 10.0.1.1 dev eth1 tos 0x10
ip route replace 10.70.0.0/16 via 10.0.1.1 dev eth1: without encap ip
ip rule add pref 60 from all uidrange 0-0 ipproto tcp dport 80-90 goto 32766
ip rule add pref 68 from all ipproto 132 tun_id 5 lookup 53
ip rule add pref 62 from all l3mdev protocol 77
`},
	{"a gateway that is not on-link any more", uplinks + "route add 10.0.9.1 dev eth0\nroute add 10.9.0.0/16 via 10.0.9.1\nroute del 10.0.9.1\n", ""},
	{"a gateway behind a gateway's route", uplinks + "route add 10.9.0.1 dev eth0\nroute add 10.8.0.0/16 via 10.9.0.1\nroute add 9.0.0.0/8 via 10.9.0.1 metric 5\n", ""},
	{"one prefix on two links, the later link first", uplinks + "addr add 10.7.0.11/24 dev eth1\naddr add 10.7.0.10/24 dev eth0\n" +
		"addr add 2001:db8:7::11/64 dev eth1 nodad\naddr add 2001:db8:7::10/64 dev eth0 nodad\n", ""},
	{"one key, several routes", uplinks + "route add 10.9.0.0/16 via 10.0.1.1 dev eth1\nroute append 10.9.0.0/16 dev eth0\nroute append 10.9.0.0/16 via 10.0.0.1 dev eth0\n", ""},
	{"no carrier", uplinks + "route add 10.9.0.0/16 via 10.0.1.1 dev eth1\n" + then + "link set p1 down\n", ""},
	{"down", uplinks + "route add 10.9.0.0/16 nexthop via 10.0.1.1 dev eth1 nexthop via 10.0.0.1 dev eth0\n" + then + "link set eth1 down\nlink set eth1 group 7 mtu 1400\n", ""},
	{"without what lo is born with", "addr del 127.0.0.1/8 dev lo\naddr del ::1/128 dev lo\naddr add 127.0.0.9/8 dev lo\nlink set lo mtu 1500 group 3\n", ""},
	{"without the prefix routes", uplinks + "route del 10.0.1.0/24 dev eth1\nroute del 2001:db8:1::/64 dev eth1\nroute del local 10.0.1.10 table local\n", ""},
	{"routers of several preferences", uplinks + "route add default via 2001:db8:1::9 dev eth1 pref low\n" + advertised, ""},
	{"names of the same kind", "link add lhp0 type veth peer name lhpp1\nlink set lhp0 up\nlink set lhpp1 up\n", ""},
	{"rules", "rule add pref 100 lookup local\nrule del pref 0\nrule add pref 100 to 10.0.0.0/8 lookup 7\nrule add pref 100 fwmark 7 lookup 8\n" +
		"rule add pref 100 fwmark 7 lookup 8 protocol 9\nrule del pref 32767\n", ""},
}

// TestRebuild reads a host, rebuilds it in a fresh namespace and reads that.
func TestRebuild(t *testing.T) {
	for _, tt := range rebuildTests {
		t.Run(tt.name, func(t *testing.T) {
			first, second, _ := strings.Cut(tt.batch, then)
			ns, k := open(t, first)
			if second == routers {
				advertise(t, ns, read(t, k))
			} else {
				ns.Batch(second)
			}
			for end := time.Now().Add(5 * time.Second); !flagged(read(t, k)) &&
				time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			for _, s := range []string{"net.ipv4.ip_forward=1",
				"net.ipv6.conf.lo.forwarding=1", "net.ipv4.conf.all.rp_filter=2",
				"net.ipv6.conf.lo.accept_ra=2"} {
				ns.Sysctl(s)
			}
			want := read(t, k)
			fresh := openAt(t, nstest.Fresh(t).Path)
			lost, err := fresh.Rebuild(want)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.TrimSuffix(tt.lost, "\n"),
				strings.Join(lost, "\n")); d != "" {
				t.Errorf("not rebuilt: -want +got\n%s", d)
			}
			if d := cmp.Diff(essence(want, want.Links, lost),
				essence(read(t, fresh), want.Links, lost)); d != "" {
				t.Errorf("-captured +rebuilt\n%s", d)
			}
			if _, err := fresh.Rebuild(want); !errors.Is(err, errInUse) {
				t.Errorf("a namespace that is in use is rebuilt: %v", err)
			}
		})
	}
}

func openAt(t *testing.T, path string) *Kernel {
	t.Helper()
	k, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// essence prints what Rebuild should make of some links, except what is lost:
// the kernel's order counts.
func essence(h routing.Host, links []routing.Link, lost []string) (lines []string) {
	known := func(link string) bool {
		return slices.ContainsFunc(links, func(l routing.Link) bool {
			return l.Name == link
		})
	}
	for _, l := range h.Links {
		if known(l.Name) {
			lines = append(lines, fmt.Sprintf("%s up %t carrier %t mtu %d group %d",
				l.Name, l.Up, l.Carrier, l.MTU, l.Group))
		}
	}
	var addrs []string
	for _, a := range h.Addrs {
		if known(a.Link) {
			addrs = append(addrs, fmt.Sprintf("%s %s peer %s scope %d noprefix %t",
				a.Link, a.Prefix, a.Peer, a.Scope, a.NoPrefix))
		}
	}
	slices.Sort(addrs) // IPv6 lists the newest first
	var routes routing.State
	for _, r := range h.Routes {
		line := routing.Op{Route: &r}.String()
		r.Opaque = ""
		for i := range r.Hops {
			r.Hops[i].OnLink = false
		}
		peer := len(r.Hops) > 0 && !known(r.Hops[0].Link)
		if !peer && r.Type != routing.Multicast && !slices.Contains(lost, line) {
			routes.Routes = append(routes.Routes, r)
		}
	}
	lines = append(append(lines, addrs...), routes.String())
	for _, r := range h.Rules {
		if !slices.Contains(lost, routing.Op{Rule: &r}.String()) {
			lines = append(lines, r.String())
		}
	}
	for _, key := range sysctlKeys(links) {
		lines = append(lines, key.name+" "+h.Sysctls[key.name])
	}
	return lines
}
