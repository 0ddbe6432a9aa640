package main_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"github.com/google/go-cmp/cmp"
)

// kinds is a host whose uplinks are a NIC, a VLAN, a bond and a WireGuard
// tunnel, each with a default of main and a VIP; a VIP on a dummy; and a VRF
// with a NIC and a default of its own. A real NGINX answers on all of them. The
// router forwards a reply only by the link that leads back to its client.
type kinds struct {
	*nstest.Street
	t    *testing.T
	conf string
}

// kindOf are the addresses that NGINX listens on, by the kind of their links.
// The dummy's is in the VLAN's subnet.
var kindOf = map[string][]string{"nic": {"10.7.0.10", "2001:db8::10"},
	"vlan":      {"10.8.20.100", "2001:db8:20::100"},
	"bond":      {"10.8.30.100", "2001:db8:30::100"},
	"dummy":     {"10.8.20.200"},
	"wireguard": {"10.8.50.100", "2001:db8:50::100"},
	"vrf-off":   {"10.8.40.100", "2001:db8:40::100"}}

// kindVIPs are all of them.
var kindVIPs = slices.Sorted(func(yield func(string) bool) {
	for _, vips := range kindOf {
		for _, v := range vips {
			if !yield(v) {
				return
			}
		}
	}
})

func newKinds(t *testing.T) *kinds {
	t.Helper()
	for _, program := range []string{"nginx", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	k := &kinds{Street: nstest.NewStreet(t), t: t,
		conf: filepath.Join(t.TempDir(), "nginx.conf")}
	for i, port := range []string{"eth2", "eth3", "eth4"} {
		k.Cable(k.Router, fmt.Sprint("r", 2+i), k.Host, port)
	}
	for _, line := range strings.Split(strings.TrimSpace(kindLines), "\n") {
		where, args, _ := strings.Cut(line, " ")
		k.do(map[string]*nstest.NS{"host": k.Host, "router": k.Router}[where], args)
	}
	nstest.WireGuard(t, "wg0", nstest.Peer{NS: k.Router, Addr: "10.7.0.1"},
		nstest.Peer{NS: k.Host, Addr: "10.7.0.10"})
	k.Router.Run("nft", "-f", "../../testdata/lab/reverse-path6.nft")
	k.Router.Run("sh", "-c",
		"for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done")
	return k
}

const kindLines = `
host link add link eth1 name eth1.20 type vlan id 20
host link add bond0 type bond mode active-backup miimon 100
host link add dummy0 type dummy
host link add blue type vrf table 10
router link add link r1 name r1.20 type vlan id 20
router link add sw0 type bridge
host addr flush dev eth1
host link set eth2 down
host link set eth3 down
host link set eth2 master bond0
host link set eth3 master bond0
host link set eth4 master blue
host link set eth1.20 up
host link set bond0 up
host link set dummy0 up
host link set blue up
router link set r2 master sw0
router link set r3 master sw0
router link set r1.20 up
router link set sw0 up
host addr add 10.8.20.100/24 dev eth1.20
host addr add 2001:db8:20::100/64 dev eth1.20 nodad
host addr add fe80::10/64 dev eth1.20 nodad
host addr add 10.8.20.200/32 dev dummy0
host addr add 10.8.30.100/24 dev bond0
host addr add 2001:db8:30::100/64 dev bond0 nodad
host addr add fe80::10/64 dev bond0 nodad
host addr add 10.8.40.100/24 dev eth4
host addr add 2001:db8:40::100/64 dev eth4 nodad
host addr add fe80::10/64 dev eth4 nodad
router addr add 10.8.20.1/24 dev r1.20
router addr add 2001:db8:20::1/64 dev r1.20 nodad
router addr add fe80::1:3/64 dev r1.20 nodad
router addr add 10.8.30.1/24 dev sw0
router addr add 2001:db8:30::1/64 dev sw0 nodad
router addr add fe80::1:4/64 dev sw0 nodad
router addr add 10.8.40.1/24 dev r4
router addr add 2001:db8:40::1/64 dev r4 nodad
router addr add fe80::1:5/64 dev r4 nodad
host route add default via 10.8.20.1 metric 101
host -6 route add default via 2001:db8:20::1 metric 1101
host route add default via 10.8.30.1 metric 102
host -6 route add default via 2001:db8:30::1 metric 1102
host link add wg0 type wireguard
router link add wg0 type wireguard
host link set wg0 up
router link set wg0 up
host addr add 10.8.50.100/24 dev wg0
host addr add 2001:db8:50::100/64 dev wg0
router addr add 10.8.50.1/24 dev wg0
router addr add 2001:db8:50::1/64 dev wg0
host route add default via 10.8.50.1 metric 103
host -6 route add default via 2001:db8:50::1 metric 1103
host route add default via 10.8.40.1 table 10
host -6 route add default via 2001:db8:40::1 table 10
`

// do runs an `ip` command. It skips the test if the kernel lacks the kind of
// link.
func (k *kinds) do(n *nstest.NS, args string) {
	k.t.Helper()
	out, err := n.Command(append([]string{"ip"}, strings.Fields(args)...)...).CombinedOutput()
	if strings.Contains(string(out), "Unknown device type") {
		k.t.Skipf("this kernel has no such links: ip %s", args)
	}
	if err != nil {
		k.t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// nginx starts a real NGINX. Its answer names the address that was asked. It
// takes connections of the VRF, too.
func (k *kinds) nginx() {
	k.t.Helper()
	dir := filepath.Dir(k.conf)
	text := fmt.Sprintf("daemon off;\nuser root;\npid %s/pid;\nerror_log stderr;\nevents {}\n"+
		"http {\n\taccess_log off;\n", dir)
	for i, temp := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += fmt.Sprintf("\t%s_temp_path %s/%d;\n", temp, dir, i)
	}
	for _, v := range kindVIPs {
		text += fmt.Sprintf("\tserver { listen %s; return 200 $server_addr; }\n", target(v))
	}
	if err := os.WriteFile(k.conf, []byte(text+"}\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.Host.Sysctl("net.ipv4.tcp_l3mdev_accept=1")
	k.Host.Sysctl("net.ipv4.ip_nonlocal_bind=1")
	k.Host.Sysctl("net.ipv6.ip_nonlocal_bind=1")
	c := k.Host.Command("nginx", "-p", dir, "-c", k.conf)
	var stderr nstest.Log
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	})
	for end := time.Now().Add(nstest.Patience(10 * time.Second)); time.Now().Before(end); {
		if strings.Count(k.Host.Run("ss", "-Hltn", "sport = 80"), "\n") == len(kindVIPs) {
			return
		}
	}
	k.t.Fatalf("nginx does not listen: %s", stderr.String())
}

func target(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:80"
	}
	return addr + ":80"
}

// answers asks every VIP from the client, and returns those that answer.
func (k *kinds) answers() (answered []string) {
	k.t.Helper()
	said := make([]string, len(kindVIPs))
	var all sync.WaitGroup
	for i, v := range kindVIPs {
		all.Go(func() {
			k.Client.Do(func() { said[i] = bodyOf(target(v)) })
		})
	}
	all.Wait()
	for i, v := range kindVIPs {
		if said[i] == v {
			answered = append(answered, v)
		}
	}
	return answered
}

// bodyOf returns the body of the answer of an NGINX, "" for none.
func bodyOf(addr string) string {
	patience := nstest.Patience(2 * time.Second)
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	b, _ := io.ReadAll(c)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return body
}

// lasthop runs a command of the program on the host, for its exit status.
func (k *kinds) lasthop(exit int, args ...string) string {
	k.t.Helper()
	line := append([]string{"lasthop"}, args...)
	line = append(line, "--config", "", "--run-dir", filepath.Join(filepath.Dir(k.conf), "run"))
	if args[0] != "clear" {
		line = append(line, "-c", k.conf)
	}
	c := k.Host.Command(line...)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		k.t.Fatal(err)
	}
	if got := c.ProcessState.ExitCode(); got != exit {
		k.t.Errorf("lasthop %s: exit status %d, want %d\n%s", strings.Join(args, " "),
			got, exit, out)
	}
	return string(out)
}

// snapshot is the host's rules, routes and links, without what changes by
// itself; of the VRF alone with its name.
func (k *kinds) snapshot() (whole, vrf string) {
	timers := regexp.MustCompile(` expires -?[0-9]+sec`)
	var lines, inside []string
	for _, args := range []string{"-N -d rule", "-N -6 -d rule", "-N route show table all",
		"-N -6 route show table all", "-o -d link"} {
		for line := range strings.Lines(timers.ReplaceAllString(k.Host.IP(args), "")) {
			lines = append(lines, line)
			if strings.Contains(line, "eth4") || strings.Contains(line, "blue") ||
				strings.Contains(line, "l3mdev") {
				inside = append(inside, line)
			}
		}
	}
	return strings.Join(lines, ""), strings.Join(inside, "")
}

// TestKinds: with uplinks of kinds that not every kernel has, apply lets every
// VIP answer through a router that is strict, check agrees, a second apply
// finds nothing to do, and clear leaves everything as before. A VRF is off, and
// nothing of it is touched.
func TestKinds(t *testing.T) {
	t.Parallel()
	k := newKinds(t)
	k.nginx()
	before, vrf := k.snapshot()
	own := slices.Sorted(slices.Values(slices.Concat(kindOf["nic"], kindOf["vrf-off"])))
	if d := cmp.Diff(own, k.answers()); d != "" {
		t.Fatalf("before: answers -want +got\n%s", d)
	}
	plan := k.lasthop(0, "plan")
	k.lasthop(2, "check")
	k.lasthop(0, "apply")
	answers := k.answers()
	for kind, vips := range kindOf {
		t.Run("uplink/"+kind, func(t *testing.T) {
			for _, v := range vips {
				if !slices.Contains(answers, v) {
					t.Errorf("after apply %s does not answer\n%s", v, plan)
				}
			}
		})
	}
	k.lasthop(0, "check")
	applied, inside := k.snapshot()
	if d := cmp.Diff(vrf, inside); d != "" {
		t.Errorf("the VRF was touched: -before +after\n%s", d)
	}
	k.lasthop(0, "apply")
	if again, _ := k.snapshot(); again != applied {
		t.Errorf("the second apply writes: %s", cmp.Diff(applied, again))
	}
	k.lasthop(0, "clear")
	if after, _ := k.snapshot(); after != before {
		t.Errorf("clear leaves: -before +after\n%s", cmp.Diff(before, after))
	}
	if d := cmp.Diff(own, k.answers()); d != "" {
		t.Errorf("after clear: answers -want +got\n%s", d)
	}
}
