package lasthop_test

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// TestFlood: many more SYNs than there is room for, with spoofed addresses, by
// one of the routers: flows that are open stay with their routers, and new ones
// are answered.
func TestFlood(t *testing.T) {
	const flows = 1 << 14 // and a quarter of it for handshakes: 4,096
	open, syns := pick(200, 2000), pick(20_000, 300_000)
	l := newLab(t)
	l.serve()
	s := l.steer(flows)
	s.install()
	vip := vips["lo"][4]
	var talks []talk
	for i := range open {
		talks = append(talks, l.talk(routers[i%3].name, vip))
	}
	astray, answered := l.astray(), 0
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := l.hop("b")
		flood := newSender(t, l.routers["b"], "r0")
		for range syns {
			from := netip.AddrFrom4([4]byte{100, 64 + byte(rand.IntN(64)),
				byte(rand.IntN(256)), 1})
			flood.send(framed(h.Own[:], h.Router[:], -1,
				segment{from: netip.AddrPortFrom(from,
					uint16(1024+rand.IntN(60000))),
					to: netip.AddrPortFrom(vip, tcpPort), flags: syn,
					seq: rand.Uint32()}.packet()))
			sent.Add(1)
		}
	}()
	start, asked := time.Now(), 0
	for asked < 200 || !isDone(done) {
		asked++
		if tcp(10, 10)(l.clients[routers[asked%3].name], vip) == nil {
			answered++
		}
	}
	<-done
	t.Logf("%d SYNs in %v, %d new connections meanwhile, %d answered", sent.Load(),
		time.Since(start).Round(time.Millisecond), asked, answered)
	if answered != asked {
		t.Errorf("%d of %d new connections were answered", answered, asked)
	}
	failed := 0
	for _, c := range talks {
		if err := request(c, 10, 1000); err != nil {
			failed++
		}
	}
	if n := l.astray() - astray; failed > 0 || n > 0 {
		t.Errorf("of %d open flows %d failed; %d packets went astray", open, failed, n)
	}
}

func isDone(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
