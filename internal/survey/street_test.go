package survey

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/internal/settings"
	"lasthop/routing"
	"lasthop/routing/flow"
	"lasthop/routing/host"
)

// street is a host, a router, and a client behind the router, each in a
// namespace of its own:
//
//	client 198.51.100.2 --- router 10.7.0.1 --- eth0 10.7.0.10  host
//	                               10.7.1.1 --- eth1 10.7.1.10, 10.7.1.100
//
// and the same in IPv6: 2001:db8:c::2, 2001:db8:0::1, 2001:db8:1::1. The host's
// default is by eth0.
type street struct {
	t                    *testing.T
	host, router, client *nstest.NS
	listens              []string
	more                 settings.Flags
}

func newStreet(t *testing.T) *street {
	t.Helper()
	s := &street{t: t, host: nstest.New(t), router: nstest.New(t), client: nstest.New(t)}
	s.cable(s.router, "r0", s.host, "eth0")
	s.cable(s.router, "r1", s.host, "eth1")
	s.cable(s.router, "rc", s.client, "c0")
	s.router.Sysctl("net.ipv4.ip_forward=1")
	s.router.Sysctl("net.ipv6.conf.all.forwarding=1")
	s.batch(s.router, "addr add 10.7.0.1/24 dev r0", "addr add 10.7.1.1/24 dev r1",
		"addr add 198.51.100.1/24 dev rc", "addr add 2001:db8:0::1/64 dev r0 nodad",
		"addr add 2001:db8:1::1/64 dev r1 nodad", "addr add 2001:db8:c::1/64 dev rc nodad")
	s.batch(s.client, "addr add 198.51.100.2/24 dev c0", "addr add 198.51.100.3/24 dev c0",
		"addr add 2001:db8:c::2/64 dev c0 nodad", "route add default via 198.51.100.1",
		"-6 route add default via 2001:db8:c::1")
	s.batch(s.host, "addr add 10.7.0.10/24 dev eth0", "addr add 10.7.1.10/24 dev eth1",
		"addr add 10.7.1.100/24 dev eth1", "addr add 2001:db8:0::10/64 dev eth0 nodad",
		"addr add 2001:db8:1::10/64 dev eth1 nodad", "route add default via 10.7.0.1",
		"-6 route add default via 2001:db8:0::1")
	for i, link := range []string{"r0", "r1", "rc"} { // forwarding asks neighbours from fe80::
		s.router.IP(fmt.Sprintf("addr add fe80::1:%d/64 dev %s nodad", i, link))
	}
	s.batch(s.host, "addr add fe80::10/64 dev eth0 nodad",
		"addr add fe80::10/64 dev eth1 nodad")
	s.listens = []string{"10.7.0.10:80", "10.7.1.100:80", "[2001:db8:1::10]:80"}
	return s
}

// cable joins two namespaces.
func (s *street) cable(a *nstest.NS, nameA string, b *nstest.NS, nameB string) {
	s.t.Helper()
	a.IP(fmt.Sprintf("link add %s type veth peer name %s netns %s", nameA, nameB, b.Path))
	a.IP("link set " + nameA + " up")
	b.IP("link set " + nameB + " up")
}

func (s *street) batch(n *nstest.NS, lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		n.IP(line)
	}
}

// serve accepts TCP connections on an address of the host, and answers each
// with a line once it was asked.
func (s *street) serve(addr string) {
	s.t.Helper()
	var l net.Listener
	var err error
	s.host.Do(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
}

func answer(c net.Conn) {
	defer c.Close()
	b := make([]byte, 64)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
		if _, err := c.Write([]byte("hello\n")); err != nil {
			return
		}
	}
}

// ask opens a connection from a namespace, asks once, and closes it. Whether it
// is answered is for the packets to say.
func ask(n *nstest.NS, network, from, to string, patience time.Duration) {
	n.Do(func() {
		d := net.Dialer{Timeout: patience}
		if from != "" {
			ip := net.ParseIP(from)
			d.LocalAddr = &net.TCPAddr{IP: ip}
			if network == "udp" {
				d.LocalAddr = &net.UDPAddr{IP: ip}
			}
		}
		c, err := d.Dial(network, to)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte("GET\n"))
		_, _ = c.Read(make([]byte, 64))
	})
}

// knock asks several times at once, from several addresses.
func knock(n *nstest.NS, to string, times int, from ...string) func() {
	return func() {
		var all sync.WaitGroup
		for i := range times {
			all.Go(func() {
				source := ""
				if len(from) > 0 {
					source = from[i%len(from)]
				}
				ask(n, "tcp", source, to, 3*time.Second)
			})
		}
		all.Wait()
	}
}

// observe looks at the host while the traffic runs, until the ways are as
// wanted. It returns what was seen.
func (s *street) observe(want string, traffic ...func()) routing.Seen {
	s.t.Helper()
	survey := s.look()
	ctx, cancel := context.WithTimeout(context.Background(), nstest.Patience(8*time.Second))
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	begun := false
	var last string
	seen, err := survey.Observe(ctx, time.Hour, false, func(p flow.Progress) bool {
		if !begun { // now the socket is open
			begun = true
			for _, f := range traffic {
				all.Go(f)
			}
		}
		last = ways(routing.Judge(survey.Decision, p.Look()))
		return last == strings.TrimSpace(want)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if got := ways(seen); got != strings.TrimSpace(want) {
		s.t.Errorf("got\n%s\n-- want\n%s\n-- findings %v", got, strings.TrimSpace(want),
			seen.Findings)
	}
	return seen
}

// look surveys the host.
func (s *street) look() *Survey {
	s.t.Helper()
	k, err := host.Open(s.host.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(k.Close)
	conf := filepath.Join(s.t.TempDir(), "nginx.conf")
	text := "events {}\nhttp {\n"
	for _, l := range s.listens {
		text += "server { listen " + l + "; }\n"
	}
	if err := os.WriteFile(conf, []byte(text+"}\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	f := s.more
	f.Confs = []string{conf}
	survey, err := Live(k, s.host.Path, func(string) {}).Look(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return survey
}

// ways prints what was seen, a line for each way, without numbers.
func ways(s routing.Seen) string {
	var lines []string
	for _, l := range s.Listeners {
		for _, w := range l.Ways {
			out := w.Out.Name()
			if w.Out.Asked.IsValid() {
				out = fmt.Sprintf("asked for %s on %s", w.Out.Asked, w.Out.Link)
			}
			lines = append(lines, fmt.Sprintf("%s %s by %s -> %s: %s %s", l, w.Class,
				w.In.Name(), out, w.Verdict, w.Outcome))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// codes are the codes of findings with their severities.
func codes(s routing.Seen) string {
	var out []string
	for _, f := range s.Findings {
		out = append(out, string(f.Severity)+" "+string(f.Code))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}
