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

	"github.com/google/go-cmp/cmp"
)

// estate is a bigipLab with a firewall sandwich and a route domain more. The
// BIG-IP answers for all that it holds, each request to the router that it came
// from.
//
//	client ─┬─ fw ──┬─ net1 ── lb1, host       clientrd1 ── fwrd1 ── lb1rd1, host2
//	        └─ fw2 ─┘
//
// Route domain 1 has the addresses of route domain 0, on switches of its own.
// One namespace cannot have an address twice: lb1rd1 is the BIG-IP's part in
// it.
type estate struct {
	bigipLab
	second bigipLab // of host2
	waves  []*wave
}

// wave is a part of the virtual servers that moves, and what migrate says of
// it.
type wave struct {
	bigipLab
	moves       []string // as the BIG-IP names the addresses
	first, last result
}

func newEstate(t *testing.T, g *guide) *estate {
	t.Helper()
	e := &estate{bigipLab: newBIGIPLab(t, g, "estate.conf")}
	e.domain()
	e.sandwich()
	e.second = e.bigipLab
	e.second.ns, e.second.serve = "host2", "listen 10.0.0.10:80;"
	e.second.tools()
	e.second.nginx = e.startNGINX("host2", "10.0.0.10")
	for n := range 3 {
		e.ip("lb1 -4 rule del lookup %d", 101+n)
		e.ip("lb1 -6 rule del lookup %d", 101+n)
	}
	e.autoLastHop("lb1", e.in(""), 3)
	e.autoLastHop("lb1rd1", e.in("1"), 2)
	return e
}

// in returns the addresses of the BIG-IP in route domain 0 ("") or 1 ("1").
func (e *estate) in(domain string) (out []string) {
	for _, addr := range e.addrs {
		if plain, id, _ := strings.Cut(addr, "%"); id == domain {
			out = append(out, plain)
		}
	}
	return out
}

// sandwich gives the client a second firewall: the same client comes by either.
func (e *estate) sandwich() {
	e.do("cable", "client", "eth1", "fw2", "wan1")
	for _, line := range []string{"client addr add 203.0.113.2/30 dev eth1",
		"fw2 addr add 203.0.113.1/30 dev wan1",
		"fw2 route add 198.51.100.0/24 via 203.0.113.2"} {
		e.ip("%s", line)
	}
	e.do("at", "fw2", "nft", "add rule ip f forward iifname wan1 accept")
}

// domain raises route domain 1.
func (e *estate) domain() {
	for _, ns := range []string{"clientrd1", "fwrd1", "lb1rd1", "host2"} {
		e.do("namespace", ns)
	}
	e.do("cable", "clientrd1", "eth0", "fwrd1", "wan")
	for n := range 2 {
		e.ip("switch link add sw%d type bridge", 3+n)
		e.ip("switch link set sw%d up", 3+n)
		for _, x := range []struct{ ns, link, host string }{
			{"fwrd1", "lan", "1"}, {"lb1rd1", "net", "2"}, {"host2", "eth", "10"}} {
			link := fmt.Sprint(x.link, n)
			e.do("plug", x.ns, link, fmt.Sprint(3+n))
			e.ip("%s addr add 10.0.%d.%s/24 dev %s", x.ns, n, x.host, link)
			e.ip("%s addr add 2001:db8:%d::%s/64 dev %s nodad", x.ns, n, x.host, link)
		}
	}
	for _, line := range []string{"fwrd1 addr add 198.51.100.1/24 dev wan",
		"fwrd1 addr add 2001:db8:c::1/64 dev wan nodad",
		"clientrd1 addr add 198.51.100.2/24 dev eth0",
		"clientrd1 addr add 2001:db8:c::2/64 dev eth0 nodad",
		"clientrd1 route add default via 198.51.100.1",
		"clientrd1 route add default via 2001:db8:c::1",
		"host2 route add default via 10.0.0.1",
		"host2 route add default via 2001:db8:1::1"} {
		e.ip("%s", line)
	}
	e.do("at", "fwrd1", "sysctl", "-qw", "net.ipv4.ip_forward=1",
		"net.ipv6.conf.all.forwarding=1")
	e.do("at", "lb1rd1", "sysctl", "-qw", "net.ipv4.conf.all.arp_notify=1",
		"net.ipv6.conf.all.ndisc_notify=1")
	e.do("reverse_path", "fwrd1", "1")
	e.do("at", "fwrd1", "nft", "-f", filepath.Dir(e.lab.script)+"/stateful.nft")
	for _, addr := range e.addrs {
		if strings.Contains(addr, "%") {
			e.sh("tmsh modify ltm virtual-address /Common/" + addr + " arp enabled")
		}
	}
}

// startNGINX starts an NGINX that listens at addresses, also at those that are
// not there yet, and ends with the lab. It returns the directory of its files.
func (e *estate) startNGINX(ns string, addrs ...string) string {
	e.t.Helper()
	conf, err := os.ReadFile("../../testdata/lab/nginx.conf")
	if err != nil {
		e.t.Fatal(err)
	}
	listens := ""
	for _, addr := range addrs {
		if strings.Contains(addr, ":") {
			addr = "[" + addr + "]"
		}
		listens += "listen " + addr + ":80;\n"
	}
	http, _, _ := strings.Cut(string(conf), "\nstream {")
	http = regexp.MustCompile(` *listen .*;\n`).ReplaceAllString(http, "")
	http = strings.Replace(http, "return 200", listens+"return 200", 1)
	dir := e.t.TempDir()
	if err := os.WriteFile(dir+"/nginx.conf", []byte(http), 0o644); err != nil {
		e.t.Fatal(err)
	}
	e.do("at", ns, "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1",
		"net.ipv6.ip_nonlocal_bind=1")
	c := e.command("at", ns, "setpriv", "--pdeathsig", "TERM", "env", "NGINX="+dir,
		e.bin+"/nginx")
	if err := c.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	e.do("at", ns, "sh", "-c", "for try in $(seq 100); do ss -Hltn 'sport = 80' | grep . && "+
		"exit; sleep 0.05; done; cat "+dir+"/error.log >&2; exit 1")
	return dir
}

// autoLastHop lets a part of the BIG-IP answer for addresses, each request to
// the router that it came from. The programs have a bpffs of their own, as on
// another machine.
func (e *estate) autoLastHop(ns string, addrs []string, vlans int) {
	e.t.Helper()
	flags := ""
	for n := range vlans {
		flags += fmt.Sprintf(" --gateway net%[1]d=10.0.%[1]d.1 --return net%[1]d=last-hop "+
			"--gateway net%[1]d=2001:db8:%[1]d::1", n)
	}
	dir := e.startNGINX(ns, addrs...)
	e.do("at", ns, "unshare", "--mount", "sh", "-euc", "mount -t bpf bpf /sys/fs/bpf; "+
		e.lasthop+" apply --config '' -c "+dir+"/nginx.conf"+flags)
}

// owners returns the namespaces that have an address of the BIG-IP.
func (e *estate) owners(addr string) (out []string) {
	plain, _, other := strings.Cut(addr, "%")
	all := append([]string{"host"}, units...)
	if other {
		all = []string{"host2", "lb1rd1"}
	}
	for _, ns := range all {
		if e.do("at", ns, "ip", "-o", "address", "show", "to", plain) != "" {
			out = append(out, ns)
		}
	}
	return out
}

// wantServed wants each address to have one owner, the one that it has moved to
// or the BIG-IP, and each group of clients to be answered by all of its
// addresses.
func (e *estate) wantServed(when string) {
	e.t.Helper()
	e.t.Log(when)
	want, got := map[string][]string{}, map[string][]string{}
	for _, addr := range e.addrs {
		got[addr], want[addr] = e.owners(addr), []string{"lb1"}
		if strings.Contains(addr, "%") {
			want[addr] = []string{"lb1rd1"}
		}
	}
	for _, w := range e.waves {
		for _, addr := range w.moves {
			want[addr] = []string{w.ns}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		e.t.Errorf("%s: owners, -want +got\n%s", when, d)
	}
	inside := slices.DeleteFunc(e.in(""), func(addr string) bool {
		return !strings.HasPrefix(addr, "10.0.1.")
	})
	e.wantAnswered("client", e.in(""))
	e.wantAnswered("lan", e.in(""))
	e.wantAnswered("client2", inside)
	e.wantAnswered("clientrd1", e.in("1"))
	e.ip("client route add 10.0.1.0/24 via 203.0.113.1 src 198.51.100.2")
	e.wantAnswered("client", inside) // by the other firewall
	e.ip("client route del 10.0.1.0/24")
}

// move moves what flags take to a host, as migrate says, and wants that to be
// all of the addresses.
func (e *estate) move(host bigipLab, flags string, moves ...string) *wave {
	e.t.Helper()
	w := &wave{bigipLab: host, moves: moves}
	w.files = flags + " config autolasthop.txt"
	w.take()
	w.first = w.asks()
	w.last = w.prepare(w.first)
	var want []string
	for _, addr := range moves {
		plain, _, _ := strings.Cut(addr, "%")
		want = append(want, plain)
	}
	if d := cmp.Diff(want, w.last.ready()); d != "" {
		e.t.Fatalf("%s: ready, -want +got\n%s\n%v", flags, d, w.last.Virtuals)
	}
	w.follow(w.last.migration, "cut-over")
	e.waves = append(e.waves, w)
	e.wantServed("after " + flags)
	return w
}

// wantVerified asks the neighbours of a host about all that has moved to it. No
// other machine may have an address, but those that were left: address -> MAC
// and names. It returns the document.
func (e *estate) wantVerified(host bigipLab, flags string,
	left map[string]string) (v verification) {
	e.t.Helper()
	exit, want, got := 0, map[string]string{}, map[string]string{}
	for _, w := range e.waves {
		for _, addr := range w.moves {
			plain, _, _ := strings.Cut(addr, "%")
			if w.ns == host.ns {
				want[plain] = "here"
			}
		}
	}
	for addr, mac := range left {
		exit, want[addr] = 2, "duplicate "+mac
	}
	out := host.sh(fmt.Sprintf("code=0; lasthop migrate --verify -o json %s config "+
		"autolasthop.txt || code=$?; [ $code = %d ] || echo exit $code", flags, exit))
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		e.t.Errorf("%s, want exit status %d: %v\n%s", flags, exit, err, out)
	}
	for _, a := range v.Addresses {
		got[a.Address] = a.State
		for _, x := range a.Others {
			got[a.Address] += " " + x.MAC + ", " + strings.Join(x.Names, ", ")
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		e.t.Errorf("%s --verify: -want +got\n%s", flags, d)
	}
	return v
}

// wantDuplicate leaves an address enabled on the BIG-IP, and wants it to be
// found: the MAC, the self IPs that have it, and what to say to the BIG-IP.
func (e *estate) wantDuplicate(host bigipLab, flags, addr, link string, selfs ...string) {
	e.t.Helper()
	name := "tmsh modify ltm virtual-address /Common/" + addr + " arp "
	host.sh(name + "enabled enabled yes")
	owners := e.owners(addr)
	if len(owners) != 2 {
		e.t.Fatalf("%s is on %v", addr, owners)
	}
	mac := regexp.MustCompile(`link/ether (\S+)`).FindStringSubmatch(
		e.do("at", owners[1], "ip", "-o", "link", "show", link))
	plain, _, _ := strings.Cut(addr, "%")
	v := e.wantVerified(host, flags, map[string]string{plain: mac[1] + ", BIG-IP, self IP " +
		strings.Join(selfs, ", BIG-IP, self IP ")})
	if f := v.Findings; len(f) != 1 || f[0].Code != "duplicate-address" ||
		f[0].Subject != plain || !strings.Contains(f[0].Hint, name+"disabled enabled no") {
		e.t.Errorf("%s: findings: %+v", addr, f)
	}
	host.sh(name + "disabled enabled no")
	for _, router := range []string{"fw", "fw2", "fwrd1"} { // they may know its MAC
		e.ip("%s neigh flush all", router)
	}
}

// migrateEstate moves two route domains in three waves to two hosts. In each
// state all clients are answered, by whichever side holds the address; the
// proof after the move finds what is left behind.
func migrateEstate(t *testing.T, g *guide) {
	e := newEstate(t, g)
	e.wantServed("before")
	one := e.move(e.bigipLab, "--only '/Common/*_a' --only /Team/ --skip %1",
		"10.0.1.110", "10.0.0.110", "10.0.2.110", "2001:db8:2::110")
	two := e.move(e.bigipLab, "--only '/Common/*' --skip %1",
		"10.0.1.111", "2001:db8:1::110", "10.0.0.111")
	three := e.move(e.second, "--only %1",
		"10.0.1.110%1", "2001:db8:1::110%1", "10.0.0.110%1")
	const shared = "shared-by-waves SNAT pool /Common/nats"
	if !one.first.questions()["/Common/in_a two-routers"] || !one.last.finds(shared) ||
		two.last.finds(shared) ||
		!three.first.finds("gateway-from-big-ip VLAN /Common/one1, eth1, IPv4") {
		t.Errorf("what waves find: %v\n%v\n%v", one.first.Findings, two.last.Findings,
			three.first.Findings)
	}
	e.wantVerified(e.bigipLab, "--skip %1", nil)
	e.wantDuplicate(e.bigipLab, "--skip %1", "10.0.1.110", "net1",
		"10.0.1.2 /Common/net1_self", "2001:db8:1::2 /Common/net1_self6")
	e.wantVerified(e.second, "--only %1", nil)
	e.wantDuplicate(e.second, "--only %1", "10.0.0.110%1", "net0",
		"10.0.0.2 /Common/one0_self")
	e.wantServed("without the duplicates")
	for _, w := range slices.Backward(e.waves) {
		w.follow(w.last.migration, "roll-back")
		w.follow(w.first.migration, "roll-back")
	}
	e.waves = nil
	e.wantServed("after the way back")
}
