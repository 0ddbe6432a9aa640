package host

import (
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

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

// filtering is a table with a chain at each hook, and one that other chains
// jump to.
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

// resetMore is a rule in the chain that other chains jump to.
const resetMore = "add rule inet fw more meta l4proto tcp reject with tcp reset"

// rulesets are lines, each with the result for both families if it stands
// alone. A line of nft follows filtering; a line of iptables may have several
// commands.
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
	{"nft add rule inet fw more ip saddr 10.0.1.0/24 meta l4proto tcp reject with tcp reset", "", ""},
	{"nft add rule inet fw more ip saddr 10.0.1.0/24 meta l4proto tcp reject with tcp reset; " +
		"add rule inet fw forward jump more",
		"inet fw more handle 6: reject with tcp reset", ""},
	{"nft add rule inet fw input jump more; " + resetMore, "", ""}, // fail2ban's and ufw's
	{"nft add rule inet fw output goto more; " + resetMore, "", ""},
	{"nft add rule inet fw input jump more; add rule inet fw forward goto more; " + resetMore,
		"inet fw more handle 8: reject with tcp reset",
		"inet fw more handle 8: reject with tcp reset"},
	{"nft add rule inet fw forward meta nfproto ipv6 jump more; " + resetMore,
		"", "inet fw more handle 7: reject with tcp reset"},
	{"nft add chain inet fw last; add rule inet fw more goto last; " +
		"add rule inet fw forward jump more; " +
		"add rule inet fw last meta l4proto tcp reject with tcp reset",
		"inet fw last handle 9: reject with tcp reset",
		"inet fw last handle 9: reject with tcp reset"},
	{"nft add rule inet fw forward tcp dport vmap { 22 : accept, 80 : jump more }; " + resetMore,
		"inet fw more handle 8: reject with tcp reset",
		"inet fw more handle 8: reject with tcp reset"},
	{"nft add rule inet fw input tcp dport vmap { 22 : accept, 80 : jump more }; " + resetMore,
		"", ""},
	{"nft add map inet fw ways { type ipv4_addr : verdict; }; " +
		"add rule inet fw forward ip saddr vmap @ways; " + resetMore, "", ""},
	{"nft add map inet fw ways { type ipv4_addr : verdict; }; " +
		"add rule inet fw forward ip saddr vmap @ways; " + resetMore +
		"; add element inet fw ways { 10.0.1.7 : goto more }",
		"inet fw more handle 8: reject with tcp reset", ""},
	{"nft add rule inet fw forward jump { meta l4proto tcp reject with tcp reset; }",
		"inet fw __chainN handle 7: reject with tcp reset",
		"inet fw __chainN handle 7: reject with tcp reset"},
	{"nft add rule inet fw forward fib saddr . iif oif missing drop; " +
		"add table inet fw { flags dormant; }", "", ""},
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
	{"iptables-nft -N f2b; iptables-nft -A INPUT -j f2b; " +
		"iptables-nft -A f2b -p tcp -j REJECT --reject-with tcp-reset", "", ""},
	{"iptables-nft -N f2b; iptables-nft -A FORWARD -g f2b; " +
		"iptables-nft -A f2b -p tcp -j REJECT --reject-with tcp-reset",
		"ip filter f2b handle 4: REJECT with tcp-reset", ""},
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
	{"iptables-legacy -N f2b; iptables-legacy -A INPUT -p tcp -j f2b; " +
		"iptables-legacy -A f2b -p tcp -j REJECT --reject-with tcp-reset", "", ""},
	{"iptables-legacy -N f2b; iptables-legacy -N last; iptables-legacy -A f2b -g last; " +
		"iptables-legacy -A INPUT -p tcp -j f2b; iptables-legacy -A FORWARD -j f2b; " +
		"iptables-legacy -A last -p tcp -j REJECT --reject-with tcp-reset",
		"iptables-legacy filter: REJECT with tcp-reset", ""},
	{"ip6tables-legacy -N f2b; ip6tables-legacy -A f2b -p tcp -j REJECT --reject-with tcp-reset", "", ""},
	{"ip6tables-legacy -N f2b; ip6tables-legacy -A FORWARD -p tcp -m tcp --dport 80 -j f2b; " +
		"ip6tables-legacy -A f2b -p tcp -j REJECT --reject-with tcp-reset", "",
		"iptables-legacy filter: REJECT with tcp-reset"},
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
			if nft, ok := strings.CutPrefix(tt.line, "nft "); ok {
				ns.Run("nft", nft)
			} else {
				for line := range strings.SplitSeq(tt.line, "; ") {
					ns.Run(strings.Fields(line)...)
				}
			}
			got := read(t, k).Rulesets
			for i := range got { // the kernel counts those of all namespaces
				got[i].Lookup = regexp.MustCompile(`__chain\d+`).
					ReplaceAllString(got[i].Lookup, "__chainN")
			}
			if diff := cmp.Diff(want, got); diff != "" {
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
		t.Errorf("no reader: -want +got\n%s", diff)
	}
	fault = unix.ENOBUFS
	if h, err := k.Read(); err == nil {
		t.Errorf("the kernel had no room, and %v was read", h.Rulesets)
	}
}

const (
	fibRule  = "add rule inet fw prerouting fib saddr . iif oif missing drop"
	goneRule = "deleted or not reached any more: "
)

// rulesetEvents are changes of nf_tables, each with its event.
var rulesetEvents = []struct{ name, before, change, want string }{
	{"a rule comes", filtering, fibRule, "inet fw prerouting handle 6: fib saddr"},
	{"other rules come", filtering, "add set inet fw banned { type ipv4_addr; }; " +
		"add element inet fw banned { 10.0.1.7, 10.0.1.8 }; " +
		"add rule inet fw forward ip saddr @banned drop; " +
		"add rule inet fw forward reject; " + resetMore, ""},
	{"a jump comes", filtering + resetMore, "add rule inet fw forward jump more",
		"inet fw more handle 6: reject with tcp reset"},
	{"a verdict comes", filtering + resetMore +
		"\nadd map inet fw ways { type ipv4_addr : verdict; }\n" +
		"add rule inet fw forward ip saddr vmap @ways",
		"add element inet fw ways { 10.0.1.7 : jump more }",
		"inet fw more handle 6: reject with tcp reset"},
	{"a rule goes", filtering + fibRule, "delete rule inet fw prerouting handle 6",
		goneRule + "inet fw prerouting handle 6: fib saddr"},
	{"one of two goes", filtering + fibRule + "\n" + fibRule,
		"delete rule inet fw prerouting handle 7", ""},
	{"a jump goes", filtering + resetMore + "\nadd rule inet fw forward jump more",
		"flush chain inet fw forward",
		goneRule + "inet fw more handle 6: reject with tcp reset"},
	{"the chain goes", filtering + fibRule, "delete chain inet fw prerouting",
		goneRule + "inet fw prerouting handle 6: fib saddr"},
	{"the table goes", filtering + fibRule, "delete table inet fw",
		goneRule + "inet fw prerouting handle 6: fib saddr"},
	{"everything goes", filtering + fibRule, "flush ruleset",
		goneRule + "inet fw prerouting handle 6: fib saddr"},
	{"it is loaded again", filtering + fibRule, "flush ruleset\n" + filtering + resetMore,
		goneRule + "inet fw prerouting handle 6: fib saddr"},
	{"the table is dormant", filtering + fibRule, "add table inet fw { flags dormant; }",
		goneRule + "inet fw prerouting handle 6: fib saddr"},
	{"it is not any more", filtering + fibRule + "\nadd table inet fw { flags dormant; }",
		"add table inet fw", "inet fw prerouting handle 6: fib saddr"},
}

// TestRulesetEvents: events report a change of nf_tables exactly if it changes
// the rules that look up forwarded packets.
func TestRulesetEvents(t *testing.T) {
	for _, tt := range rulesetEvents {
		t.Run(tt.name, func(t *testing.T) {
			ns, k := forwarding(t)
			ns.Run("nft", tt.before)
			c := watch(t, k)
			read(t, k)
			var got []string
			ns.Run("nft", tt.change)
			want := []string{tt.want, "ip last pre handle 2: fib saddr"}
			if tt.want == "" {
				want = want[1:]
			} else {
				got = append(got, next(t, c).Text)
			}
			ns.Run("nft", "flush ruleset\ntable ip last { chain pre { "+
				"type filter hook prerouting priority 0; "+
				"fib saddr . iif oif missing drop; }; }")
			got = append(got, next(t, c).Text)
			for i := range want {
				want[i] = "ruleset changed: " + want[i]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// iptables and what restores its rules are heard alike, and on a host that does
// not forward nothing is.
func TestRulesetEventsOfIptables(t *testing.T) {
	ns, k := forwarding(t)
	c := watch(t, k)
	read(t, k)
	restore := func(rule string) {
		t.Helper()
		cmd := ns.Command("iptables-nft-restore")
		cmd.Stdin = strings.NewReader("*filter\n:FORWARD ACCEPT [0:0]\n" + rule +
			"COMMIT\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	const reset = "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset\n"
	heard := func(want string) {
		t.Helper()
		if e := next(t, c); e.Text != "ruleset changed: "+want {
			t.Errorf("got %q, want %q", e.Text, want)
		}
	}
	restore(reset)
	first := read(t, k).Rulesets[0].Lookup
	heard(first)
	restore("")
	heard(goneRule + first)
	restore(reset)
	heard(read(t, k).Rulesets[0].Lookup)
	ns.Sysctl("net.ipv4.ip_forward=0")
	ns.Sysctl("net.ipv6.conf.all.forwarding=0")
	until(t, ns, c)
	read(t, k)
	restore("")
	if rest := until(t, ns, c); len(rest) > 0 {
		t.Errorf("events of a host that does not forward:\n%s", texts(rest))
	}
}

// A table that belongs to a process goes with it, and the kernel counts that as
// no change of nf_tables.
func TestRulesetOwned(t *testing.T) {
	ns, k := forwarding(t)
	if out, err := ns.Command("nft", "-c", "add table ip own { flags owner; }").
		CombinedOutput(); err != nil {
		t.Skipf("nft does not know owners yet (0.9.8 of Debian 11): %s", out)
	}
	owner := ns.Command("nft", "-i")
	in, err := owner.StdinPipe()
	if err == nil {
		err = owner.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "table ip own { flags owner; chain pre { type filter hook "+
		"prerouting priority 0; fib saddr . iif oif missing drop; }; }\n")
	lookup := func() string { return read(t, k).Rulesets[0].Lookup }
	until := func(want string) {
		t.Helper()
		for range 100 {
			if lookup() == want {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("got %q, want %q", lookup(), want)
	}
	until("ip own pre handle 2: fib saddr")
	in.Close()
	_ = owner.Wait()
	until("")
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
						k.nftables.forget()
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

// No contents of a table make it panic, and only what is there is read.
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

// TestRulesetsAsked: if the user asks for the mode last-hop, the rules count
// also on a host that forwards nothing.
func TestRulesetsAsked(t *testing.T) {
	ns, k := open(t, uplinks)
	c := ns.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(filtering +
		"add rule inet fw prerouting fib saddr . iif oif missing drop\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	if got := read(t, k).Rulesets; len(got) > 0 {
		t.Errorf("not asked: %v", got)
	}
	k.AskedLastHop = true
	got := read(t, k).Rulesets
	if len(got) != 2 || !strings.HasSuffix(got[0].Lookup, "fib saddr") {
		t.Errorf("asked: %v", got)
	}
}
