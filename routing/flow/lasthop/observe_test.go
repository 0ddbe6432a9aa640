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

// observer looks at the host's packets.
func (s *steer) observer(h routing.Host) *flow.Observer {
	s.t.Helper()
	var listeners []routing.Listener
	for _, w := range s.state.Wanted {
		if w.Port != 0 && w.Port != closedPort {
			listeners = append(listeners, routing.Listener{Addr: w.Addr,
				Transport: w.Transport,
				Ports:     routing.PortRange{First: w.Port, Last: w.Port}})
		}
	}
	o, err := flow.Open(flow.Options{Host: h, Listeners: listeners,
		Inside: func(f func() error) (err error) {
			s.host.Do(func() { err = f() })
			return err
		}})
	if err != nil {
		s.t.Skipf("no packets can be looked at: %v", err)
	}
	return o
}

// askLightly asks each listener by each router, and not more than the observer
// can look at. It returns what has to be seen: the listener, and the router.
func (s *steer) askLightly() map[string]bool {
	s.t.Helper()
	asked := map[string]bool{}
	for _, r := range routers {
		mac := s.hop(r.name).Router
		for _, w := range s.state.Wanted {
			if w.Port != closedPort && w.Port != 0 {
				asked[w.String()+" by "+mac.String()] = true
			}
		}
		for _, k := range slices.Concat(kinds, moreKinds) {
			if strings.HasSuffix(k.name, "load") || strings.Contains(k.name, "ten ") ||
				strings.Contains(k.name, "stream") {
				continue // many packets, and nothing else
			}
			for _, addrs := range vips {
				for _, addr := range addrs {
					time.Sleep(4 * time.Millisecond)
					if err := k.ask(s.clients[r.name], addr); err != nil {
						s.t.Errorf("%s by %s: %v", k.name, r.name, err)
					}
				}
			}
		}
	}
	return asked
}

// TestObserved: the observer, which knows nothing of the programs, sees each
// connection leave as it came, and for each listener and router some.
func TestObserved(t *testing.T) {
	t.Parallel()
	s := steered(t)
	s.serveMore()
	h, err := s.kernel.Read()
	if err != nil {
		t.Fatal(err)
	}
	o := s.observer(h)
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
	asked := s.askLightly()
	time.Sleep(time.Second) // the kernel hands over blocks of packets
	stop()
	e := <-seen
	connections := 0
	for _, w := range e.Ways {
		connections += w.Count.Seen
		if w.In != w.Out {
			t.Errorf("to %v:%d/%s: came by %+v, left by %+v: %+v", w.Addr, w.Port,
				w.Transport,
				w.In, w.Out, w.Count)
		}
		delete(asked, routing.Wanted{Addr: w.Addr, Port: w.Port,
			Transport: w.Transport}.String()+
			" by "+w.In.MAC.String())
	}
	t.Logf("%d connections, %d ways; %+v", connections, len(e.Ways), e.Sampling)
	for way := range asked {
		t.Errorf("not seen: %s", way)
	}
}
