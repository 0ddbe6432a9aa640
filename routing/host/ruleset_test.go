package host

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// forwarding is a namespace that forwards both families.
func forwarding(t testing.TB) (*nstest.NS, *Kernel) {
	t.Helper()
	ns, k := open(t, uplinks)
	ns.Sysctl("net.ipv4.ip_forward=1")
	ns.Sysctl("net.ipv6.conf.all.forwarding=1")
	return ns, k
}

// filtering is a table with a chain at each hook, and one that others jump to.
const filtering = `table inet fw {
	chain prerouting { type filter hook prerouting priority 0; }
	chain input { type filter hook input priority 0; }
	chain forward { type filter hook forward priority 0; }
	chain output { type filter hook output priority 0; }
	chain more { }
}
table ip6 six { chain prerouting { type filter hook prerouting priority 0; }; }
table netdev dev { chain ingress { type filter hook ingress device eth1 priority 0; }; }
`

// rulesets are lines, each with what is read of both families where it stands
// alone. A line of nft follows filtering.
var rulesets = []struct{ line, ipv4, ipv6 string }{
	{"nft add rule inet fw prerouting fib saddr . iif oif missing drop",
		"inet fw prerouting handle 6: fib saddr", "inet fw prerouting handle 6: fib saddr"},
	{"nft add rule inet fw prerouting meta nfproto ipv6 fib saddr . mark . iif oif missing drop",
		"", "inet fw prerouting handle 6: fib saddr"}, // firewalld's
	{"nft add rule inet fw prerouting ip daddr 10.0.1.0/24 fib saddr oifname eth1 accept",
		"inet fw prerouting handle 6: fib saddr", ""},
	{"nft add rule inet fw forward fib saddr . iif oif missing drop",
		"inet fw forward handle 6: fib saddr", "inet fw forward handle 6: fib saddr"},
	{"nft add rule inet fw prerouting fib daddr oif lo drop",
		"inet fw prerouting handle 6: fib daddr", "inet fw prerouting handle 6: fib daddr"},
	{"nft add rule ip6 six prerouting fib saddr . iif oif missing drop",
		"", "ip6 six prerouting handle 2: fib saddr"},
	{"nft add rule netdev dev ingress fib saddr . iif oif missing drop",
		"netdev dev ingress handle 2: fib saddr", "netdev dev ingress handle 2: fib saddr"},
	{"nft add rule inet fw forward meta l4proto tcp reject with tcp reset",
		"inet fw forward handle 6: reject with tcp reset",
		"inet fw forward handle 6: reject with tcp reset"},
	{"nft add rule inet fw more ip saddr 10.0.1.0/24 meta l4proto tcp reject with tcp reset",
		"inet fw more handle 6: reject with tcp reset", ""},
	{"nft add rule inet fw forward synproxy", "inet fw forward handle 6: synproxy",
		"inet fw forward handle 6: synproxy"},
	{"nft add rule inet fw input fib saddr . iif oif missing drop", "", ""},
	{"nft add rule inet fw input meta l4proto tcp reject with tcp reset", "", ""},
	{"nft add rule inet fw output meta l4proto tcp reject with tcp reset", "", ""},
	{"nft add rule inet fw forward reject", "", ""},
	{"nft add rule inet fw prerouting fib daddr type local accept", "", ""}, // Docker's
	{"nft add rule inet fw prerouting fib saddr type != unicast drop", "", ""},
	{"iptables-nft -t raw -A PREROUTING -m rpfilter --invert -j DROP",
		"ip raw PREROUTING handle 2: rpfilter", ""},
	{"ip6tables-nft -t mangle -A PREROUTING -m rpfilter --loose --invert -j DROP",
		"", "ip6 mangle PREROUTING handle 2: rpfilter"},
	{"iptables-nft -A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
		"ip filter FORWARD handle 2: REJECT with tcp-reset", ""},
	{"ip6tables-nft -A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
		"", "ip6 filter FORWARD handle 2: REJECT with tcp-reset"},
	{"iptables-nft -A INPUT -p tcp -j REJECT --reject-with tcp-reset", "", ""},
	{"iptables-nft -A FORWARD -j REJECT", "", ""},
	{"iptables-nft -A FORWARD -p tcp -j SYNPROXY", "ip filter FORWARD handle 2: SYNPROXY", ""},
	{"iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j ACCEPT", "", ""},
	{"iptables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j ACCEPT", "", ""},
	{"iptables-legacy -t raw -A PREROUTING -m rpfilter --invert -j DROP",
		"iptables-legacy raw: rpfilter", ""},
	{"ip6tables-legacy -t mangle -A PREROUTING -p tcp -m rpfilter --invert -j DROP",
		"", "iptables-legacy mangle: rpfilter"},
	{"iptables-legacy -A FORWARD -p tcp -m tcp --dport 81 -j REJECT --reject-with tcp-reset",
		"iptables-legacy filter: REJECT with tcp-reset", ""},
	{"ip6tables-legacy -A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
		"", "iptables-legacy filter: REJECT with tcp-reset"},
	{"iptables-legacy -A FORWARD -p tcp -j SYNPROXY", "iptables-legacy filter: SYNPROXY", ""},
	{"iptables-legacy -A INPUT -p tcp -j REJECT --reject-with tcp-reset", "", ""},
	{"iptables-legacy -A OUTPUT -p tcp -j REJECT --reject-with tcp-reset", "", ""},
	{"iptables-legacy -A FORWARD -j REJECT", "", ""},
	{"ip6tables-legacy -A FORWARD -j REJECT --reject-with icmp6-policy-fail", "", ""},
	{"iptables-legacy -t raw -A PREROUTING -m addrtype --dst-type LOCAL -j ACCEPT", "", ""},
}

// TestRulesets has the kernel hold each rule and reads it back.
func TestRulesets(t *testing.T) {
	for _, tt := range rulesets {
		t.Run(tt.line, func(t *testing.T) {
			want := []routing.Ruleset{{Family: routing.IPv4, Lookup: tt.ipv4},
				{Family: routing.IPv6, Lookup: tt.ipv6}}
			ns, k := forwarding(t)
			ns.Run("nft", filtering)
			read(t, k) // a change counts
			ns.Run(strings.Fields(tt.line)...)
			if diff := cmp.Diff(want, read(t, k).Rulesets); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// Rules are read of the families that are forwarded alone. If they may not be
// read, that is a fact of the host; any other error is one.
func TestRulesetsUnread(t *testing.T) {
	ns, k := open(t, uplinks)
	asked := 0
	var fault error
	k.Fault = func(kind int) error {
		if kind>>8 == unix.NFNL_SUBSYS_NFTABLES {
			asked++
			return fault
		}
		return nil
	}
	if got := read(t, k).Rulesets; got != nil || asked > 0 {
		t.Errorf("a host that does not forward: %v, %d requests", got, asked)
	}
	ns.Sysctl("net.ipv6.conf.eth1.forwarding=1")
	want := []routing.Ruleset{{Family: routing.IPv6}}
	if diff := cmp.Diff(want, read(t, k).Rulesets); diff != "" {
		t.Errorf("IPv6 is forwarded: -want +got\n%s", diff)
	}
	fault = unix.EPERM
	want[0].Unread = "operation not permitted"
	if diff := cmp.Diff(want, read(t, k).Rulesets); diff != "" {
		t.Errorf("nobody reads: -want +got\n%s", diff)
	}
	fault = unix.ENOBUFS
	if h, err := k.Read(); err == nil {
		t.Errorf("the kernel had no room, and %v was read", h.Rulesets)
	}
}

// TestRulesetEvents: of all that becomes of nf_tables, an event tells of new
// rules that look up forwarded packets alone.
func TestRulesetEvents(t *testing.T) {
	ns, k := forwarding(t)
	c := watch(t, k)
	ns.Run("nft", filtering+"add set inet fw banned { type ipv4_addr; }\n"+
		"add element inet fw banned { 10.0.1.7, 10.0.1.8 }\n"+
		"add rule inet fw forward ip saddr @banned drop\n"+
		"add rule inet fw forward reject\n"+
		"add rule inet fw prerouting fib saddr . iif oif missing drop\n")
	want := "ruleset: ruleset changed: inet fw prerouting handle 9: fib saddr\n"
	if diff := cmp.Diff(want, texts([]Event{next(t, c)})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	ns.Run("nft", "flush ruleset")
	if rest := until(t, ns, c); len(rest) > 0 {
		t.Errorf("more events:\n%s", texts(rest))
	}
}

// BenchmarkRulesets reads the rules of hosts with containers, after a change
// and without one.
func BenchmarkRulesets(b *testing.B) {
	for _, n := range []int{10, 1000, 5000} {
		k := manyRules(b, n)
		h := read(b, k)
		for _, changed := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d/changed=%t", n, changed), func(b *testing.B) {
				for b.Loop() {
					if changed {
						k.nftables = nftables{}
					}
					s, err := k.Rulesets(h)
					if err != nil || s[0].Lookup != "" {
						b.Fatal(err, s)
					}
				}
			})
		}
	}
}

// manyRules is a namespace with chains of ten rules, each with matches, a
// counter and a verdict.
func manyRules(b *testing.B, n int) *Kernel {
	ns, k := forwarding(b)
	var lines strings.Builder
	lines.WriteString(filtering)
	for i := range n {
		if i%10 == 0 {
			fmt.Fprintf(&lines, "add chain inet fw c%d\n", i/10)
		}
		fmt.Fprintf(&lines, "add rule inet fw c%d ip saddr 10.%d.%d.0/24 tcp dport %d "+
			"counter accept\n", i/10, i>>8, i&255, i+1)
	}
	c := ns.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(lines.String())
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return k
}

// Whatever a table may hold, nothing panics, and only what is there is read.
func FuzzXTables(f *testing.F) {
	f.Add(make([]byte, 300), true)
	if _, err := exec.LookPath("iptables-legacy"); err == nil {
		ns, k := open(f)
		iptables(ns, "legacy")
		for _, family := range routing.Families {
			err := k.inside(func() error {
				_, entries, err := xtablesOf[family].read("nat")
				f.Add(entries, family == routing.IPv6)
				return err
			})
			if err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Fuzz(func(_ *testing.T, entries []byte, six bool) {
		x := xtablesOf[routing.IPv4]
		if six {
			x = xtablesOf[routing.IPv6]
		}
		_, _ = x.find(xtInfo{}, entries)
		_, _ = x.chains(xtInfo{}, entries)
	})
}
