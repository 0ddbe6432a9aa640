package flow

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// benchStreet is a host with an observer to be opened.
type benchStreet struct {
	*nstest.Street
	options Options
	asked   atomic.Int64 // connections
}

func newBenchStreet(b *testing.B) *benchStreet {
	s := &benchStreet{Street: nstest.NewStreet(b)}
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

// sender returns a connected UDP socket of a namespace. The other side has one
// that reads nothing: what does not fit is dropped, with and without observer.
func (s *benchStreet) sender(b *testing.B, from, to *nstest.NS, local, remote string) int {
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
	socket := func(a netip.AddrPort) unix.Sockaddr {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	from.Do(func() {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, socket(netip.MustParseAddrPort(local)))
		}
		if err == nil {
			err = unix.Connect(fd, socket(netip.MustParseAddrPort(remote)))
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return fd
}

// perSend is the time of this thread that a send takes on average, in
// nanoseconds. Other programs' work does not count.
func perSend(fd int) float64 {
	const n = 20000
	data := make([]byte, 18)
	before := threadTime()
	for range n {
		_, _ = unix.Write(fd, data)
	}
	return float64((threadTime() - before).Nanoseconds()) / n
}

// watched calls f while an observer looks.
func (s *benchStreet) watched(b *testing.B, f func()) (cpu time.Duration, e routing.Evidence) {
	o, err := Open(s.options)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		before := threadTime()
		e, _ = o.Window(ctx, time.Hour, nil)
		cpu = threadTime() - before
	}()
	f()
	cancel()
	<-done
	return cpu, e
}

// BenchmarkPacket is what an observer costs each packet: sends in turn without
// and with one, and the median of the differences with its quartiles. The
// receiving side's work is done by the sending thread.
func BenchmarkPacket(b *testing.B) {
	for _, tt := range []struct {
		name     string
		in       bool // of the observed host
		from, to string
	}{{"leaving", false, "10.7.0.10:53", "10.7.0.1:5000"},
		{"leaving-unwanted", false, "10.7.0.10:5001", "10.7.0.1:5000"},
		{"entering", true, "10.7.0.1:5000", "10.7.0.10:53"},
		{"entering-unwanted", true, "10.7.0.1:5000", "10.7.0.10:5001"}} {
		b.Run(tt.name, func(b *testing.B) {
			s := newBenchStreet(b)
			from, to := s.Host, s.Router
			if tt.in {
				from, to = to, from
			}
			fd := s.sender(b, from, to, tt.from, tt.to)
			perSend(fd) // the neighbours are known then
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var base, more []float64
			for range max(b.N, 40) {
				without := perSend(fd)
				s.watched(b, func() {
					perSend(fd) // the sampling is steered then
					more = append(more, perSend(fd)-without)
				})
				base = append(base, without)
			}
			report(b, base, "ns/send")
			report(b, more, "more-ns")
		})
	}
}

// report reports the median and the quartiles.
func report(b *testing.B, values []float64, unit string) {
	slices.Sort(values)
	for i, q := range []string{"q1-", "", "q3-"} {
		b.ReportMetric(values[len(values)*(i+1)/4], q+unit)
	}
}

// BenchmarkObserver is the observer's own share of a core: idle, and beside new
// connections as fast as they come.
func BenchmarkObserver(b *testing.B) {
	for _, clients := range []int{0, 8} {
		b.Run(fmt.Sprintf("%d clients", clients), func(b *testing.B) {
			s := newBenchStreet(b)
			s.Serve(s.Host, "10.7.0.10:80")
			for range b.N {
				const d = 5 * time.Second
				begun := time.Now()
				cpu, e := s.watched(b, func() { s.connect(d, clients) })
				took := time.Since(begun).Seconds()
				b.ReportMetric(100*cpu.Seconds()/took, "%cpu")
				b.ReportMetric(float64(s.asked.Swap(0))/took, "conn/s")
				b.ReportMetric(float64(e.Sampling.Dropped), "drops")
			}
		})
	}
}

// connect opens connections one after the other for a time, by several clients.
func (s *benchStreet) connect(d time.Duration, clients int) {
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			s.Client.Do(func() {
				for time.Now().Before(end) {
					c, err := net.DialTimeout("tcp", "10.7.0.10:80",
						time.Second)
					if err != nil {
						continue
					}
					_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
					_, _ = c.Read(make([]byte, 64))
					_ = c.(*net.TCPConn).SetLinger(0) // no TIME-WAIT
					c.Close()
					s.asked.Add(1)
				}
			})
		})
	}
	all.Wait()
	<-time.After(time.Until(end))
}
