package flow

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// flood is what a window under a flood of spoofed packets has shown.
type flood struct {
	evidence routing.Evidence
	received int64 // TCP segments
	seconds  float64
	cpu      time.Duration // of the observer's thread
	genuine  int           // connections that were answered
}

// spoofer sends TCP segments with random senders to the host, many at a time
// and past the queue of the link: a core sends and the kernel answers more than
// 150,000 a second.
type spoofer struct {
	fd       int
	frames   [64][]byte
	messages [64]message
}

// message is what sendmmsg takes (struct mmsghdr).
type message struct {
	head unix.Msghdr
	sent uint32
}

// newSpoofer returns one that sends from a link of the router.
func newSpoofer(t testing.TB, s *nstest.Street, flags byte) *spoofer {
	var eth0 *net.Interface
	s.Host.Do(func() { eth0, _ = net.InterfaceByName("eth0") })
	frame := append(append([]byte{}, eth0.HardwareAddr...), 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protoTCP, 0, 0, 203, 0, 113, 1, 10, 7, 0, 10,
		0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	x := &spoofer{fd: rawSocket(t, s.Router, "r0")}
	err := unix.SetsockoptInt(x.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err != nil {
		t.Error(err)
	}
	for i := range x.frames {
		x.frames[i] = slices.Clone(frame)
		v := &unix.Iovec{Base: &x.frames[i][0]}
		v.SetLen(len(frame))
		x.messages[i].head.Iov = v
		x.messages[i].head.SetIovlen(1)
	}
	return x
}

// rawSocket returns a socket that sends frames by a link.
func rawSocket(t testing.TB, n *nstest.NS, link string) (fd int) {
	n.Do(func() {
		var err error
		var i *net.Interface
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			t.Cleanup(func() { unix.Close(fd) })
			i, err = net.InterfaceByName(link)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
		}
		if err != nil {
			t.Error(err)
		}
	})
	return fd
}

// send sends so many a second until ctx is done.
func (x *spoofer) send(ctx context.Context, rate int) {
	begun, sent := time.Now(), 0
	for ctx.Err() == nil {
		n := min(int(time.Since(begun).Seconds()*float64(rate))-sent, len(x.messages))
		if n <= 0 {
			runtime.Gosched()
			continue
		}
		for _, f := range x.frames[:n] {
			ip, tcp := f[14:34], f[34:]
			binary.BigEndian.PutUint32(ip[12:], 203<<24|rand.Uint32N(1<<24))
			binary.BigEndian.PutUint16(tcp, uint16(1024+rand.IntN(60000)))
			binary.BigEndian.PutUint32(tcp[4:], rand.Uint32())
			binary.BigEndian.PutUint32(tcp[8:], rand.Uint32())
			sums(ip, tcp)
		}
		// What does not fit is dropped: received reports what came.
		_, _, _ = unix.Syscall6(unix.SYS_SENDMMSG, uintptr(x.fd),
			uintptr(unsafe.Pointer(&x.messages[0])), uintptr(n), 0, 0, 0)
		sent += n
	}
}

// received is how many TCP segments a namespace has received.
func received(t testing.TB, n *nstest.NS) (segments int64) {
	n.Do(func() {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			t.Error(err)
		}
		segments = counter(string(text), "Tcp:", "InSegs")
	})
	return segments
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

// run observes the host for a time while other threads send SYNs, blind
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
			spoofer := newSpoofer(t, s, x.flags)
			all.Go(func() { spoofer.send(ctx, x.rate) })
		}
	}
	all.Go(func() { f.ask(ctx, s, d) })
	f.received = -received(t, s.Host)
	runtime.LockOSThread()
	before, begun := threadTime(), time.Now()
	f.evidence, err = o.Window(context.Background(), d, nil)
	f.cpu, f.seconds = threadTime()-before, time.Since(begun).Seconds()
	runtime.UnlockOSThread()
	f.received += received(t, s.Host)
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
	t.Logf("%d received in %.1f s, %+v, %d of %d confirmed, own CPU %s", f.received, f.seconds,
		f.evidence.Sampling, genuine, f.genuine, f.cpu)
	if genuine < f.genuine*3/4 || genuine > f.genuine || spoofed > 0 {
		t.Errorf("%d connections are confirmed, of %d genuine ones; %d of spoofed", genuine,
			f.genuine, spoofed)
	}
	if f.evidence.Sampling.SYNCookies && inferred > 0 {
		t.Errorf("%d inferred with SYN cookies", inferred)
	}
	if !f.evidence.Sampling.SYNCookies {
		t.Error("the kernel sent no SYN cookies: the flood is none")
	}
	if f.evidence.Sampling.Lossy() {
		t.Errorf("packets are lost: %+v", f.evidence.Sampling)
	}
}

// BenchmarkFlood is the flood of the acceptance: 150,000 SYNs a second for 5 s,
// alone and together with 100,000 blind acknowledgements.
func BenchmarkFlood(b *testing.B) {
	for name, acks := range map[string]int{"syn": 0, "syn+ack": 100_000} {
		b.Run(name, func(b *testing.B) {
			values := map[string][]float64{}
			note := func(unit string, v float64) {
				values[unit] = append(values[unit], v)
			}
			for range max(b.N, 5) {
				var f flood
				f.run(b, 5*time.Second, 150_000, acks)
				genuine, spoofed, inferred := f.confirmed()
				note("received/s", float64(f.received)/f.seconds)
				note("drops", float64(f.evidence.Sampling.Dropped))
				note("confirmed", float64(genuine))
				note("spoofed", float64(spoofed))
				note("%cpu", 100*f.cpu.Seconds()/f.seconds)
				if f.evidence.Sampling.SYNCookies {
					note("inferred", float64(inferred))
				}
			}
			for unit, v := range values {
				report(b, v, unit)
				b.Logf("%s %s, from %.2f to %.2f", spread(v, "%.2f"), unit,
					slices.Min(v), slices.Max(v))
			}
		})
	}
}
