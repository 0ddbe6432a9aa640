package host

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// dnatText is "LINK ADDRESSES TRANSPORT PORTS -> TO", without what is any.
func dnatText(d routing.DNAT) string {
	var words []string
	if d.In != "" {
		words = append(words, d.In)
	}
	for _, p := range d.Addrs {
		words = append(words, p.String())
	}
	if d.Transport != "" {
		words = append(words, d.Transport)
	}
	if d.First != 0 {
		words = append(words, fmt.Sprintf("%d-%d", d.First, d.Last))
	}
	to := "?"
	switch {
	case d.Redirect:
		to = "here"
	case d.To.IsValid():
		to = d.To.String()
	}
	return strings.Join(words, " ") + " -> " + to
}

func dnatTexts(list []routing.DNAT) (out []string) {
	for _, d := range list {
		out = append(out, dnatText(d))
	}
	return out
}

// nftNAT has a rule of each form that is understood, and some that are not: nft
// compares `udp sport 53 udp dport 53` as one number, so neither port is
// understood.
const nftNAT = `table inet n {
	map services { type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.0.0.1 . tcp . 80 : goto one, 10.0.0.2 . udp . 53 : goto two }; }
	set vips { type ipv4_addr; flags interval; elements = { 10.5.0.0/24, 10.6.0.1 }; }
	set blocked { type ipv4_addr; elements = { 192.0.2.1 }; }
	chain one { dnat ip to 10.9.9.1; }
	chain two { meta l4proto udp dnat ip to 10.9.9.2:53; }
	chain unreached { dnat ip to 10.9.9.3; }
	chain notSeven { iifname != "eth7" redirect; tcp dport 212 redirect; }
	chain outbound { type nat hook output priority 0; tcp dport 80 dnat ip to 10.9.9.4; }
	chain after { type nat hook postrouting priority 0; ip daddr 10.0.0.1 snat ip to 10.9.9.4; }
	chain pre { type nat hook prerouting priority dstnat
		ip daddr 10.0.1.100 tcp dport 8080 dnat ip to 10.0.0.10:80
		ip daddr { 10.0.2.100, 10.0.3.0/24 } udp dport { 53, 5000-6000 } dnat ip to 10.0.0.11
		ip6 daddr 2001:db8:1::100 dnat ip6 to 2001:db8::10
		tcp dport 22 accept
		ip saddr @blocked return
		ip daddr . meta l4proto . th dport vmap @services
		tcp dport { 80, 90-95 } redirect to :8080
		ip daddr @vips tcp dport 443 dnat ip to 10.9.9.5
		ip daddr != 10.0.0.0/8 tcp dport 25 dnat ip to 10.9.9.6
		tcp dport 81-89 dnat ip6 to 2001:db8::1
		dnat ip to tcp dport map { 8000 : 10.9.9.7, 8001 : 10.9.9.8 }
		fib daddr type local tcp dport vmap { 22 : jump one, 1000-2000 : jump one }
		iifname != "docker0" ip daddr 10.7.0.0/20 tcp dport >= 1024 dnat ip to 10.9.9.9-10.9.9.10
		ip6 daddr 2001:db8:2::/48 meta l4proto { tcp, udp } th dport 53 dnat ip6 to 2001:db8::10
		ip daddr 10.8.0.0/16 udp sport 53 udp dport 53 jump one
		meta nfproto ipv6 tcp dport 100 redirect
		ip protocol icmp dnat ip to 10.9.9.11
		iifname "eth0" tcp dport 70 dnat ip to 10.9.9.12
		iifname { "eth1", "br0" } tcp dport 71 dnat ip to 10.9.9.12
		iifname "eth*" iifname vmap { "eth2" : jump one, "br2" : jump one }
		meta l4proto . iifname vmap { tcp . "eth3" : jump two, udp . "eth4" : jump two }
		ip daddr 10.11.0.5-10.11.0.9 tcp dport 200 redirect
		ip daddr != 1.0.0.0-255.255.255.255 tcp dport 201 redirect
		ip daddr > 255.255.255.252 tcp dport 202 redirect
		ip6 daddr != 8000::/1 tcp dport 203 redirect
		ip daddr != { 0.0.0.0/1, 128.0.0.0/2, 224.0.0.0-255.255.255.255 } tcp dport 204 redirect
		tcp dport != 205 ip daddr 10.11.0.1 redirect
		tcp dport != 100-205 ip daddr 10.11.0.2 redirect
		tcp dport != { 80, 90-65535 } ip daddr 10.11.0.3 redirect
		tcp dport < 1024 ip daddr 10.11.0.4 redirect
		ip protocol != tcp ip daddr 10.11.0.5 redirect
		meta nfproto != ipv4 tcp dport 206 redirect
		iif lo tcp dport 207 redirect
		iif != lo tcp dport 208 redirect
		iif vmap { lo : jump one }
		iif . tcp dport { lo . 209 } redirect
		iifname != "eth*" tcp dport 210 redirect
		iifname != { "eth5", "eth6" } tcp dport 211 redirect
		iifname "eth7" goto notSeven
	}
}
table ip more { chain pre { type nat hook prerouting priority -99; tcp dport 7 dnat to :8080; }; }
table ip asleep { flags dormant; chain pre { type nat hook prerouting priority -98; redirect; }; }
`

const nftDNATs = `10.0.1.100/32 tcp 8080-8080 -> 10.0.0.10
10.0.2.100/32 10.0.3.0/24 udp 53-53 -> 10.0.0.11
10.0.2.100/32 10.0.3.0/24 udp 5000-6000 -> 10.0.0.11
2001:db8:1::100/128 -> 2001:db8::10
10.0.0.1/32 tcp 80-80 -> 10.9.9.1
10.0.0.2/32 udp 53-53 -> 10.9.9.2
0.0.0.0/0 ::/0 tcp 80-80 -> here
0.0.0.0/0 ::/0 tcp 90-95 -> here
10.5.0.0/24 10.6.0.1/32 tcp 443-443 -> 10.9.9.5
0.0.0.0/5 8.0.0.0/7 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3 64.0.0.0/2 128.0.0.0/1 tcp 25-25 -> 10.9.9.6
::/0 tcp 81-89 -> 2001:db8::1
0.0.0.0/0 tcp 8000-8000 -> ?
0.0.0.0/0 tcp 8001-8001 -> ?
0.0.0.0/0 tcp 22-22 -> 10.9.9.1
0.0.0.0/0 tcp 1000-2000 -> 10.9.9.1
!docker0 10.7.0.0/20 tcp 1024-65535 -> ?
2001:db8:2::/48 tcp 53-53 -> 2001:db8::10
2001:db8:2::/48 udp 53-53 -> 2001:db8::10
10.8.0.0/16 udp -> 10.9.9.1
::/0 tcp 100-100 -> here
0.0.0.0/0 protocol 1 -> 10.9.9.11
eth0 0.0.0.0/0 tcp 70-70 -> 10.9.9.12
br0 0.0.0.0/0 tcp 71-71 -> 10.9.9.12
eth1 0.0.0.0/0 tcp 71-71 -> 10.9.9.12
eth2 0.0.0.0/0 -> 10.9.9.1
eth4 0.0.0.0/0 udp -> 10.9.9.2
10.11.0.5/32 10.11.0.6/31 10.11.0.8/31 tcp 200-200 -> here
0.0.0.0/8 tcp 201-201 -> here
255.255.255.253/32 255.255.255.254/31 tcp 202-202 -> here
::/1 tcp 203-203 -> here
192.0.0.0/3 tcp 204-204 -> here
10.11.0.1/32 tcp 1-204 -> here
10.11.0.1/32 tcp 206-65535 -> here
10.11.0.2/32 tcp 1-99 -> here
10.11.0.2/32 tcp 206-65535 -> here
10.11.0.3/32 tcp 1-79 -> here
10.11.0.3/32 tcp 81-89 -> here
10.11.0.4/32 tcp 1-1023 -> here
10.11.0.5/32 udp -> here
::/0 tcp 206-206 -> here
lo 0.0.0.0/0 ::/0 tcp 207-207 -> here
!lo 0.0.0.0/0 ::/0 tcp 208-208 -> here
lo 0.0.0.0/0 -> 10.9.9.1
lo 0.0.0.0/0 ::/0 tcp 209-209 -> here
!eth* 0.0.0.0/0 ::/0 tcp 210-210 -> here
!eth6 0.0.0.0/0 ::/0 tcp 211-211 -> here
eth7 0.0.0.0/0 ::/0 tcp 212-212 -> here`

func TestDNATs(t *testing.T) {
	ns, k := open(t)
	ns.Run("nft", nftNAT)
	got, err := k.DNATs()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(nftDNATs, "\n"), dnatTexts(got)); diff != "" {
		t.Error("-want +got\n", diff)
	}
	if want := "nft: inet n pre handle "; !strings.HasPrefix(got[0].Origin, want) {
		t.Errorf("origin %q, want %s…", got[0].Origin, want)
	}
}

// iptablesNAT are arguments of iptables and, in lines that begin with 6, of
// ip6tables: Docker's and Kubernetes' forms and more.
const iptablesNAT = `-N DOCKER
-N SERVICE
-N ENDPOINT
-N UNREACHED
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -d 10.0.1.100/32 -p udp -m udp --dport 53:59 -j DNAT --to-destination 172.17.0.3
-A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j SERVICE
-A SERVICE -m statistic --mode random --probability 0.5 -j ENDPOINT
-A SERVICE -m comment --comment again -g ENDPOINT
-A ENDPOINT -p tcp -m tcp -j DNAT --to-destination 10.0.0.7:6443
-A UNREACHED -j DNAT --to-destination 10.9.9.9
-A PREROUTING -p tcp -m multiport --dports 443,8000:8010 -j REDIRECT --to-ports 8443
-A PREROUTING ! -d 10.0.0.0/8 -p tcp ! --dport 25 -j DNAT --to-destination 10.9.9.8
-A PREROUTING -d 10.2.0.0/16 -j NETMAP --to 10.3.0.0/16
-A PREROUTING -p tcp --dport 9 -j DNAT --to-destination :99
-A PREROUTING -d 10.1.0.1 -j DNAT --to-destination 10.3.0.1-10.3.0.9
-A PREROUTING -p icmp -j DNAT --to-destination 10.9.9.7
-A OUTPUT -d 127.0.0.11/32 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:4053
-A PREROUTING -i eth0 -d 10.4.0.0/16 -j DNAT --to-destination 10.9.9.6
-A PREROUTING -m iprange --dst-range 10.11.0.5-10.11.0.9 -j REDIRECT
-A PREROUTING -m iprange ! --dst-range 0.0.0.0-254.255.255.255 -j REDIRECT
-A PREROUTING -m iprange --src-range 10.11.0.5-10.11.0.9 -d 10.11.0.1 -j REDIRECT
-A PREROUTING -d 10.11.0.2 ! -p tcp -j REDIRECT
-A PREROUTING -p udp -m multiport ! --dports 90,1:79 -j REDIRECT
-A PREROUTING -i eth+ -p udp --dport 5 -j DNAT --to-destination 10.9.9.6
6 -A PREROUTING -i eth12345678901+ -p tcp --dport 81 -j REDIRECT
6 -A PREROUTING -d 2001:db8:1::/48 -p tcp --dport 80 -j DNAT --to-destination [2001:db8::2]:81
6 -A PREROUTING -m iprange --dst-range 2001:db8::4-2001:db8::8 -j REDIRECT
6 -A PREROUTING ! -d 8000::/1 -p tcp --dport 82 -j REDIRECT
6 -A PREROUTING -p udp --dport 443 -j REDIRECT`

const iptablesDNATs = `!docker0 0.0.0.0/0 tcp 80-80 -> 172.17.0.2
10.0.1.100/32 udp 53-59 -> 172.17.0.3
10.96.0.1/32 tcp 443-443 -> 10.0.0.7
10.96.0.1/32 tcp 443-443 -> 10.0.0.7
0.0.0.0/0 tcp 443-443 -> here
0.0.0.0/0 tcp 8000-8010 -> here
0.0.0.0/5 8.0.0.0/7 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3 64.0.0.0/2 128.0.0.0/1 tcp 1-24 -> 10.9.9.8
0.0.0.0/5 8.0.0.0/7 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3 64.0.0.0/2 128.0.0.0/1 tcp 26-65535 -> 10.9.9.8
10.2.0.0/16 -> ?
10.1.0.1/32 -> ?
0.0.0.0/0 protocol 1 -> 10.9.9.7
eth0 10.4.0.0/16 -> 10.9.9.6
10.11.0.5/32 10.11.0.6/31 10.11.0.8/31 -> here
255.0.0.0/8 -> here
10.11.0.1/32 -> here
10.11.0.2/32 udp -> here
0.0.0.0/0 udp 80-89 -> here
0.0.0.0/0 udp 91-65535 -> here
eth* 0.0.0.0/0 udp 5-5 -> 10.9.9.6
eth12345678901* ::/0 tcp 81-81 -> here
2001:db8:1::/48 tcp 80-80 -> 2001:db8::2
2001:db8::4/126 2001:db8::8/128 -> here
::/1 tcp 82-82 -> here
::/0 udp 443-443 -> here`

// TestDNATsOfIptables has both kinds of iptables make the same rules.
func TestDNATsOfIptables(t *testing.T) {
	for _, tt := range []struct {
		kind, first, origin string
		read, other         func(*Kernel) ([]routing.DNAT, error)
	}{
		{"nft", "nft: ip nat DOCKER handle ", "nft: ip6 nat PREROUTING handle ",
			(*Kernel).DNATs, (*Kernel).LegacyDNATs},
		{"legacy", "iptables-legacy: DOCKER rule 2", "ip6tables-legacy: PREROUTING rule 5",
			(*Kernel).LegacyDNATs, (*Kernel).DNATs},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			if _, err := exec.LookPath("iptables-" + tt.kind); err != nil {
				t.Skip(err)
			}
			ns, k := open(t)
			iptables(ns, tt.kind)
			got, err := tt.read(k)
			if err != nil {
				t.Fatal(err)
			}
			diff := cmp.Diff(strings.Split(iptablesDNATs, "\n"), dnatTexts(got))
			if diff != "" {
				t.Fatal("-want +got\n", diff)
			}
			last := got[len(got)-1].Origin
			if !strings.HasPrefix(got[0].Origin, tt.first) ||
				!strings.HasPrefix(last, tt.origin) {
				t.Errorf("origins %q, %q", got[0].Origin, last)
			}
			if other, err := tt.other(k); err != nil || len(other) > 0 {
				t.Errorf("the other kind has %v, %v", other, err)
			}
		})
	}
}

func iptables(ns *nstest.NS, kind string) {
	for line := range strings.Lines(iptablesNAT) {
		name := "iptables-"
		if rest, six := strings.CutPrefix(line, "6 "); six {
			name, line = "ip6tables-", rest
		}
		ns.Run(append([]string{name + kind, "-w", "-t", "nat"}, strings.Fields(line)...)...)
	}
}

// A user that may not read rules gets an error for that, once.
func TestDNATsUnread(t *testing.T) {
	_, k := open(t)
	k.Fault = func(kind int) error {
		if kind>>8 == unix.NFNL_SUBSYS_NFTABLES {
			return unix.EPERM
		}
		return nil
	}
	if got, err := k.DNATs(); !errors.Is(err, unix.EPERM) ||
		strings.Count(err.Error(), "not permitted") != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestBothLinks: the result of two conditions on a link; a possible result is
// never empty.
func TestBothLinks(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"", "eth0", "eth0"}, {"eth0", "", "eth0"}, {"", "!eth0", "!eth0"},
		{"!eth0", "", "!eth0"}, {"eth*", "eth0", "eth0"}, {"eth0", "eth*", "eth0"},
		{"eth0", "eth1", "nothing"}, {"eth*", "br*", "nothing"},
		{"!eth0", "eth0", "nothing"}, {"eth0", "!eth*", "nothing"},
		{"eth1*", "!eth*", "nothing"}, {"!eth*", "eth1*", "nothing"},
		{"!eth0", "eth1", "eth1"}, {"eth1", "!eth0", "eth1"}, {"!br*", "eth0", "eth0"},
		{"eth*", "!eth0", "eth*"}, {"!eth0", "eth*", "eth*"},
		{"!eth*", "!eth0", "!eth*"}, {"!eth0", "!eth*", "!eth*"},
		{"!eth0", "!eth1", "!eth1"},
	} {
		got, some := bothLinks(routing.DNAT{In: tt.a}, routing.DNAT{In: tt.b})
		if !some {
			got = "nothing"
		}
		if got != tt.want {
			t.Errorf("%q and %q leave %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}

// Chains that lead to one another in very many ways, or in a circle as a torn
// dump may have them, end.
func TestManyJumps(t *testing.T) {
	rules := map[string][]natRule{"loop": {{jump: "loop"}}}
	for i := range 16 {
		for range 20 {
			rules[fmt.Sprint(i)] = append(rules[fmt.Sprint(i)],
				natRule{jump: fmt.Sprint(i + 1)})
		}
	}
	w := natWalk{rules: func(chain string) ([]natRule, error) { return rules[chain], nil }}
	w.base = []string{"loop"}
	if _, err := w.walk(); err != nil {
		t.Error(err)
	}
	w.base = []string{"0"}
	if _, err := w.walk(); err == nil {
		t.Error("no end was found, and none told")
	}
}

// FuzzNATRule: no contents of a rule and its sets make it panic, and no
// condition is an empty range of ports.
func FuzzNATRule(f *testing.F) {
	ns, k := open(f)
	ns.Run("nft", nftNAT)
	rules, err := k.listNFT(unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, nfMessage(0))
	if err != nil {
		f.Fatal(err)
	}
	set := nfMessage(unix.NFPROTO_INET)
	set.putString(unix.NFTA_SET_ELEM_LIST_TABLE, "n")
	set.putString(unix.NFTA_SET_ELEM_LIST_SET, "vips")
	sets, err := k.listNFT(unix.NFT_MSG_GETSETELEM, unix.NFT_MSG_NEWSETELEM, set)
	if err != nil || len(sets) == 0 {
		f.Fatal(err)
	}
	for _, msg := range rules {
		f.Add(msg, sets[0])
	}
	f.Fuzz(func(t *testing.T, rule, set []byte) {
		got, _ := natRules(rule, nftKnown{func(nftChain) ([]nftElement, error) {
			return decodeElements([][]byte{set})
		}, func(int) string { return "eth0" }})
		for _, r := range got {
			if r.Last < r.First {
				t.Error(r.DNAT)
			}
		}
	})
}
