package flow

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// flood is what a window under a flood of spoofed packets has shown.
type flood struct {
	evidence routing.Evidence
	sent     atomic.Int64
	seconds  float64
	cpu      time.Duration // of the observer's thread
	genuine  int           // connections that were answered
}

// spoof sends TCP segments with random senders from a link of the router to the
// host, so many a second, until ctx is done. It returns how many.
func spoof(ctx context.Context, t testing.TB, s *nstest.Street, rate int, flags byte) (sent int) {
	var eth0 *net.Interface
	s.Host.Do(func() { eth0, _ = net.InterfaceByName("eth0") })
	frame := append(append([]byte{}, eth0.HardwareAddr...), 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protoTCP, 0, 0, 203, 0, 113, 1, 10, 7, 0, 10,
		0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	ip, tcp := frame[14:34], frame[34:]
	s.Router.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		link, err := net.InterfaceByName("r0")
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index})
		}
		if err != nil {
			t.Error(err)
			return
		}
		begun := time.Now()
		for ctx.Err() == nil {
			due := int(time.Since(begun).Seconds() * float64(rate))
			if due <= sent {
				runtime.Gosched()
				continue
			}
			for range min(due-sent, 64) {
				binary.BigEndian.PutUint32(ip[12:], 203<<24|rand.Uint32N(1<<24))
				binary.BigEndian.PutUint16(tcp, uint16(1024+rand.IntN(60000)))
				binary.BigEndian.PutUint32(tcp[4:], rand.Uint32())
				binary.BigEndian.PutUint32(tcp[8:], rand.Uint32())
				sums(ip, tcp)
				_, _ = unix.Write(fd, frame) // a full queue drops
				sent++
			}
		}
	})
	return sent
}

// sums sets the checksums of IPv4 and TCP.
func sums(ip, tcp []byte) {
	ip[10], ip[11], tcp[16], tcp[17] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], checksum(ip, 0))
	sum := uint32(protoTCP + len(tcp))
	for i := 12; i < 20; i += 2 {
		sum += uint32(be16(ip[i:]))
	}
	binary.BigEndian.PutUint16(tcp[16:], checksum(tcp, sum))
}

// run observes the host for a time while others send SYNs, blind
// acknowledgements, and genuine requests of 40 connections.
func (f *flood) run(t testing.TB, d time.Duration, syns, acks int) {
	s := nstest.NewStreet(t)
	s.Serve(s.Host, "10.7.0.10:80")
	s.Router.IP("route add blackhole 203.0.0.0/8")
	k, err := host.Open(s.Host.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	h, err := k.Read()
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(Options{Host: h, Inside: k.Inside, Listeners: []routing.Listener{{
		Addr: netip.MustParseAddr("10.7.0.10"), Transport: routing.TCP,
		Ports: routing.PortRange{First: 80, Last: 80}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var all sync.WaitGroup
	for _, x := range []struct {
		rate  int
		flags byte
	}{{syns, flagSYN}, {acks, flagACK}} {
		if x.rate > 0 {
			all.Go(func() { f.sent.Add(int64(spoof(ctx, t, s, x.rate, x.flags))) })
		}
	}
	all.Go(func() { f.ask(ctx, s, d) })
	runtime.LockOSThread()
	before, begun := threadTime(), time.Now()
	f.evidence, err = o.Window(context.Background(), d, nil)
	f.cpu, f.seconds = threadTime()-before, time.Since(begun).Seconds()
	runtime.UnlockOSThread()
	all.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// ask opens 40 connections in the time, each from a port of its own.
func (f *flood) ask(ctx context.Context, s *nstest.Street, d time.Duration) {
	tick := time.NewTicker(d / 50)
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	for range 40 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.genuine++
		all.Go(func() { nstest.Ask(s.Client, "tcp", "", "10.7.0.10:80", 2*time.Second) })
	}
}

func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// confirmed returns how many connections of genuine and of spoofed clients are
// confirmed, and how many are inferred.
func (f *flood) confirmed() (genuine, spoofed, inferred int) {
	for _, w := range f.evidence.Ways {
		inferred += w.Count.Inferred
		for _, c := range w.Examples {
			if c.As4()[0] == 203 && w.Reached > 0 && w.Clients == w.Reached {
				spoofed++
			}
		}
		genuine += w.Count.Confirmed
	}
	return genuine, spoofed, inferred
}

// TestFlood: in a flood of spoofed requests and acknowledgements the genuine
// connections are confirmed and no spoofed one is; nothing is inferred while
// the kernel sends SYN cookies.
func TestFlood(t *testing.T) {
	var f flood
	f.run(t, 3*time.Second, 30_000, 20_000)
	genuine, spoofed, inferred := f.confirmed()
	t.Logf("%d sent in %.1f s, %+v, %d of %d confirmed, own CPU %s", f.sent.Load(), f.seconds,
		f.evidence.Sampling, genuine, f.genuine, f.cpu)
	if genuine < f.genuine*3/4 || genuine > f.genuine || spoofed > 0 {
		t.Errorf("%d connections are confirmed, of %d genuine ones; %d of spoofed", genuine,
			f.genuine, spoofed)
	}
	if f.evidence.Sampling.SYNCookies && inferred > 0 {
		t.Errorf("%d inferred beside SYN cookies", inferred)
	}
	if !f.evidence.Sampling.SYNCookies {
		t.Error("the kernel sent no SYN cookies: the flood is none")
	}
	if f.evidence.Sampling.Lossy() {
		t.Errorf("packets are lost: %+v", f.evidence.Sampling)
	}
}

// BenchmarkFlood is the flood of the acceptance: 150,000 SYNs a second for 5 s,
// alone and with 100,000 blind acknowledgements beside.
func BenchmarkFlood(b *testing.B) {
	for name, acks := range map[string]int{"syn": 0, "syn+ack": 100_000} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				var f flood
				f.run(b, 5*time.Second, 150_000, acks)
				genuine, spoofed, _ := f.confirmed()
				b.ReportMetric(float64(f.sent.Load())/f.seconds, "sent/s")
				b.ReportMetric(float64(f.evidence.Sampling.Dropped), "drops")
				b.ReportMetric(float64(genuine), "confirmed")
				b.ReportMetric(float64(spoofed), "spoofed")
				b.ReportMetric(100*f.cpu.Seconds()/f.seconds, "%cpu")
			}
		})
	}
}
