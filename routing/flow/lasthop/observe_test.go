package lasthop_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/routing"
	"lasthop/routing/flow"
)

// TestObserved: the observer, which knows nothing of the programs, sees each
// connection leave as it came, and for each listener and router some.
func TestObserved(t *testing.T) {
	s := steered(t)
	s.serveMore()
	h, err := s.kernel.Read()
	if err != nil {
		t.Fatal(err)
	}
	var listeners []routing.Listener
	for _, w := range s.state.Wanted {
		if w.Port != 0 && w.Port != closedPort {
			listeners = append(listeners, routing.Listener{Addr: w.Addr, Transport: w.Transport,
				Ports: routing.PortRange{First: w.Port, Last: w.Port}})
		}
	}
	o, err := flow.Open(flow.Options{Host: h, Listeners: listeners,
		Inside: func(f func() error) (err error) {
			s.host.Do(func() { err = f() })
			return err
		}})
	if err != nil {
		t.Skipf("no packets can be looked at: %v", err)
	}
	defer o.Close()
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan routing.Evidence, 1)
	go func() {
		e, err := o.Window(ctx, time.Minute, nil)
		if err != nil {
			t.Error(err)
		}
		seen <- e
	}()
	time.Sleep(1500 * time.Millisecond) // it looks at a part until it knows how much there is
	asked := map[string]bool{}
	for _, addrs := range vips {
		for _, addr := range addrs {
			for _, r := range routers {
				for _, k := range slices.Concat(kinds, moreKinds) {
					if strings.HasSuffix(k.name, "load") || strings.Contains(k.name, "ten ") ||
						strings.Contains(k.name, "stream") {
						continue // many packets, and nothing else
					}
					time.Sleep(4 * time.Millisecond)
					if err := k.ask(s.clients[r.name], addr); err != nil {
						t.Errorf("%s by %s to %v: %v", k.name, r.name, addr, err)
					}
				}
				for _, w := range s.state.Wanted {
					if w.Addr == addr && w.Port != closedPort && w.Transport != routing.ICMP &&
						w.Port != 0 {
						asked[w.String()+" by "+s.hop(r.name).Router.String()] = true
					}
				}
			}
		}
	}
	time.Sleep(time.Second) // the kernel hands over blocks of packets
	stop()
	e := <-seen
	connections := 0
	for _, w := range e.Ways {
		connections += w.Count.Seen
		if w.In != w.Out {
			t.Errorf("to %v:%d/%s: came by %+v, left by %+v: %+v", w.Addr, w.Port, w.Transport,
				w.In, w.Out, w.Count)
		}
		delete(asked, routing.Wanted{Addr: w.Addr, Port: w.Port, Transport: w.Transport}.String()+
			" by "+w.In.MAC.String())
	}
	t.Logf("%d connections, %d ways; %+v", connections, len(e.Ways), e.Sampling)
	for way := range asked {
		t.Errorf("not seen: %s", way)
	}
}
