package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// labTMSH is the BIG-IP's side: what the page and the steps tell tmsh. Each
// unit holds an address as long as anything of its configuration answers for
// it; the active one announces it and answers. `failover` makes the other unit
// the active one, and `silent` stops all announcements.
const labTMSH = `set -eu
dir=/run/lab/bigip; mkdir -p $dir; [ -e $dir/active ] || echo lb1 >$dir/active
unit=${UNIT:-lb1} ns=${UNIT:-lb1} conf=$disk/config/bigip.conf
at() { nsenter --net=/run/netns/$ns -- "$@"; }
hold() { # what this unit answers for; its part in route domain 1 has a namespace
	ip=${1%\%*} ns=$unit
	[ $ip = $1 ] || ns=${unit}rd1
	[ -e /run/netns/$ns ] || return 0
	case $ip in
	10.0.1.*|2001:db8:1:*) link=net1;;
	10.0.2.*|2001:db8:2:*) link=net2;;
	*) link=net0;;
	esac
	if [ $unit = $(cat $dir/active) ] && [ -n "$(ls $dir/$unit/$1 2>/dev/null)" ]; then
		at ip address replace $ip dev $link
		[ ! -e $dir/silent ] || return 0
		mac=$(at ip -o link show dev $link | sed 's/.*ether \([0-9a-f:]*\).*/\1/')
		at ip link set dev $link address $mac # announces it
	else
		at ip address del $ip dev $link 2>/dev/null || :
	fi
}
case "$*" in
silent) : >$dir/silent; exit;;
failover)
	[ $(cat $dir/active) = lb1 ] && echo lb2 >$dir/active || echo lb1 >$dir/active
	for unit in lb1 lb2; do for a in $(ls $dir/$unit 2>/dev/null); do hold $a; done; done
	exit;;
"save sys ucs "*) mkdir -p $disk${4%/*}; tar czf $disk$4 -C $disk config; exit;;
"save sys config") : >$dir/saved; exit;;
"list sys db "*) printf 'sys db %s {\n    value "enable"\n}\n' "$4"; exit;;
"list ltm virtual-address") sed -n '/^ltm virtual-address/,/^}/p' $conf; exit;;
"show net arp") at ip -4 neigh show | awk '{print $1, $1, $5, "/Common/" $3}'; exit;;
"show net ndp") at ip -6 neigh show | awk '{print $1, $1, $5, "/Common/" $3}'; exit;;
"show cm traffic-group") echo "traffic-group-1 $(cat $dir/active) active"; exit;;
"modify ltm virtual-address "*|"modify ltm snat-translation "*) ;;
*) echo "tmsh: not understood: $*" >&2; exit 1;;
esac
kind=$3 name=$4 addr=${4##*/}; shift 4
mkdir -p $dir/$unit/$addr
case "$*" in
"arp disabled"*|"enabled no") rm -f $dir/$unit/$addr/$kind;;
"arp enabled"*|"enabled yes") : >$dir/$unit/$addr/$kind;;
*) exit 1;;
esac
sed -i "\|^ltm $kind $name {|,/^}/{/^    \(arp\|enabled\) /d}" $conf
while [ $# -gt 1 ]; do sed -i "s|^ltm $kind $name {|&\n    $1 $2|" $conf; shift 2; done
hold $addr`

// labTCPDump is tcpdump on the BIG-IP.
const labTCPDump = `PATH=/usr/bin:/usr/sbin:/bin:/sbin
exec nsenter --net=/run/netns/${UNIT:-lb1} -- tcpdump "$@"`

// units are the namespaces of the BIG-IP's units.
var units = []string{"lb1", "lb2"}

// bigipLab is a lab with the units of a BIG-IP in each VLAN, and a second
// router with a client of its own in one.
type bigipLab struct {
	migrating
	addrs []string // the BIG-IP's
}

// newBIGIPLab raises it with a configuration of testdata/lab/migrate. The host
// has none of the BIG-IP's addresses.
func newBIGIPLab(t *testing.T, g *guide, name string) bigipLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the mode last-hop needs root")
	}
	name = "../../testdata/lab/migrate/" + name
	conf, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b := bigipLab{migrating: newMigrating(newLab(t), t, g, name, units...)}
	b.serve = "listen 10.0.0.100:80;"
	b.wire()
	var held strings.Builder
	for _, m := range regexp.MustCompile(`(?m)^ltm (virtual-address|snat-translation) `+
		`(\S+/(\S+))`).FindAllStringSubmatch(string(conf), -1) {
		if m[1] == "virtual-address" {
			b.addrs = append(b.addrs, m[3])
		}
		for _, unit := range units {
			fmt.Fprintf(&held, "UNIT=%s tmsh modify ltm %s %s arp enabled\n",
				unit, m[1], m[2])
		}
	}
	b.sh(held.String())
	b.sh("mount -t bpf bpf /sys/fs/bpf") // in the lab's own mount namespace
	return b
}

// wire adds the second router, which lets only sessions of its client pass, and
// takes the addresses from the host that it has on eth0.
func (b bigipLab) wire() {
	for _, ns := range []string{"fw2", "client2"} {
		b.do("namespace", ns)
	}
	b.do("plug", "fw2", "lan1", "1")
	b.do("cable", "client2", "eth0", "fw2", "wan")
	for n := range 3 {
		b.ip("host addr del 10.0.%d.100/24 dev eth%[1]d", n)
		b.ip("host addr del 2001:db8:%d::100/64 dev eth%[1]d", n)
	}
	for _, line := range []string{
		"fw2 addr add 10.0.1.3/24 dev lan1", "fw2 addr add 192.0.2.1/24 dev wan",
		"client2 addr add 192.0.2.2/24 dev eth0",
		"client2 route add default via 192.0.2.1",
		"lb1 route add 192.0.2.0/24 via 10.0.1.3 dev net1 table 102",
		"lb2 route add 192.0.2.0/24 via 10.0.1.3 dev net1 table 102"} {
		b.ip("%s", line)
	}
	b.do("at", "fw2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
	b.do("at", "fw2", "nft", "add table ip f; add chain ip f forward "+
		"{ type filter hook forward priority 0; policy drop; }; "+
		"add rule ip f forward iifname wan accept; "+
		"add rule ip f forward ct state established accept")
}

// ip runs ip in a namespace: "host addr add …".
func (b bigipLab) ip(format string, args ...any) {
	words := strings.Fields(fmt.Sprintf(format, args...))
	b.do(append([]string{"at", words[0], "ip"}, words[1:]...)...)
}

// owners returns the namespaces that have an address: those that answer for it.
func (b bigipLab) owners(addr string) (out []string) {
	for _, ns := range append([]string{"host"}, units...) {
		if strings.Contains(b.do("at", ns, "ip", "-o", "address", "show", "to", addr),
			addr) {
			out = append(out, ns)
		}
	}
	return out
}

// wantOwners wants the host to have those addresses, and the active unit all
// other addresses.
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

// wantPings wants each address to answer a ping of a client within less than
// the 5 s after which Linux asks again for the owner of an address: a router
// that has an old MAC address loses it.
func (b bigipLab) wantPings(from string, addrs []string, when string) {
	b.t.Helper()
	if lost := b.lost(from, addrs); len(lost) > 0 {
		b.t.Errorf("%s: %s gets no answer from %v", when, from, lost)
	}
}

func (b bigipLab) lost(from string, addrs []string) []string {
	b.t.Helper()
	return strings.Fields(b.do("at", from, "sh", "-c", "for a in "+
		strings.Join(addrs, " ")+"; do ping -n -c3 -i0.3 -W1 $a >/dev/null || "+
		"echo $a & done; wait"))
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
	Virtuals []row
}

type row struct {
	Virtual, Address, VLAN, Status, Reason, Decided string
	Also                                            []string
}

// asks runs migrate.
func (b bigipLab) asks() (r result) {
	b.t.Helper()
	b.guide.ran("lasthop migrate " + b.files) // in another format
	out := b.sh("lasthop migrate -o json " + b.files + " || [ $? = 2 ]")
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

// ready returns the addresses whose applicable rows are all ready, none by a
// decision.
func (r result) ready() (out []string) {
	not := map[string]bool{}
	served := slices.DeleteFunc(slices.Clone(r.Virtuals), func(v row) bool {
		return v.Status == "not-applicable"
	})
	for _, v := range served {
		not[v.Address] = not[v.Address] || v.Status != "ready" || v.Decided != ""
	}
	for _, v := range served {
		if !not[v.Address] && !slices.Contains(out, v.Address) {
			out = append(out, v.Address)
		}
	}
	return out
}

// prepare takes the files and follows the first run. The second one, with files
// that are taken again, must ask nothing that the first did not.
func (b bigipLab) prepare(first result) (second result) {
	b.t.Helper()
	b.follow(first.migration, "prepare")
	b.take()
	second = b.asks()
	for q := range second.questions() {
		if !first.questions()[q] {
			b.t.Errorf("the second run asks %s", q)
		}
	}
	return second
}

// find does what the steps say for an unknown router: requests show its MAC
// address, and a table of the BIG-IP, arp or ndp, its address. It returns that.
func (b bigipLab) find(first result, table, from, addr string) string {
	b.t.Helper()
	text := ""
	for _, s := range first.Steps {
		text += strings.Join(s.Notes, "\n") + "\n"
	}
	said := regexp.MustCompile(`(tcpdump -nnei \S+ -c 20) .*(tmsh show net ` + table + `)`).
		FindStringSubmatch(text)
	if said == nil {
		b.t.Fatalf("the steps do not say how to find a router: %s", text)
	}
	b.guide.ran(said[1:]...)
	out := b.sh("nsenter --net=/run/netns/" + from + " -- ping -n -i0.1 -c30 " + addr +
		" >/dev/null & " + said[1] + "; wait; " + said[2])
	mac := regexp.MustCompile(`(\S+) > \S+, .* > ` + addr + ": .*echo request").
		FindStringSubmatch(out)
	if mac == nil {
		b.t.Fatalf("tcpdump does not show a request:\n%s", out)
	}
	router := regexp.MustCompile(`(?m)^(?:10|2001)\S+ (\S+) ` + mac[1] + " ").
		FindStringSubmatch(out)
	if router == nil {
		b.t.Fatalf("%s has no %s:\n%s", said[2], mac[1], out)
	}
	return router[1]
}

// migrateKinds follows migrate literally while a BIG-IP goes on answering for
// all that it holds. What is ready is answered, no address has two owners, and
// the way back restores all, also if the BIG-IP does not announce it.
func migrateKinds(t *testing.T, g *guide) {
	b := newBIGIPLab(t, g, "kinds.conf")
	b.files = "config autolasthop.txt"
	b.wantOwners(nil, "lb1", "before")
	b.take()
	first := b.asks()
	second := b.prepare(first)
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
	b.wantPings("client", ready, "before")
	b.wantPings("client2", ready[2:4], "before")
	b.follow(second.migration, "cut-over")
	b.wantOwners(ready, "lb1", "after")
	b.verified(0)
	b.wantDuplicate(ready[2], ready[4])
	b.wantAnswered("client", ready)
	b.wantAnswered("lan", ready)
	b.wantAnswered("client2", ready[2:4]) // by the second router
	b.sh("tmsh silent")
	b.follow(second.migration, "roll-back")
	b.follow(first.migration, "roll-back")
	b.wantOwners(nil, "lb1", "after the way back")
	if lost := b.lost("client", ready[:4]); len(lost) != 4 {
		t.Errorf("routers with old MAC addresses lose %v", lost)
	}
	for _, router := range []string{"fw", "fw2"} { // as the steps say
		b.ip("%s neigh flush all", router)
	}
	b.wantPings("client", ready, "after the routers' entries are deleted")
	b.wantPings("client2", ready[2:4], "after the routers' entries are deleted")
}

// wantDuplicate leaves an address of each family on the BIG-IP, and wants both
// to be found.
func (b bigipLab) wantDuplicate(addrs ...string) {
	b.t.Helper()
	for _, addr := range addrs {
		b.ip("lb1 addr add %s dev net1", addr)
	}
	found := b.verified(2)
	for _, addr := range addrs {
		if !strings.Contains(found, "duplicate-address: "+addr) ||
			!strings.Contains(found, "BIG-IP, self IP") {
			b.t.Errorf("%s is on the BIG-IP, and is not found:\n%s", addr, found)
		}
		b.ip("lb1 addr del %s dev net1", addr)
	}
	for _, router := range []string{"fw", "fw2"} { // they may have taken its MAC address
		b.ip("%s neigh flush all", router)
	}
}

// migratePair follows migrate with a pair whose other unit takes over in the
// end.
func migratePair(t *testing.T, g *guide) {
	b := newBIGIPLab(t, g, "pair.conf")
	b.wantOwners(nil, "lb1", "before")
	for _, family := range []string{"-4", "-6"} {
		b.ip("host %s route del default dev eth2", family)
	}
	b.take()
	first := b.asks()
	b.known = map[string]string{"gateways: []  # add the router for IPv4 and IPv6, which " +
		"migrate cannot detect": fmt.Sprintf("gateways: [%q, %q]",
		b.find(first, "arp", "client", "10.0.2.110"),
		b.find(first, "ndp", "client", "2001:db8:2::112"))}
	second := b.prepare(first)
	if !first.questions()["/Common/dmz_0 route-missing"] {
		t.Errorf("does not ask for the partners' route: %v", first.questions())
	}
	ready := second.ready()
	if len(ready) != 20 || !second.finds("ha-pair /Common/pair") {
		t.Fatalf("%d addresses are ready of 20: %v\n%v", len(ready), second.Virtuals,
			second.Findings)
	}
	partners := []string{"10.0.1.110", "10.0.1.114"}
	b.wantPings("client", ready, "before")
	b.wantPings("client2", partners, "before")
	b.follow(second.migration, "cut-over")
	b.wantOwners(ready, "lb1", "after")
	b.wantAnswered("client", ready)
	b.wantAnswered("lan", ready)
	b.wantAnswered("client2", partners)
	b.sh("tmsh failover")
	b.wantOwners(ready, "lb2", "after a failover")
	b.wantAnswered("client", ready)
	b.person("tmsh save sys config")
	b.follow(second.migration, "roll-back")
	b.wantPings("client", ready, "at once after the way back")
	b.wantPings("client2", partners, "at once after the way back")
	b.follow(first.migration, "roll-back")
	if out := b.host("ip route show 192.0.2.0/24 table main"); out != "" {
		t.Errorf("the partners' route is left: %s", out)
	}
	b.wantOwners(nil, "lb2", "after the way back")
	b.sh("tmsh failover")
	b.wantOwners(nil, "lb1", "after a failover back")
}
