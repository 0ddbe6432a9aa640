package daemon

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
)

// twoRouters is a server on whose subnet are two routers, each the only way to
// a client of its own, 198.51.100.1 and .2; an address of the router itself is
// that client. The server's default is by the first.
type twoRouters struct {
	*server
	routers [2]*nstest.NS
	wires   *nstest.NS // the switch: port0 and port1 are those of the routers
	pins    string
}

func newTwoRouters(t *testing.T) *twoRouters {
	t.Helper()
	s := &twoRouters{server: bareServer(t), wires: nstest.New(t), pins: nstest.BPFFS(t)}
	control := s.control()
	if support := control.Support(nil); support.Missing != "" || !support.Known {
		t.Skipf("last-hop is not possible here: %+v", support)
	}
	s.wires.Batch("link add name sw0 type bridge\nlink set sw0 up")
	s.plug("host", s.NS, "eth1")
	for i := range s.routers {
		r := nstest.New(t)
		s.routers[i] = r
		s.plug(fmt.Sprint("port", i), r, "r0")
		r.IP(fmt.Sprintf("addr add 10.0.1.%d/24 dev r0", i+1))
		r.IP(fmt.Sprintf("addr add 198.51.100.%d/32 dev lo", i+1))
		r.Sysctl("net.ipv4.conf.all.arp_announce=2") // the client is not its neighbour
		r.IP("route add 203.0.113.0/24 via 10.0.1.100")
	}
	s.Lines("addr add 10.0.1.100/24 dev eth1\naddr add 203.0.113.80/32 dev eth1\n" +
		"addr add 203.0.113.81/32 dev eth1\nroute add default via 10.0.1.1\n")
	return s
}

// plug puts a link of a namespace on a port of the switch.
func (s *twoRouters) plug(port string, ns *nstest.NS, link string) {
	s.t.Helper()
	s.wires.IP(fmt.Sprintf("link add %s type veth peer name %s netns %s", port, link, ns.Path))
	s.wires.IP("link set " + port + " master sw0 up")
	ns.IP("link set " + link + " up")
}

func (s *twoRouters) control() *lasthop.Control {
	return &lasthop.Control{Stays: true, Flows: 4096,
		Place: lasthop.Place{Root: s.pins, Namespace: s.kernel.Inode()}}
}

// begin starts a daemon with the mode last-hop.
func (s *twoRouters) begin() {
	s.t.Helper()
	control := s.control()
	s.t.Cleanup(func() { control.Close() })
	s.start(func(o *Options) {
		o.LastHop = control
		o.Flags.Returns = []string{"eth1=last-hop", "203.0.113.80=last-hop",
			"203.0.113.81=last-hop"}
	})
}

// get asks NGINX from the client of a router.
func (s *twoRouters) get(router int, addr string) error {
	return askNginx(s.routers[router], fmt.Sprintf("198.51.100.%d", router+1), addr)
}

// askNginx asks NGINX from an address of a namespace.
func askNginx(ns *nstest.NS, from, addr string) error {
	var c net.Conn
	var err error
	ns.Do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
			Timeout: time.Second}
		c, err = d.Dial("tcp", addr+":80")
	})
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
		err = fmt.Errorf("answer %q", answer)
	}
	return err
}

// answered fails the test unless each router's client is answered.
func (s *twoRouters) answered(when, addr string) {
	s.t.Helper()
	for i := range s.routers {
		if err := s.get(i, addr); err != nil {
			s.t.Errorf("%s: the client of router %d: %v", when, i, err)
		}
	}
}

// TestRunLastHop: the clients of both routers are answered, whatever happens to
// the daemon, to its programs and to NGINX. Without the mode, those of the
// second are not.
func TestRunLastHop(t *testing.T) {
	t.Parallel()
	s := newTwoRouters(t)
	s.Conf("listen 203.0.113.80:80;")
	s.StartNginx()
	if s.get(0, "203.0.113.80") != nil || s.get(1, "203.0.113.80") == nil {
		t.Fatal("without the mode, the client of the first router alone is to be answered")
	}
	s.begin()
	s.answered("with the mode", "203.0.113.80")
	filters := s.host().Filters
	if len(filters) != 1 || !filters[0].Owned() {
		t.Fatalf("filters %v", filters)
	}

	s.Conf("listen 203.0.113.80:80; listen 203.0.113.81:80;")
	s.Reload()
	s.Until("the new listener", func() bool { return s.get(1, "203.0.113.81") == nil })

	changes := s.quiet().Counts.Changes
	s.Run("tc", "filter", "del", "dev", "eth1", "ingress")
	s.Until("the filter to be back", func() bool { return len(s.host().Filters) == 1 })
	s.answered("the filter is back", "203.0.113.80")
	if n := s.quiet().Counts.Changes; n != changes+1 {
		t.Errorf("%d changes put one filter back", n-changes)
	}

	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.answered("without a daemon", "203.0.113.80")
	s.begin()
	if n := s.quiet().Counts.Changes; n != 0 {
		t.Errorf("a daemon that starts again makes %d changes: %v", n, s.status().Last.Done)
	}
	if d := s.host().Filters; !slices.Equal(d, filters) {
		t.Errorf("filters %v, and before %v", d, filters)
	}
}

// TestRunLastHopLAN: a host of the subnet asks for a VIP on lo through a
// router, and takes replies from that router alone, as behind its firewall.
func TestRunLastHopLAN(t *testing.T) {
	t.Parallel()
	s := newTwoRouters(t)
	s.Lines("addr del 203.0.113.80/32 dev eth1\naddr add 203.0.113.80/32 dev lo\n")
	s.Conf("listen 203.0.113.80:80;")
	s.StartNginx()
	host, router := nstest.New(t), s.routers[1]
	s.plug("lan", host, "l0")
	host.IP("addr add 10.0.1.50/24 dev l0")
	host.IP("route add 203.0.113.0/24 via 10.0.1.2")
	router.Sysctl("net.ipv4.ip_forward=1")
	router.Sysctl("net.ipv4.conf.all.send_redirects=0")
	router.Sysctl("net.ipv4.conf.r0.send_redirects=0")
	mac := strings.Fields(router.Run("ip", "-br", "link", "show", "r0"))[2]
	for _, words := range []string{"add table inet fw",
		"add chain inet fw inbound { type filter hook input priority 0 ; }",
		"add rule inet fw inbound tcp sport 80 ether saddr != " + mac + " drop"} {
		host.Run("nft", words)
	}
	if askNginx(host, "10.0.1.50", "203.0.113.80") == nil {
		t.Fatal("without the mode, the reply is to come past the router")
	}
	s.begin()
	if err := askNginx(host, "10.0.1.50", "203.0.113.80"); err != nil {
		t.Error(err)
	}
}

// TestRunDeadRouter: connections of a router that has died take another, also
// after a restart, and their own again when it is back.
func TestRunDeadRouter(t *testing.T) {
	t.Parallel()
	s := newTwoRouters(t)
	s.Conf("listen 203.0.113.80:80;")
	s.StartNginx()
	s.begin()
	s.answered("at first", "203.0.113.80")
	dead := func() map[lasthop.Hop]lasthop.Hop {
		m, done, err := s.d.options.LastHop.Maps()
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		dead, err := m.Dead()
		if err != nil {
			t.Fatal(err)
		}
		return dead
	}
	s.Until("both to be known alive", func() bool {
		up := 0
		for _, n := range s.host().Neighs {
			if n.State == "REACHABLE" {
				up++
			}
		}
		return up == 2 && len(dead()) == 0
	})
	s.wires.IP("link set port1 down")
	s.Until("the second to be dead", func() bool { return len(dead()) == 1 })
	for _, instead := range dead() {
		if instead == (lasthop.Hop{}) {
			t.Error("nothing stands in for it, although the first router is alive")
		}
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.begin()
	s.Until("a look", func() bool { return s.status().LastHop != nil })
	if d := dead(); len(d) != 1 {
		t.Errorf("after a restart, dead are %v", d)
	}
	s.wires.IP("link set port1 up")
	s.answered("it is back", "203.0.113.80")
	s.Until("it to be alive again", func() bool { return len(dead()) == 0 })
	s.answered("at last", "203.0.113.80")
	s.IP("link set eth1 down")
	s.Until("both to be dead with their link", func() bool { return len(dead()) == 2 })
}

// TestRunLastHopMissing: if the programs are not available the mode is strict,
// and the daemon reports it.
func TestRunLastHopMissing(t *testing.T) {
	t.Parallel()
	s := newTwoRouters(t)
	s.Conf("listen 203.0.113.80:80;")
	s.start(func(o *Options) {
		o.LastHop = &lasthop.Control{Place: lasthop.Place{Root: "/nonexistent"}}
		o.Flags.Returns = []string{"203.0.113.80=last-hop"}
	})
	status := s.quiet()
	missing := func(f routing.Finding) bool { return f.Code == "no-bpf" }
	if !slices.ContainsFunc(status.Plan.Findings, missing) {
		t.Errorf("findings %v", status.Plan.Findings)
	}
	if status.Installed.Filters != nil {
		t.Errorf("installed %v", status.Installed)
	}
}
