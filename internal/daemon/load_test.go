package daemon

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

var resyncs = flag.Int("resyncs", 60, "changes made under load by TestRunUnderLoad")

// outside is what lies around a server: two routers on eth1's subnet, and a
// client behind both.
//
//	client 192.0.2.9 ─ 192.0.2.1 router one 10.0.1.1 ─┬─ eth1 10.0.1.0/24
//	              └─── 192.0.2.2 router two 10.0.1.2 ─┘
//
// Neither router keeps state. Behind eth0 and eth2 there is no client: a reply
// that leaves there is lost.
type outside struct{ client *nstest.NS }

func newOutside(s *server) outside {
	s.t.Helper()
	one, two, client := nstest.New(s.t), nstest.New(s.t), nstest.New(s.t)
	s.IP("link add br1 type bridge")
	s.Lines("link set br1 up\nlink set peer1 master br1")
	client.Batch("link add br2 type bridge\nlink set br2 up\naddr add 192.0.2.9/24 dev br2\n" +
		"route add 10.0.1.0/24 via 192.0.2.1")
	for i, r := range []*nstest.NS{one, two} {
		join(s.t, s.NS, r, fmt.Sprintf("r%d", i), "inner", "br1")
		join(s.t, client, r, fmt.Sprintf("r%d", i), "outer", "br2")
		r.Sysctl("net.ipv4.ip_forward=1")
		r.Sysctl("net.ipv4.conf.all.send_redirects=0")
		r.Batch(fmt.Sprintf("addr add 10.0.1.%[1]d/24 dev inner\n"+
			"addr add 192.0.2.%[1]d/24 dev outer", i+1))
	}
	return outside{client}
}

// join puts a cable between a bridge of one namespace and an interface of
// another.
func join(t testing.TB, a, b *nstest.NS, nameA, nameB, bridge string) {
	t.Helper()
	b.Batch(fmt.Sprintf("link add %s type veth peer name %s\nlink set %s up", nameB,
		nameA, nameB))
	b.IP(fmt.Sprintf("link set %s netns %s", nameA, a.Path))
	a.Batch(fmt.Sprintf("link set %s master %s\nlink set %s up", nameA, bridge, nameA))
}

// requests counts what was asked and what was answered.
type requests struct{ asked, lost atomic.Int64 }

func (r *requests) count(err error) {
	r.asked.Add(1)
	if err != nil {
		r.lost.Add(1)
	}
}

// patienceOf is less than a first SYN's retransmission takes, so that a lost
// reply counts as lost.
const patienceOf = 900 * time.Millisecond

// askTCP makes a request on a connection of its own.
func askTCP(addr string) error {
	c, err := net.DialTimeout("tcp4", addr, patienceOf)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patienceOf)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		err = fmt.Errorf("answer %.20q", answer)
	}
	return err
}

// askUDP sends a datagram and wants it back.
func askUDP(c net.Conn, n int) error {
	if err := c.SetDeadline(time.Now().Add(patienceOf)); err != nil {
		return err
	}
	want := fmt.Sprint(n)
	if _, err := io.WriteString(c, want); err != nil {
		return err
	}
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) == want {
			return err
		}
	}
}

// load asks the VIP from the client until ctx ends.
func (o outside) load(ctx context.Context, t *testing.T, tcp, udp *requests) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		o.client.Do(func() {
			for ctx.Err() == nil {
				tcp.count(askTCP("10.0.1.100:80"))
				pause(ctx, time.Millisecond)
			}
		})
	})
	wg.Go(func() {
		o.client.Do(func() {
			c, err := net.Dial("udp4", "10.0.1.100:5353")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := 0; ctx.Err() == nil; n++ {
				udp.count(askUDP(c, n))
				pause(ctx, time.Millisecond)
			}
		})
	})
	return &wg
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// echo answers datagrams from the VIP itself, as NGINX's stream does.
func (s *server) echo() {
	s.t.Helper()
	var c net.PacketConn
	var err error
	s.Do(func() { c, err = net.ListenPacket("udp4", "10.0.1.100:5353") })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buf[:n], from)
		}
	}()
}

// TestRunUnderLoad: under constant load, changes of every kind lose no reply of
// a listener that stays.
func TestRunUnderLoad(t *testing.T) {
	s := newServer(t)
	o := newOutside(s)
	s.IP("addr del 10.0.1.101/24 dev eth1") // so that another address changes the cover
	s.StartNginx()
	s.echo()
	listens := []string{"10.0.1.100:5353/udp"}
	s.start(func(o *Options) { o.Flags.Listens = listens })
	s.client(o)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var tcp, udp requests
	wg := o.load(ctx, t, &tcp, &udp)
	changes := s.status().Counts.Changes
	for i := range *resyncs {
		s.change(i)
	}
	made := s.status().Counts.Changes - changes
	cancel()
	wg.Wait()
	t.Logf("%d changes of the host and of NGINX, %d writes: lost %d of %d TCP "+
		"requests, %d of %d UDP requests", *resyncs, made,
		tcp.lost.Load(), tcp.asked.Load(), udp.lost.Load(), udp.asked.Load())
	if tcp.lost.Load() > 0 || udp.lost.Load() > 0 {
		t.Error("requests were lost")
	}
	if made < *resyncs || tcp.asked.Load() < int64(*resyncs) ||
		udp.asked.Load() < int64(*resyncs) {
		t.Error("too little was done to prove anything")
	}
}

// client waits until the client is answered.
func (s *server) client(o outside) {
	s.t.Helper()
	s.Until("the client's first answer", func() (ok bool) {
		o.client.Do(func() { ok = askTCP("10.0.1.100:80") == nil })
		return ok
	})
}

// change makes the ith change and waits until the kernel has it.
func (s *server) change(i int) {
	s.t.Helper()
	on := i/3%2 == 0
	var part string
	switch i % 3 {
	case 0:
		listens := "listen 10.0.1.100:80;"
		if on {
			listens += " listen 10.0.2.100:80;"
		}
		s.Conf(listens)
		s.Reload()
		part = "from 10.0.2."
	case 1:
		gateway := map[bool]string{true: "10.0.1.2", false: "10.0.1.1"}[on]
		s.Lines("route replace default via " + gateway + " dev eth1 metric 100")
		s.Until("the other router", func() bool {
			return has(s.owned(), "default via "+gateway+" dev eth1")
		})
		return
	case 2:
		s.Lines("addr " + map[bool]string{true: "add", false: "del"}[on] +
			" 10.0.1.97/24 dev eth1")
		part = "from 10.0.1.100/30"
	}
	s.Until(part, func() bool { return has(s.ownedRules(), part) == on })
}
