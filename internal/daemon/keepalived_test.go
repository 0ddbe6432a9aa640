package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/internal/nstest"
	"lasthop/routing"
)

// vipPair is two NGINX hosts that share a VIP by keepalived, the router of
// their two segments, and a client behind it. The router is strict: a reply
// that comes by the other segment is dropped.
type vipPair struct {
	t              testing.TB
	router, client *nstest.NS
	hosts          map[string]*server
	keepalived     map[string]*exec.Cmd
}

const (
	vip      = "10.0.1.100"
	pairPort = 9000
)

const pairRouter = `
link add br0 type bridge
link add br1 type bridge mcast_snooping 0
link add a0 master br0 type veth peer name eth0 netns A
link add a1 master br1 type veth peer name eth1 netns A
link add b0 master br0 type veth peer name eth0 netns B
link add b1 master br1 type veth peer name eth1 netns B
link add cl type veth peer name eth0 netns CLIENT
addr add 10.0.0.1/24 dev br0
addr add 10.0.1.1/24 dev br1
addr add 192.0.2.1/24 dev cl
link set a0 up
link set a1 up
link set b0 up
link set b1 up
link set cl up
link set br0 up
link set br1 up
`

const pairHost = `
addr add 10.0.0.%[1]d/24 dev eth0
addr add 10.0.1.%[1]d/24 dev eth1
link set eth0 up
link set eth1 up
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
`

func newVIPPair(t testing.TB, vipLine string) *vipPair {
	t.Helper()
	need(t, "keepalived")
	need(t, "nft")
	p := &vipPair{t: t, router: nstest.New(t), client: nstest.New(t),
		keepalived: map[string]*exec.Cmd{},
		hosts:      map[string]*server{"a": bareServer(t), "b": bareServer(t)}}
	p.router.Batch(strings.NewReplacer("netns A", "netns "+p.hosts["a"].Path,
		"netns B", "netns "+p.hosts["b"].Path,
		"netns CLIENT", "netns "+p.client.Path).Replace(pairRouter))
	p.router.Sysctl("net.ipv4.ip_forward=1")
	for _, link := range []string{"br0", "br1"} {
		p.router.Sysctl("net.ipv4.conf." + link + ".rp_filter=1")
		// a gratuitous ARP counts immediately
		p.router.Sysctl("net.ipv4.neigh." + link + ".locktime=0")
	}
	p.client.Batch("addr add 192.0.2.10/24 dev eth0\nlink set eth0 up\n" +
		"route add default via 192.0.2.1\n")
	for n, name := range []string{"a", "b"} {
		s := p.hosts[name]
		s.Lines(fmt.Sprintf(pairHost, 11+n))
		s.Sysctl("net.ipv4.ip_nonlocal_bind=1")
		s.answer(name)
		s.StartNginx()
		p.writeKeepalived(name, 150-50*n, vipLine)
		p.count(name)
	}
	return p
}

// answer makes NGINX send its name to each client at the VIP, by TCP and UDP.
func (s *server) answer(name string) {
	s.t.Helper()
	need(s.t, "nginx")
	out, err := exec.Command("nginx", "-V").CombinedOutput()
	if err != nil {
		s.t.Fatalf("nginx -V: %v\n%s", err, out)
	}
	module := ""
	for word := range strings.FieldsSeq(string(out)) {
		if dir, ok := strings.CutPrefix(word, "--modules-path="); ok {
			module = filepath.Join(dir, "ngx_stream_module.so")
		}
	}
	load := ""
	if _, err := os.Stat(module); err == nil {
		load = "load_module " + module + ";\n"
	}
	s.Replace(fmt.Sprintf("%suser root;\n%sevents { worker_connections 64; }\nstream {\n"+
		"\tserver {\n\t\tlisten %s:%d;\n\t\tlisten %[3]s:%[4]d udp;\n"+
		"\t\treturn %[5]s;\n\t}\n}\n", load, s.Head(), vip, pairPort, name))
}

// writeKeepalived gives keepalived a rule and routes of its own in addition to
// the VIP, as nginx-ha-keepalived's users do.
func (p *vipPair) writeKeepalived(name string, priority int, vipLine string) {
	p.t.Helper()
	conf := fmt.Sprintf(`global_defs {
	router_id %s
	vrrp_version 3
}
vrrp_instance web {
	state BACKUP
	interface eth1
	virtual_router_id 51
	priority %d
	advert_int 0.2
	virtual_ipaddress {
		%s dev eth1
	}
	virtual_routes {
		default via 10.0.1.1 dev eth1 table 300
		198.51.100.0/24 via 10.0.1.1 dev eth1 table 300
	}
	virtual_rules {
		from %s to 198.51.100.0/24 lookup 300 priority 1000
	}
}
`, name, priority, vipLine, vip)
	if err := os.WriteFile(p.hosts[name].File("keepalived.conf"), []byte(conf),
		0o644); err != nil {
		p.t.Fatal(err)
	}
}

// startKeepalived starts keepalived on a host; it ends with the test, or with
// stopKeepalived.
func (p *vipPair) startKeepalived(name string) {
	p.t.Helper()
	s := p.hosts[name]
	log, err := os.OpenFile(s.File("keepalived.log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	args := []string{"keepalived", "-n", "-l", "-P", "-f", s.File("keepalived.conf"),
		"-p", s.File("keepalived.pid"), "-r", s.File("vrrp.pid")}
	// 2.3 does not start while another's file is locked, used or not
	usage, _ := exec.Command("keepalived", "--help").CombinedOutput()
	for _, other := range []string{"--checkers_pid", "--bfd_pid"} {
		if strings.Contains(string(usage), other) {
			args = append(args, other+"="+s.File(other[2:]))
		}
	}
	c := s.Command(args...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.keepalived[name] = c
	p.t.Cleanup(func() { p.stopKeepalived(name) })
}

// stopKeepalived ends keepalived as its unit would: it gives the VIP up.
func (p *vipPair) stopKeepalived(name string) {
	p.t.Helper()
	c := p.keepalived[name]
	if c == nil {
		return
	}
	p.keepalived[name] = nil
	_ = c.Process.Signal(syscall.SIGTERM)
	err := c.Wait()
	if data, _ := os.ReadFile(p.hosts[name].File("keepalived.log")); err != nil ||
		p.t.Failed() {
		p.t.Logf("keepalived of %s: %v\n%s", name, err, data)
	}
}

// count starts to count what leaves a host, from zero.
func (p *vipPair) count(name string) {
	p.t.Helper()
	p.hosts[name].Run("nft", "-f", "../../testdata/lab/count.nft")
}

// left returns how many packets from the VIP have left a host by a link.
func (p *vipPair) left(name, link string) int {
	p.t.Helper()
	var doc struct {
		Nftables []struct {
			Set struct {
				Elem []struct {
					Elem struct {
						Val     struct{ Concat []string }
						Counter struct{ Packets int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(p.hosts[name].Run("nft", "-j", "list", "set", "inet",
		"replies", "left4")), &doc); err != nil {
		p.t.Fatal(err)
	}
	n := 0
	for _, o := range doc.Nftables {
		for _, e := range o.Set.Elem {
			if c := e.Elem.Val.Concat; len(c) == 3 && c[0] == link && c[1] == vip {
				n += e.Elem.Counter.Packets
			}
		}
	}
	return n
}

// written returns the rules and routes of keepalived on a host.
func (p *vipPair) written(name string) string {
	p.t.Helper()
	var out strings.Builder
	for line := range strings.Lines(p.hosts[name].Run("ip", "-d", "-N", "rule")) {
		if strings.HasSuffix(strings.TrimSpace(line), "proto 18") {
			out.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return out.String() + p.hosts[name].Run("ip", "-d", "-N", "route", "show", "table", "all",
		"proto", "18")
}

// hasVIP reports whether a host holds the VIP, with all that keepalived makes
// for it.
func (p *vipPair) hasVIP(name string) bool {
	p.t.Helper()
	held := strings.Contains(p.hosts[name].IP("-o -4 addr show dev eth1"), " "+vip+"/")
	return held && strings.Count(p.written(name), "\n") >= 3
}

// exchange asks at the VIP once, in the namespace of the thread, and returns
// the host that answered: "a", "b" or "".
func exchange(network string) string {
	c, err := net.DialTimeout(network, fmt.Sprintf("%s:%d", vip, pairPort),
		300*time.Millisecond)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if network == "udp" {
		_, _ = c.Write([]byte("?"))
	}
	answer := make([]byte, 1)
	n, _ := c.Read(answer)
	return string(answer[:n])
}

// vipLoad is a client that asks all the time.
type vipLoad struct {
	mu      sync.Mutex
	answers map[string]int // "tcp a", "udp " for those that got no answer
	stop    chan struct{}
	stopped chan struct{}
}

// ask starts the load. It ends with the test, or with end.
func (p *vipPair) ask() (l *vipLoad, end func()) {
	l = &vipLoad{answers: map[string]int{}, stop: make(chan struct{}),
		stopped: make(chan struct{})}
	go func() {
		defer close(l.stopped)
		p.client.Do(l.run)
	}()
	end = sync.OnceFunc(func() { close(l.stop); <-l.stopped })
	p.t.Cleanup(end)
	return l, end
}

func (l *vipLoad) run() {
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for range 6000 { // a minute
		for _, network := range []string{"tcp", "udp"} {
			who := exchange(network)
			l.mu.Lock()
			l.answers[network+" "+who]++
			l.mu.Unlock()
		}
		select {
		case <-l.stop:
			return
		case <-pause.C:
		}
	}
}

func (l *vipLoad) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[what]
}

// waitAnswers waits until a host has answered many more times, by TCP and UDP.
func (p *vipPair) waitAnswers(l *vipLoad, name string) {
	p.t.Helper()
	tcp, udp := l.count("tcp "+name), l.count("udp "+name)
	p.hosts[name].Until("answers of host "+name, func() bool {
		return l.count("tcp "+name) >= tcp+30 && l.count("udp "+name) >= udp+30
	})
}

// wantStatus wants the VIP's listeners, TCP and UDP, to have a status on a
// host.
func (p *vipPair) wantStatus(name string, want routing.Status) {
	p.t.Helper()
	var got []routing.Status
	statuses := func() []routing.Status {
		got = nil
		for _, o := range p.hosts[name].status().Plan.Outcomes {
			if o.Addr == netip.MustParseAddr(vip) {
				got = append(got, o.Status)
			}
		}
		return got
	}
	p.hosts[name].Until(fmt.Sprintf("the listeners of host %s to be %s", name, want),
		func() bool { return slices.Equal(statuses(), []routing.Status{want, want}) })
}

// master waits until the one host holds the VIP and the other does not.
func (p *vipPair) master(name string) {
	p.t.Helper()
	other := map[string]string{"a": "b", "b": "a"}[name]
	p.hosts[name].Until("the VIP on host "+name, func() bool {
		return p.hasVIP(name) && !p.hasVIP(other)
	})
}

// alone is what keepalived makes on each host as master, without lasthop. It
// also shows that the test can fail: without lasthop replies leave by the wrong
// link.
func (p *vipPair) alone() map[string]string {
	p.t.Helper()
	made := map[string]string{}
	p.startKeepalived("b")
	p.master("b")
	made["b"] = p.written("b")
	p.startKeepalived("a")
	p.master("a")
	made["a"] = p.written("a")
	who := ""
	p.client.Do(func() { who = exchange("udp") })
	if n := p.left("a", "eth0"); n == 0 || who != "" {
		p.t.Fatalf("without lasthop %d replies left by eth0, and the client was answered "+
			"by %q: nothing to see here", n, who)
	}
	return made
}

// TestLabKeepalived: two hosts with real keepalived and NGINX. The VIP moves
// between them under load; on both hosts no packet from the VIP ever leaves by
// the wrong link, neither daemon writes anything, and what is keepalived's is
// as keepalived alone makes it.
func TestLabKeepalived(t *testing.T) {
	for _, vipLine := range []string{vip + "/24", vip + "/32"} {
		t.Run(vipLine, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			failovers(t, newVIPPair(t, vipLine))
		})
	}
}

func failovers(t *testing.T, p *vipPair) {
	alone := p.alone()
	t.Logf("keepalived's own, on its own:\n%s", alone["b"])
	changes := map[string]int{}
	for _, name := range []string{"a", "b"} {
		p.hosts[name].start()
		changes[name] = p.hosts[name].quiet().Counts.Changes
		p.count(name)
	}
	load, end := p.ask()
	for _, step := range []struct {
		what, master, standby string
		do                    func()
	}{
		{"at first", "a", "b", func() {}},
		{"the master's keepalived ends", "b", "a", func() { p.stopKeepalived("a") }},
		{"it starts again", "a", "b", func() { p.startKeepalived("a") }},
		{"the master's cable is pulled", "b", "a", func() { p.router.IP("link set a1 down") }},
		{"it is put back", "a", "b", func() { p.router.IP("link set a1 up") }},
	} {
		lost := load.count("tcp ") + load.count("udp ")
		step.do()
		p.master(step.master)
		p.waitAnswers(load, step.master)
		p.wantStatus(step.master, routing.Ready)
		p.wantStatus(step.standby, routing.Armed)
		t.Logf("%s: %d requests unanswered on the way to host %s", step.what,
			load.count("tcp ")+load.count("udp ")-lost, step.master)
		for name, s := range p.hosts {
			if st := s.quiet(); st.Counts.Changes != changes[name] || !st.InSync {
				t.Errorf("%s: host %s made %d writes, want "+
					"none; in sync %t, last %v", step.what, name,
					st.Counts.Changes-changes[name], st.InSync, st.Last)
			}
		}
		if d := cmp.Diff(alone[step.master], p.written(step.master)); d != "" {
			t.Errorf("%s: keepalived's own objects: -alone +with lasthop\n%s",
				step.what, d)
		}
		if got := p.written(step.standby); got != "" {
			t.Errorf("%s: keepalived's objects on standby: %s", step.what, got)
		}
	}
	end()
	for name := range p.hosts {
		if wrong, right := p.left(name, "eth0"), p.left(name, "eth1"); wrong != 0 ||
			right == 0 {
			t.Errorf("host %s: %d packets from the VIP left by "+
				"eth0, want 0, and %d by eth1", name, wrong, right)
		} else {
			t.Logf("host %s: all %d packets from the VIP left by eth1", name, right)
		}
	}
}
