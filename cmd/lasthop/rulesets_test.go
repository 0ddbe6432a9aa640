package main_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forwardingHost is the host of an NGINX with a machine behind it whose
// addresses are in eth1's subnets, and routerOf its router on eth0 and eth1,
// which takes nothing from that machine by eth1.
const (
	forwardingHost = `
link set eth0 up
link set eth1 up
link set vm0 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.100/24 dev eth1
addr add 2001:db8::10/64 dev eth0
addr add 2001:db8:1::100/64 dev eth1
addr add fe80::1/64 dev vm0
route add default via 10.0.0.1
route add default via 2001:db8::1
route add 10.0.1.50 dev vm0
route add 2001:db8:1::50 dev vm0
`
	routerOf = `
link set p0 up
link set p1 up
addr add 10.0.0.1/24 dev p0
addr add 10.0.1.1/24 dev p1
addr add 198.51.100.2/32 dev lo
addr add 2001:db8::1/64 dev p0
addr add 2001:db8:1::1/64 dev p1
addr add 2001:db8:ffff::2/128 dev lo
route add 10.0.1.50 via 10.0.0.10
route add 2001:db8:1::50 via 2001:db8::10
`
	machine = `
link set eth0 up
addr add 10.0.1.50/32 dev eth0
addr add 2001:db8:1::50/128 dev eth0
route add default via 10.0.1.100 dev eth0 onlink
route add default via fe80::1 dev eth0
`
	strictRouter = `table inet fw { chain prerouting {
	type filter hook prerouting priority raw;
	iifname p1 ip saddr 10.0.1.50 drop; iifname p1 ip6 saddr 2001:db8:1::50 drop; }; }`
	filterTable = `flush ruleset; table inet fw {
	chain prerouting { type filter hook prerouting priority raw; };
	chain forward { type filter hook forward priority filter; }; }; `
)

// behind are the machine's addresses, each with a client of its family.
var behind = map[string]string{"198.51.100.2": "10.0.1.50",
	"2001:db8:ffff::2": "2001:db8:1::50"}

// TestForwardedStay: a client of a machine behind this host is answered, by the
// machine or by this host in its place, although the packet filter looks up
// what is forwarded, and listeners are in the machine's subnets. A wide cover,
// of when there was no such rule, loses it until lasthop looks again.
func TestForwardedStay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, rule string }{
		{"fib", "add rule inet fw prerouting fib saddr . iif oif missing drop"},
		{"reset", "add rule inet fw forward meta l4proto tcp reject with tcp reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, router := forwardingWorld(t)
			filter := func(rule string) { c.Run("nft", filterTable+rule) }
			apply := func() { c.succeed(t, "apply", "--run-dir", c.dir) }
			want := func(when string, answered bool) {
				t.Helper()
				for client, vm := range behind {
					if got := refuses(router, client, vm); got != answered {
						t.Errorf("%s: %s answered: %t, want %t",
							when, vm, got, answered)
					}
				}
			}
			filter(tt.rule)
			want("before", true)
			apply()
			want("after apply", true)
			if out := c.succeed(t, "plan"); !strings.Contains(out, "exact-cover") {
				t.Errorf("the plan does not say why:\n%s", out)
			}
			filter("")
			apply()
			want("without the rule", true)
			filter(tt.rule)
			want("with a wide cover", false)
			apply()
			want("looked again", true)
		})
	}
}

// forwardingWorld is a host that forwards, and its router.
func forwardingWorld(t *testing.T) (c *captured, router *namespace) {
	c = newCaptured(t, "events {}\nhttp { server { listen 10.0.1.100:80; "+
		"listen [2001:db8:1::100]:80; } }\n",
		"--gateway", "eth1=10.0.1.1", "--gateway", "eth1=2001:db8:1::1")
	router, vm := newNamespace(t), newNamespace(t)
	for _, ns := range []*namespace{c.namespace, router, vm} {
		ns.Sysctl("net.ipv6.conf.default.addr_gen_mode=0") // routers solicit from fe80::
	}
	c.IP("link add eth0 type veth peer name p0 netns " + router.Path)
	c.IP("link add eth1 type veth peer name p1 netns " + router.Path)
	c.IP("link add vm0 type veth peer name eth0 netns " + vm.Path)
	c.Batch(forwardingHost)
	router.Batch(routerOf)
	router.Run("nft", strictRouter)
	vm.Batch(machine)
	for _, ns := range []*namespace{c.namespace, router} {
		ns.Sysctl("net.ipv4.ip_forward=1")
		ns.Sysctl("net.ipv6.conf.all.forwarding=1")
	}
	return c, router
}

// succeed runs a command on the host and returns its standard output.
func (c *captured) succeed(t *testing.T, command ...string) string {
	t.Helper()
	out := runLasthop(append(command, c.args...)...)
	if strings.HasPrefix(out, "exit ") {
		t.Fatalf("lasthop %s: %s", strings.Join(command, " "), out)
	}
	return out
}

// refuses reports whether a connection to an address is refused, in one of
// three tries: the host behind it listens nowhere.
func refuses(from *namespace, client, addr string) (refused bool) {
	d := net.Dialer{Timeout: 400 * time.Millisecond,
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	for try := 0; try < 3 && !refused; try++ {
		from.Do(func() {
			conn, err := d.Dial("tcp", net.JoinHostPort(addr, "81"))
			if refused = errors.Is(err, unix.ECONNREFUSED); err == nil {
				conn.Close()
			}
		})
	}
	return refused
}

// A user that may not read the packet filter of a host that forwards gets a
// plan that says so, and no command that expects its digest.
func TestUnreadExpectsNothing(t *testing.T) {
	t.Parallel()
	c, _ := forwardingWorld(t)
	if out := c.succeed(t, "plan"); !strings.Contains(out, "--expect ") {
		t.Errorf("root's plan:\n%s", out)
	}
	doc := strings.ReplaceAll(c.succeed(t, "capture"), `"family": "inet"
  }`, `"family": "inet",
   "unread": "operation not permitted"
  }`)
	file := c.dir + "/host.json"
	if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	out := runLasthop("plan", "--host", file)
	if strings.Contains(out, "--expect") || !strings.Contains(out, "rulesets-unread") ||
		!strings.Contains(out, "from 10.0.1.100 iif lo") ||
		!strings.Contains(out, "from 2001:db8:1::/64 iif lo") {
		t.Errorf("a plan for IPv4's rules unread:\n%s", out)
	}
}
