package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// labTMSH is the BIG-IP's side. Each unit holds an address as long as anything
// of its configuration answers for it; the active one announces it and answers.
// `failover` makes the other unit the active one.
const labTMSH = `set -eu
dir=/run/lab/bigip; mkdir -p $dir; [ -e $dir/active ] || echo lb1 >$dir/active
unit=${UNIT:-lb1}
at() { nsenter --net=/run/netns/$unit -- "$@"; }
hold() { # what this unit answers for
	case $1 in
	10.0.1.*|2001:db8:1:*) link=b1;;
	10.0.2.*|2001:db8:2:*) link=b2;;
	*) link=b0;;
	esac
	if [ $unit = $(cat $dir/active) ] && [ -n "$(ls $dir/$unit/$1 2>/dev/null)" ]; then
		at ip address replace $1 dev $link
		mac=$(at ip -o link show dev $link | sed 's/.*ether \([0-9a-f:]*\).*/\1/')
		at ip link set dev $link address $mac # announces it
	else
		at ip address del $1 dev $link 2>/dev/null || :
	fi
}
if [ "$1" = failover ]; then
	[ $(cat $dir/active) = lb1 ] && echo lb2 >$dir/active || echo lb1 >$dir/active
	for unit in lb1 lb2; do for a in $(ls $dir/$unit 2>/dev/null); do hold $a; done; done
	exit
fi
kind=$3 addr=${4#/Common/}; shift 4
case $kind in virtual-address) what=va;; *) what=translation;; esac
mkdir -p $dir/$unit/$addr
case "$*" in
"arp disabled"*) rm -f $dir/$unit/$addr/$what;;
"arp enabled"*) : >$dir/$unit/$addr/$what;;
*) exit 1;;
esac
hold $addr`

// labARPing does what the real one does: it fails for an address that is not
// here, and else announces the addresses of the link.
const labARPing = `[ "$1 $2 $3 $4" = "-U -c 3 -I" ]
ip address show dev "$5" to "$6" | grep -q inet
sysctl -qw net.ipv4.conf.$5.arp_notify=1
mac=$(ip -o link show dev "$5" | sed 's/.*ether \([0-9a-f:]*\).*/\1/')
ip link set dev "$5" address $mac`

// units are the namespaces of the BIG-IP's units.
var units = []string{"lb1", "lb2"}

// bigipLab is a lab with the units of a BIG-IP in each VLAN, and a second
// router with a client of its own in one.
type bigipLab struct {
	migrating
	conf  string   // the BIG-IP's
	addrs []string // its virtual addresses
}

// newBIGIPLab raises it with a configuration of testdata/lab/migrate. The host
// has none of the BIG-IP's addresses.
func newBIGIPLab(t *testing.T, name string) bigipLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the mode last-hop needs root")
	}
	conf, err := os.ReadFile("../../testdata/lab/migrate/" + name)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	b := bigipLab{migrating: migrating{lab: l, t: t, bin: t.TempDir(),
		serve: "listen 10.0.0.100:80;"}, conf: string(conf)}
	b.ucs = filepath.Join(t.TempDir(), "bigip.conf")
	b.write(b.conf)
	b.script("lasthop", "exec "+l.lasthop+` --config "$CONFIG" "$@"`)
	b.script("tmsh", labTMSH)
	b.script("arping", labARPing)
	b.script("nginx", nginxOfLab)
	b.wire()
	for _, m := range regexp.MustCompile(`(?m)^ltm (virtual-address|snat-translation) `+
		`/Common/(\S+)`).FindAllStringSubmatch(b.conf, -1) {
		if m[1] == "virtual-address" {
			b.addrs = append(b.addrs, m[2])
		}
		for _, unit := range units {
			b.sh(fmt.Sprintf("UNIT=%s tmsh modify ltm %s /Common/%s arp enabled", unit,
				m[1], m[2]))
		}
	}
	b.sh("mount -t bpf bpf /sys/fs/bpf") // in the lab's own mount namespace
	return b
}

// wire puts a switch into each VLAN, so that the units of the BIG-IP, and a
// router with a client behind it, have a place there.
func (b bigipLab) wire() {
	for _, ns := range append([]string{"fw2", "client2"}, units...) {
		b.do("namespace", ns)
	}
	for n := range 3 {
		if n > 0 { // eth0 has one
			b.do("at", "fw", "ip", "link", "del", fmt.Sprint("lan", n))
			b.ip("switch link add sw%d type bridge", n)
			b.ip("switch link set sw%d up", n)
			b.plug("host", "eth", n)
			b.plug("fw", "lan", n)
			b.ip("fw addr add 10.0.%d.1/24 dev lan%[1]d", n)
			b.ip("fw addr add 2001:db8:%d::1/64 dev lan%[1]d nodad", n)
			b.ip("host addr add 10.0.%d.10/24 dev eth%[1]d", n)
			b.ip("host addr add 2001:db8:%d::10/64 dev eth%[1]d nodad", n)
			for _, via := range []string{"10.0.%d.1", "2001:db8:%d::1"} {
				b.ip("host route add default via "+via+
					" dev eth%[1]d metric 10%[1]d", n)
			}
		}
		for _, unit := range units {
			b.plug(unit, "b", n)
		}
	}
	b.plug("fw2", "lan", 1)
	b.do("cable", "client2", "eth0", "fw2", "wan")
	for _, line := range []string{"host addr del 10.0.0.100/24 dev eth0",
		"host addr del 2001:db8:0::100/64 dev eth0",
		"fw2 addr add 10.0.1.3/24 dev lan1", "fw2 addr add 192.0.2.1/24 dev wan",
		"client2 addr add 192.0.2.2/24 dev eth0",
		"client2 route add default via 192.0.2.1"} {
		b.ip("%s", line)
	}
	for _, unit := range units {
		b.do("at", unit, "sysctl", "-qw", "net.ipv4.conf.all.arp_notify=1",
			"net.ipv6.conf.all.ndisc_notify=1")
	}
	b.do("at", "fw2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
	b.do("at", "fw2", "nft", "add table ip f; add chain ip f forward "+
		"{ type filter hook forward priority 0; policy drop; }; "+
		"add rule ip f forward iifname wan accept; "+
		"add rule ip f forward ct state established accept")
	b.do("firewall", "strict")
}

// plug joins a namespace with the switch of a VLAN.
func (b bigipLab) plug(ns, link string, n int) {
	port := fmt.Sprintf("to-%s-%d", ns, n)
	b.do("cable", ns, fmt.Sprint(link, n), "switch", port)
	b.ip("switch link set %s master sw%d", port, n)
}

// ip runs ip in a namespace: "host addr add …".
func (b bigipLab) ip(format string, args ...any) {
	words := strings.Fields(fmt.Sprintf(format, args...))
	b.do(append([]string{"at", words[0], "ip"}, words[1:]...)...)
}

// write writes the BIG-IP's files anew.
func (b bigipLab) write(conf string) {
	b.t.Helper()
	if err := os.WriteFile(b.ucs, []byte(conf), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// owners returns the namespaces that have an address: what answers for it.
func (b bigipLab) owners(addr string) (out []string) {
	for _, ns := range append([]string{"host"}, units...) {
		if strings.Contains(b.do("at", ns, "ip", "-o", "address", "show", "to", addr),
			addr) {
			out = append(out, ns)
		}
	}
	return out
}

// wantOwners wants the host to have those addresses, and the active unit the
// others.
func (b bigipLab) wantOwners(moved []string, unit, when string) {
	b.t.Helper()
	for _, addr := range b.addrs {
		want := []string{unit}
		if slices.Contains(moved, addr) {
			want = []string{"host"}
		}
		if got := b.owners(addr); !slices.Equal(got, want) {
			b.t.Errorf("%s: %s is on %v, want %v", when, addr, got, want)
		}
	}
}

// meet has the routers learn which MAC address each of the BIG-IP's addresses
// has.
func (b bigipLab) meet() {
	b.t.Helper()
	for _, ns := range []string{"fw", "fw2"} {
		b.do("at", ns, "sh", "-c", "for a in "+strings.Join(b.addrs, " ")+
			"; do ping -c1 -W1 $a >/dev/null 2>&1 & done; wait")
	}
}

// wantAnswered asks each address from a client, in one of three tries.
func (b bigipLab) wantAnswered(from string, addrs []string) {
	b.t.Helper()
	for _, addr := range addrs {
		host := addr
		if strings.Contains(addr, ":") {
			host = "[" + addr + "]"
		}
		answered := false
		for try := 0; try < 3 && !answered; try++ {
			out, _ := b.command("at", from, "sh", "-c", "printf 'GET / HTTP/1.0\r\n"+
				"\r\n' | timeout 2 socat -t2 - TCP:"+host+":80").Output()
			answered = strings.Contains(string(out), "http "+addr)
		}
		if !answered {
			b.t.Errorf("%s does not answer %s", addr, from)
		}
	}
}

// result is what the program of the lab takes of migrate's JSON.
type result struct {
	migration
	Virtuals []struct {
		Virtual, Address, VLAN, Status, Reason, Decided string
		Also                                            []string
	}
}

// asks runs migrate.
func (b bigipLab) asks() (r result) {
	b.t.Helper()
	out := b.sh("lasthop migrate -o json " + b.ucs + " || [ $? = 2 ]")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// questions are what rows miss: "virtual code".
func (r result) questions() map[string]bool {
	all := map[string]bool{}
	for _, v := range r.Virtuals {
		for _, code := range append([]string{v.Reason}, v.Also...) {
			if code != "" {
				all[v.Virtual+" "+code] = true
			}
		}
	}
	return all
}

// ready returns the addresses of which all rows are ready, and none by a
// decision.
func (r result) ready() (out []string) {
	not := map[string]bool{}
	for _, v := range r.Virtuals {
		not[v.Address] = not[v.Address] || v.Status != "ready" || v.Decided != ""
	}
	for _, v := range r.Virtuals {
		if !not[v.Address] && !slices.Contains(out, v.Address) {
			out = append(out, v.Address)
		}
	}
	return out
}

// prepare follows the first run. The second one, with files that are taken
// again, must ask nothing that the first did not.
func (b bigipLab) prepare(files string) (first, second result) {
	b.t.Helper()
	first = b.asks()
	b.follow(first.migration, "prepare")
	b.write(files)
	second = b.asks()
	for q := range second.questions() {
		if !first.questions()[q] {
			b.t.Errorf("the second run asks %s", q)
		}
	}
	return first, second
}

// TestLabMigrateKinds follows migrate literally beside a BIG-IP that goes on
// answering for all that it holds. What is ready is answered, no address has
// two owners, and the way back restores all.
func TestLabMigrateKinds(t *testing.T) {
	t.Parallel()
	b := newBIGIPLab(t, "kinds.conf")
	b.wantOwners(nil, "lb1", "before")
	const translation = "ltm snat-translation /Common/10.0.0.112 {\n"
	first, second := b.prepare(strings.Replace(b.conf, translation,
		translation+"    arp disabled\n", 1))
	for _, want := range []string{"/Common/npath direct-return", "/Common/on_self self-ip",
		"/Common/translated snat-translation", "/Common/announced route-advertised",
		"/Common/by_pool two-routers", "/Common/auto two-routers"} {
		if !first.questions()[want] {
			t.Errorf("does not ask %s: %v", want, first.questions())
		}
	}
	ready := second.ready()
	if want := []string{"10.0.0.111", "10.0.0.112", "10.0.1.110", "10.0.1.111",
		"2001:db8:1::110"}; !slices.Equal(ready, want) {
		t.Fatalf("ready: %v, want %v\n%v", ready, want, second.Virtuals)
	}
	b.meet()
	b.follow(second.migration, "cut-over")
	b.wantOwners(ready, "lb1", "after")
	b.wantAnswered("client", ready)
	b.wantAnswered("lan", ready)
	b.wantAnswered("client2", []string{"10.0.1.110", "10.0.1.111"}) // by the second router
	b.follow(second.migration, "roll-back")
	b.follow(first.migration, "roll-back")
	b.wantOwners(nil, "lb1", "after the way back")
}

// TestLabMigratePair follows migrate beside a pair of which the other unit
// takes over in the end.
func TestLabMigratePair(t *testing.T) {
	t.Parallel()
	b := newBIGIPLab(t, "pair.conf")
	b.wantOwners(nil, "lb1", "before")
	first, second := b.prepare(b.conf)
	if !first.questions()["/Common/dmz_0 route-missing"] {
		t.Errorf("does not ask for the partners' route: %v", first.questions())
	}
	ready := second.ready()
	if len(ready) != 20 || !second.finds("ha-pair /Common/pair") {
		t.Fatalf("%d addresses are ready of 20: %v\n%v", len(ready), second.Virtuals,
			second.Findings)
	}
	b.meet()
	b.follow(second.migration, "cut-over")
	b.wantOwners(ready, "lb1", "after")
	b.wantAnswered("client", ready)
	b.wantAnswered("lan", ready)
	b.wantAnswered("client2", []string{"10.0.1.110", "10.0.1.114"}) // a partner
	b.sh("tmsh failover")
	b.wantOwners(ready, "lb2", "after a failover")
	b.wantAnswered("client", ready)
	b.follow(second.migration, "roll-back")
	b.follow(first.migration, "roll-back")
	if out := b.host("ip route show 192.0.2.0/24 table main"); out != "" {
		t.Errorf("the partners' route is left: %s", out)
	}
	b.wantOwners(nil, "lb2", "after the way back")
	b.sh("tmsh failover")
	b.wantOwners(nil, "lb1", "after a failover back")
}
