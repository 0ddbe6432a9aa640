package flow

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// benchStreet is a host with an observer to be opened.
type benchStreet struct {
	*nstest.Street
	options Options
}

func newBenchStreet(b *testing.B) *benchStreet {
	s := &benchStreet{Street: nstest.NewStreet(b)}
	s.Router.IP("route add blackhole 203.0.0.0/8")
	k, err := host.Open(s.Host.Path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(k.Close)
	h, err := k.Read()
	if err != nil {
		b.Fatal(err)
	}
	addr := netip.MustParseAddr("10.7.0.10")
	s.options = Options{Host: h, Inside: k.Inside, Listeners: []routing.Listener{
		{Addr: addr, Transport: routing.UDP, Ports: routing.PortRange{First: 53, Last: 53}},
		{Addr: addr, Transport: routing.TCP, Ports: routing.PortRange{First: 80, Last: 80}}}}
	return s
}

// datagrams returns a function that sends a datagram from one namespace to
// another. The other side has a socket that reads nothing: what does not fit is
// dropped, with and without observer.
func (s *benchStreet) datagrams(b *testing.B, from, to *nstest.NS,
	local, remote string) func() {
	var fd int
	var err error
	to.Do(func() {
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", remote); err == nil {
			b.Cleanup(func() { c.Close() })
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	from.Do(func() {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, socketAddr(local))
		}
		if err == nil {
			err = unix.Connect(fd, socketAddr(remote))
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	data := make([]byte, 18)
	return func() { _, _ = unix.Write(fd, data) }
}

func socketAddr(s string) unix.Sockaddr {
	a := netip.MustParseAddrPort(s)
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// segments returns a function that sends a TCP segment with payload from the
// host to a client that the router does not know. It passes none of the
// kernel's TCP.
func (s *benchStreet) segments(b *testing.B) func() {
	var r0 *net.Interface
	s.Router.Do(func() { r0, _ = net.InterfaceByName("r0") })
	frame := append(append([]byte{}, r0.HardwareAddr...), 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 140, 0, 0, 0x40, 0, 64, protoTCP, 0, 0, 10, 7, 0, 10, 203, 0, 113, 1,
		0, 80, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flagACK, 0xff, 0xff, 0, 0, 0, 0)
	frame = append(frame, make([]byte, 100)...)
	sums(frame[14:34], frame[34:])
	fd := rawSocket(b, s.Host, "eth0")
	return func() { _, _ = unix.Write(fd, frame) }
}

// perSend is the time of this thread that a send of each takes, in nanoseconds:
// the median of many short runs, in turn.
func perSend(sends [3]func()) (cost [3]float64) {
	const runs, times = 200, 100
	var all [3][]float64
	for range runs {
		for i, send := range sends {
			before := threadTime()
			for range times {
				send()
			}
			all[i] = append(all[i],
				float64((threadTime()-before).Nanoseconds())/times)
		}
	}
	for i := range cost {
		cost[i] = quartile(all[i], 2)
	}
	return cost
}

func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// watched calls f while an observer looks.
func (s *benchStreet) watched(b *testing.B, f func()) {
	o, err := Open(s.options)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := o.Window(ctx, time.Hour, nil); err != nil {
			b.Error(err)
		}
	}()
	f()
	cancel()
	<-done
}

// tapped calls f while there is a packet socket whose filter drops all: this
// measures the kernel's cost of any such socket.
func (s *benchStreet) tapped(b *testing.B, f func()) {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{}})
	if err != nil {
		b.Fatal(err)
	}
	var r *ring
	s.Host.Do(func() { r, err = openRing(&filterSpec{}) })
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	if err := r.attach(program); err != nil {
		b.Fatal(err)
	}
	f()
}

// lanes are equal hosts. The measured work goes on in all at the same time: one
// host is left alone, one has an empty packet socket, and one an observer. So
// the load of other programs on this machine affects all three. Each host takes
// each part in turn.
type lanes [3]*benchStreet

// newLanes makes them. Before Linux 6.15 a packet socket in one namespace makes
// the kernel copy the packets of all.
func newLanes(b *testing.B) (l lanes) {
	var major, minor int
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err == nil {
		_, err = fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	}
	if err != nil {
		b.Fatal(err)
	}
	if major < 6 || major == 6 && minor < 15 {
		b.Skip("before Linux 6.15 a packet socket costs other namespaces, too")
	}
	for i := range l {
		l[i] = newBenchStreet(b)
	}
	return l
}

// compared is what something costs without, with an empty packet socket, and
// with an observer; one value a turn.
type compared struct{ without, tapped, watched []float64 }

// compare measures in turns. measure returns what something costs on each of
// the streets.
func (l lanes) compare(b *testing.B, turns int, measure func(lanes) [3]float64) (c compared) {
	measure(l) // the neighbours are known then
	for range max(b.N, turns) {
		var sums [3]float64
		for first := range l {
			parts := lanes{l[first], l[(first+1)%3], l[(first+2)%3]}
			for i, cost := range parts.measure(b, measure) {
				sums[i] += cost / 3
			}
		}
		c.without = append(c.without, sums[0])
		c.tapped, c.watched = append(c.tapped, sums[1]), append(c.watched, sums[2])
	}
	return c
}

// measure measures once: the first is left alone, the second has an empty
// socket, the third an observer.
func (l lanes) measure(b *testing.B, measure func(lanes) [3]float64) (cost [3]float64) {
	l[1].tapped(b, func() {
		l[2].watched(b, func() {
			for begun := time.Now(); time.Since(begun) < steering+atMost; {
				measure(l) // the sampling is steered then
			}
			cost = measure(l)
		})
	})
	return cost
}

// more returns how much more each turn took than without.
func (c compared) more(with []float64) []float64 {
	return c.each(with, func(with, without float64) float64 { return with - without })
}

// ratio returns how many times as much each turn took as without.
func (c compared) ratio(with []float64) []float64 {
	return c.each(with, func(with, without float64) float64 { return with / without })
}

func (c compared) each(with []float64, f func(with, without float64) float64) []float64 {
	out := make([]float64, len(with))
	for i := range out {
		out[i] = f(with[i], c.without[i])
	}
	return out
}

// quartile returns the first, second or third.
func quartile(values []float64, n int) float64 {
	return slices.Sorted(slices.Values(values))[len(values)*n/4]
}

// report reports the median and the quartiles.
func report(b *testing.B, values []float64, unit string) {
	for i, q := range []string{"q1-", "", "q3-"} {
		b.ReportMetric(quartile(values, i+1), q+unit)
	}
}

// spread is the median with the quartiles, to be read.
func spread(values []float64, format string) string {
	return fmt.Sprintf(format+" ("+format+" to "+format+")", quartile(values, 2),
		quartile(values, 1), quartile(values, 3))
}

// BenchmarkPacket is an observer's cost for each packet, compared with that of
// an empty packet socket. The sending thread does the receiving side's work.
func BenchmarkPacket(b *testing.B) {
	const served, free = "10.7.0.10:53", "10.7.0.10:5001" // a listener's, and not
	const far = "10.7.0.1:5000"
	for _, tt := range []struct {
		name string
		send func(b *testing.B, s *benchStreet) func()
	}{
		{"leaving", func(b *testing.B, s *benchStreet) func() {
			return s.datagrams(b, s.Host, s.Router, served, far)
		}},
		{"leaving-segment", func(b *testing.B, s *benchStreet) func() {
			return s.segments(b)
		}},
		{"leaving-unwanted", func(b *testing.B, s *benchStreet) func() {
			return s.datagrams(b, s.Host, s.Router, free, far)
		}},
		{"entering", func(b *testing.B, s *benchStreet) func() {
			return s.datagrams(b, s.Router, s.Host, far, served)
		}},
		{"entering-unwanted", func(b *testing.B, s *benchStreet) func() {
			return s.datagrams(b, s.Router, s.Host, far, free)
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			l, send := newLanes(b), map[*benchStreet]func(){}
			for _, s := range l {
				send[s] = tt.send(b, s)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			c := l.compare(b, 12, func(l lanes) [3]float64 {
				return perSend([3]func(){send[l[0]], send[l[1]], send[l[2]]})
			})
			empty, more := c.more(c.tapped), c.more(c.watched)
			report(b, c.without, "ns/send")
			report(b, empty, "empty-ns")
			report(b, more, "more-ns")
			b.Logf("%s ns a send; an empty socket %s more, an observer %s more, "+
				"%s times", spread(c.without, "%.0f"), spread(empty, "%.0f"),
				spread(more, "%.0f"), spread(c.ratio(c.watched), "%.2f"))
		})
	}
}
