package host

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// added prints the rules of the family that a namespace does not have by
// itself.
func added(h routing.Host, f routing.Family) string {
	var b strings.Builder
	for _, r := range h.Rules {
		if r.Family == f && r.Priority != 0 && r.Priority < 32766 {
			fmt.Fprintln(&b, r)
		}
	}
	return b.String()
}

func TestReadRules(t *testing.T) {
	for _, tt := range []struct{ name, add, want string }{
		{"all fields", "pref 100 from 10.0.1.0/24 to 192.0.2.1 iif lo oif eth0 fwmark 0x10/0xff lookup 1000 proto 76",
			"100:\tfrom 10.0.1.0/24 to 192.0.2.1 fwmark 0x10/0xff iif lo oif eth0 lookup 1000 proto 76"},
		{"not", "pref 100 not from 10.0.1.0/24 lookup 1000", "100:\tnot from 10.0.1.0/24 lookup 1000"},
		{"suppress in a table above 255", "pref 100 lookup 1000 suppress_prefixlength 7 suppress_ifgroup 76",
			"100:\tfrom all lookup 1000 suppress_prefixlength 7 suppress_ifgroup 76"},
		{"suppress in main", "pref 100 lookup main suppress_prefixlength 0", "100:\tfrom all lookup main suppress_prefixlength 0"},
		{"goto", "pref 100 goto 32766", "100:\tfrom all goto 32766"},
		{"nop", "pref 100 nop", "100:\tfrom all nop"},
		{"unreachable", "pref 100 from 10.0.1.0/24 unreachable", "100:\tfrom 10.0.1.0/24 unreachable"},
		{"prohibit", "pref 100 prohibit", "100:\tfrom all prohibit"},
		{"blackhole", "pref 100 blackhole", "100:\tfrom all blackhole"},
		{"mark without bits", "pref 100 fwmark 0/0xff lookup 1000", "100:\tfrom all fwmark 0x0/0xff lookup 1000"},
		{"tos", "pref 100 tos 0x10 lookup 1000", "100:\tfrom all tos 0x10 lookup 1000"},
		{"ports", "pref 100 ipproto tcp sport 53 dport 80-90 lookup 1000", "100:\tfrom all ipproto tcp sport 53 dport 80-90 lookup 1000"},
		{"another protocol", "pref 100 ipproto sctp lookup 1000", "100:\tfrom all ipproto 132 lookup 1000"},
		{"users", "pref 100 uidrange 100000-200000 lookup 1000", "100:\tfrom all uidrange 100000-200000 lookup 1000"},
		{"tunnel", "pref 100 tun_id 5 lookup 1000", "100:\tfrom all tun_id 5 lookup 1000"},
		{"realms", "pref 100 lookup 1000 realms 3/7", "100:\tfrom all realms 3/7 lookup 1000"},
		{"l3mdev", "pref 100 l3mdev", "100:\tfrom all lookup [l3mdev-table]"},
		{"detached link", "pref 100 iif gone lookup 1000", "100:\tfrom all iif gone lookup 1000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, k := open(t)
			if out, err := ns.Command(strings.Fields("ip rule add " + tt.add)...).
				CombinedOutput(); err != nil {
				t.Skipf("this kernel has no such rule: %s", out)
			}
			if diff := cmp.Diff(tt.want+"\n",
				added(read(t, k), routing.IPv4)); diff != "" {
				t.Errorf("-want +got\n%s%s", diff, ns.IP("-N -d rule"))
			}
		})
	}
}

func TestReadRulesIPv6(t *testing.T) {
	ns, k := open(t)
	ns.IP("-6 rule add pref 100 from 2001:db8:1::/64 iif lo lookup 1000 " +
		"suppress_prefixlength 15 proto 76")
	want := "100:\tfrom 2001:db8:1::/64 iif lo lookup 1000 suppress_prefixlength 15 proto 76\n"
	if diff := cmp.Diff(want, added(read(t, k), routing.IPv6)); diff != "" {
		t.Error(diff)
	}
}

// An attribute of a newer kernel is kept: a rule that looked as if it matched
// everything would be taken for a catch-all.
func TestDecodeRuleUnknown(t *testing.T) {
	m := newMessage(ruleHeader{family: unix.AF_INET, table: 100, action: 1})
	m.putUint32(unix.FRA_PRIORITY, 7)
	m.put(99, []byte{0x0a, 0x0b})
	m.put(unix.FRA_L3MDEV, []byte{1})
	m.put(fraSportMask, []byte{0xff, 0xff})
	got, err := decodeRule(m.data)
	if err != nil {
		t.Fatal(err)
	}
	if want := "attr 99 0a0b l3mdev"; got.Opaque != want {
		t.Errorf("opaque is %q, want %q", got.Opaque, want)
	}
}

// Messages that end early are errors, not panics and not shorter rules or
// routes.
func TestDecodeShort(t *testing.T) {
	rule := encodeRule(routing.NewRule(routing.IPv4, 100, 1000))
	route, err := encodeRoute(
		routing.Route{RouteKey: routing.RouteKey{Table: 1000, Dst: routing.IPv6.All()},
			Type: routing.Unicast,
			Hops: []routing.Hop{{Link: "a", Weight: 1}, {Link: "b", Weight: 2}}},
		map[string]int{"a": 1, "b": 2})
	if err != nil {
		t.Fatal(err)
	}
	two := names{links: map[int]string{1: "a", 2: "b"}}
	if _, err := decodeRule(rule); err != nil {
		t.Errorf("whole rule: %v", err)
	}
	if _, _, err := decodeRoute(route, two); err != nil {
		t.Errorf("whole route: %v", err)
	}
	for n := range len(rule) {
		if _, err := decodeRule(rule[:n]); (err == nil) != ends(rule,
			int(unsafe.Sizeof(ruleHeader{})))[n] {
			t.Errorf("rule of %d bytes: error %v", n, err)
		}
	}
	for n := range len(route) {
		if _, _, err := decodeRoute(route[:n], two); (err == nil) != ends(route,
			unix.SizeofRtMsg)[n] {
			t.Errorf("route of %d bytes: error %v", n, err)
		}
	}
}

// ends are the lengths at which a message is whole: after its header and after
// each attribute, with or without padding.
func ends(b []byte, header int) map[int]bool {
	at := map[int]bool{header: true}
	for i := header; i < len(b); {
		size := int(native.Uint16(b[i:]))
		for n := i + size; n <= i+align(size); n++ {
			at[n] = true
		}
		i += align(size)
	}
	return at
}
