package bench

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const web, streaming = 80, 5001 // ports

// traffic is what a street sends in one family. Its sockets stay open while
// variants are installed and removed.
type traffic struct {
	*street
	family
	bound, connected []int // UDP, one for each VIP of the sample
	other            int   // UDP, from an address that is no VIP
	kept             []int // TCP to NGINX, one for each VIP of the sample
	near, far        int   // the ends of a TCP connection with a VIP
	nginx            int   // its process
	buffer           []byte
}

// measure is an action that costs processor time.
type measure struct {
	name string
	cost func(*traffic) float64 // ns each
}

var measures = []measure{
	{"UDP from a VIP", func(x *traffic) float64 { return x.sends(x.bound, x.sendTo) }},
	{"the same, connected", func(x *traffic) float64 { return x.sends(x.connected, x.send) }},
	{"UDP from another address", func(x *traffic) float64 {
		return x.sends([]int{x.other}, x.sendTo)
	}},
	{"new connection", (*traffic).connections},
	{"request, kept alive", (*traffic).requests},
	{"1 MiB to the client", func(x *traffic) float64 { return x.streams(x.near, x.far) }},
	{"1 MiB from the client", func(x *traffic) float64 { return x.streams(x.far, x.near) }},
}

// newTraffic opens the sockets.
func newTraffic(s *street, f family, nginx int) *traffic {
	s.t.Helper()
	x := &traffic{street: s, family: f, nginx: nginx, buffer: make([]byte, 128<<10)}
	s.host.Do(func() {
		for _, i := range s.sample() {
			x.bound = append(x.bound, x.socket(unix.SOCK_DGRAM, s.vip(f, i)))
			x.connected = append(x.connected, x.socket(unix.SOCK_DGRAM, s.vip(f, i)))
		}
		x.other = x.socket(unix.SOCK_DGRAM, f.own(0))
	})
	for _, fd := range x.connected {
		x.must("connect", unix.Connect(fd, socketAddr(f.hole, 9)))
	}
	for _, i := range s.sample() {
		x.kept = append(x.kept, x.dial(s.vip(f, i), web))
	}
	vip := s.vip(f, s.sample()[0])
	var listener int
	s.host.Do(func() {
		listener = x.socket(unix.SOCK_STREAM, vip, streaming)
		x.must("listen", unix.Listen(listener, 1))
	})
	x.far = x.dial(vip, streaming)
	fd, _, err := unix.Accept(listener)
	x.must("accept", err)
	x.near = fd
	s.t.Cleanup(func() { unix.Close(fd) })
	return x
}

// must panics with an error: t.Fatal may not be called on other threads.
func (x *traffic) must(what string, err error) {
	if err != nil {
		panic(fmt.Sprintf("%s: %s: %v", x.name, what, err))
	}
}

func socketAddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// socket opens a socket that is bound to an address, until the test ends.
func (x *traffic) socket(kind int, a netip.Addr, port ...int) int {
	fd := x.open(kind, a, port...)
	x.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func (x *traffic) open(kind int, a netip.Addr, port ...int) int {
	domain := unix.AF_INET
	if a.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	x.must("socket", err)
	// else the kernel takes a port that other connections could share
	x.must("bind", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
	x.must("bind", unix.Bind(fd, socketAddr(a, append(port, 0)[0])))
	return fd
}

// dial connects the client.
func (x *traffic) dial(to netip.Addr, port int) (fd int) {
	x.world.Do(func() { fd = x.socket(unix.SOCK_STREAM, x.client) })
	x.must("connect", unix.Connect(fd, socketAddr(to, port)))
	return fd
}

var datagram [18]byte

func (x *traffic) sendTo(fd int, hole unix.Sockaddr) { _ = unix.Sendto(fd, datagram[:], 0, hole) }

func (x *traffic) send(fd int, _ unix.Sockaddr) { _, _ = unix.Write(fd, datagram[:]) }

// sends returns the time of this thread for a datagram to the hole: the median
// of short runs for each socket, and the mean of these. The same thread does
// the receiving side's work.
func (x *traffic) sends(sockets []int, send func(int, unix.Sockaddr)) (mean float64) {
	const all, run = 6400, 50
	hole := socketAddr(x.hole, 9)
	for _, fd := range sockets {
		var costs []float64
		for range all / run / len(sockets) {
			before := threadTime()
			for range run {
				send(fd, hole)
			}
			costs = append(costs, float64(threadTime()-before)/run)
		}
		mean += median(costs) / float64(len(sockets))
	}
	return mean
}

// both returns the time of this thread and of NGINX for one call of f: the
// median of some runs of n calls.
func (x *traffic) both(n int, f func(i int)) float64 {
	var costs []float64
	for range 5 {
		before := threadTime() + x.nginxTime()
		for i := range n {
			f(i)
		}
		costs = append(costs, float64(threadTime()+x.nginxTime()-before)/float64(n))
	}
	return median(costs)
}

// connections opens connections, each for one request.
func (x *traffic) connections() (cost float64) {
	vips := x.sample()
	x.world.Do(func() {
		x.pin()
		cost = x.both(32, func(i int) {
			fd := x.open(unix.SOCK_STREAM, x.client)
			vip := x.vip(x.family, vips[i%len(vips)])
			x.must("connect", unix.Connect(fd, socketAddr(vip, web)))
			x.request(fd, "close")
			for n := 1; n > 0; {
				n, _ = unix.Read(fd, x.buffer)
			}
			unix.Close(fd)
		})
	})
	return cost
}

func (x *traffic) requests() float64 {
	return x.both(64, func(i int) { x.request(x.kept[i%len(x.kept)], "keep-alive") })
}

// request asks NGINX once.
func (x *traffic) request(fd int, connection string) {
	_, err := unix.Write(fd, []byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: "+connection+
		"\r\n\r\n"))
	x.must("write", err)
	n, err := unix.Read(fd, x.buffer)
	x.must("read", err)
	if n == 0 {
		x.must("read", fmt.Errorf("no answer"))
	}
}

// streams returns the time of both ends for 1 MiB of a bulk transfer: the
// median of some runs.
func (x *traffic) streams(from, to int) float64 {
	var costs []float64
	for range 5 {
		costs = append(costs, x.stream(from, to))
	}
	return median(costs)
}

func (x *traffic) stream(from, to int) float64 {
	const size = 8 // MiB
	sent := make(chan time.Duration)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		x.pin()
		before := threadTime()
		for left := size << 20; left > 0; {
			n, err := unix.Write(from, x.buffer[:min(left, len(x.buffer))])
			x.must("write", err)
			left -= n
		}
		sent <- threadTime() - before
	}()
	before, buffer := threadTime(), make([]byte, len(x.buffer))
	for left := size << 20; left > 0; {
		n, err := unix.Read(to, buffer)
		x.must("read", err)
		left -= n
	}
	return float64(threadTime()-before+<-sent) / size
}

// pin keeps this thread on the first processor that it may use.
func (x *traffic) pin() { x.must("pin", unix.SchedSetaffinity(0, firstCore())) }

func firstCore() *unix.CPUSet {
	var may, first unix.CPUSet
	_ = unix.SchedGetaffinity(os.Getpid(), &may)
	for i := range 1024 {
		if may.IsSet(i) {
			first.Set(i)
			break
		}
	}
	return &first
}

func threadTime() time.Duration { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

// nginxTime returns the processor time of NGINX: its process's clock, see
// clock_getcpuclockid(3).
func (x *traffic) nginxTime() time.Duration { return clock(int32(^x.nginx<<3 | 2)) }

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

const servingConf = `daemon off;
master_process off;
pid %[1]s/pid;
error_log /dev/null;
events {}
http {
	access_log off;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	client_body_temp_path %[1]s/1;
	proxy_temp_path %[1]s/2;
	fastcgi_temp_path %[1]s/3;
	uwsgi_temp_path %[1]s/4;
	scgi_temp_path %[1]s/5;
	server { listen 80; listen [::]:80; return 200; }
}
`

// nginx starts NGINX on the host and returns its process. It listens on all
// addresses with one socket, so that the number of addresses costs nothing.
func (s *street) nginx() int {
	s.t.Helper()
	conf := s.dir + "/serving.conf"
	s.write(conf, fmt.Sprintf(servingConf, s.dir))
	c := s.host.Command("nginx", "-p", s.dir, "-c", conf)
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if _, err := os.Stat(s.dir + "/pid"); err == nil { // it listens
			return c.Process.Pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("NGINX does not start")
	return 0
}

// astray returns the VIPs of the sample whose datagrams do not leave by their
// uplink: it counts packets in the world.
func (x *traffic) astray() (vips []int) {
	const n = 50
	for j, i := range x.sample() {
		before := x.received()
		for range n {
			x.sendTo(x.bound[j], socketAddr(x.hole, 9))
		}
		if x.received()[x.uplinkOf(i)]-before[x.uplinkOf(i)] < n {
			vips = append(vips, i)
		}
	}
	return vips
}

// TestVariants sends from VIPs with each variant: all except the base use the
// uplink of the VIP. Afterwards the host is as before.
func TestVariants(t *testing.T) {
	s := newStreet(t, build(t), 4, 8)
	state := func() string {
		return s.host.IP("rule") + s.host.IP("-6 rule") +
			s.host.IP("route show table all") + s.host.IP("-6 route show table all") +
			s.host.Run("nft", "list", "ruleset")
	}
	nginx := s.nginx()
	x := []*traffic{newTraffic(s, families[0], nginx), newTraffic(s, families[1], nginx)}
	before := state()
	for i, v := range variants {
		v.put(s)
		for _, x := range x {
			var want []int
			if i <= 1 { // by eth0, whatever link they are on
				want = []int{0, 1, 2, 4, 5, 6}
			}
			if d := cmp.Diff(want, x.astray()); d != "" {
				t.Errorf("%s, %s: VIPs that leave otherwise: -want +got\n%s",
					v.name, x.name, d)
			}
		}
		v.take(s)
		if d := cmp.Diff(before, state()); d != "" {
			t.Errorf("%s is not gone: -before +after\n%s", v.name, d)
		}
	}
}

// TestPackets prints the cost of packets with each variant.
func TestPackets(t *testing.T) {
	size := wanted(t)
	exe := build(t)
	var g goals
	for _, uplinks := range size.uplinks {
		for _, vips := range size.vips {
			t.Run(fmt.Sprintf("uplinks=%d/vips=%d", uplinks, vips), func(t *testing.T) {
				comparePackets(newStreet(t, exe, uplinks, vips), size.rounds, &g)
			})
		}
	}
	fmt.Println(g)
}

// comparePackets prints the tables of a street.
func comparePackets(s *street, rounds int, g *goals) {
	runtime.LockOSThread() // and ends with the test
	nginx := s.nginx()
	var x []*traffic
	var columns [][]column
	for _, f := range families {
		x = append(x, newTraffic(s, f, nginx))
		var c []column
		for _, m := range measures {
			c = append(c, column{m.name, make([][]float64, len(variants))})
		}
		columns = append(columns, c)
	}
	x[0].pin()
	x[0].must("pin", unix.SchedSetaffinity(nginx, firstCore()))
	for round := range rounds {
		for i := range variants {
			v := (i + round) % len(variants)
			variants[v].put(s)
			for f, x := range x {
				x.astray() // then the neighbours are known
				for c, m := range measures {
					costs := columns[f][c].costs
					costs[v] = append(costs[v], m.cost(x))
				}
			}
			variants[v].take(s)
		}
	}
	var names []string
	for _, v := range variants {
		names = append(names, v.name)
	}
	for f, c := range columns {
		title := fmt.Sprintf("%s, %d uplinks, %d VIPs", families[f].name, s.uplinks, s.vips)
		fmt.Print(table(title, names, c))
		strict := slices.Index(names, "lasthop strict")
		most := []float64{1.07, 1.10}[f]
		for _, c := range []column{c[0], c[2]} {
			g.add(title+": strict, "+c.name, most, median(c.ratios(strict)))
		}
	}
}
