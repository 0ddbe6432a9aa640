package lasthop

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"lasthop/routing"
)

// world is what a Watch sees, changed by each step of a test.
type world struct {
	Sight
	watch Watch
	found Found
}

func mac(b byte) MAC { return MAC{2, 0, 0, 0, 0, b} }

var (
	first  = Hop{Link: 2, Router: mac(1), Own: mac(9)}
	second = Hop{Link: 2, Router: mac(2), Own: mac(9)}
	other  = Hop{Link: 3, Router: mac(3), Own: mac(8)}
)

func newWorld() *world {
	start := time.Unix(1000, 0)
	neigh := func(link string, addr string, m MAC) routing.Neigh {
		return routing.Neigh{Link: link, Addr: netip.MustParseAddr(addr), MAC: m.String(),
			State: "REACHABLE"}
	}
	return &world{Sight: Sight{Now: start,
		Hops: map[Hop]Noted{first: {At: start}, second: {At: start.Add(-time.Second)},
			other: {At: start}},
		Neigh: []routing.Neigh{neigh("eth1", "10.0.1.1", mac(1)),
			neigh("eth1", "10.0.1.2", mac(2)), neigh("eth2", "10.0.2.1", mac(3))},
		Links: []routing.Link{{Index: 2, Name: "eth1", Up: true, Carrier: true},
			{Index: 3, Name: "eth2", Up: true, Carrier: true}}}}
}

// after lets time pass, and looks.
func (w *world) after(d time.Duration) *world {
	w.Now = w.Now.Add(d)
	w.found = w.watch.Step(w.Sight)
	return w
}

// neighbour sets the state of one; a state without a MAC forgets it.
func (w *world) neighbour(i int, state string, m MAC) *world {
	w.Neigh[i].State, w.Neigh[i].MAC = state, m.String()
	if state == "FAILED" || state == "INCOMPLETE" {
		w.Neigh[i].MAC = ""
	}
	return w
}

func (w *world) is(t *testing.T, what string, want map[Hop]Hop) {
	t.Helper()
	if len(want) != len(w.found.Dead) {
		t.Fatalf("%s: dead are %v, want %v", what, w.found.Dead, want)
	}
	for hop, instead := range want {
		if got, ok := w.found.Dead[hop]; !ok || got != instead {
			t.Errorf("%s: dead are %v, want %v", what, w.found.Dead, want)
		}
	}
}

// TestWatch follows routers through what may become of them.
func TestWatch(t *testing.T) {
	w := newWorld().after(time.Minute)
	w.is(t, "all answer", nil)
	if len(w.found.Probe) != 3 || w.found.Next != every {
		t.Errorf("probes %v, next in %v", w.found.Probe, w.found.Next)
	}
	w.neighbour(0, "PROBE", mac(1)).after(every).is(t, "being asked", nil)
	if w.found.Next != soon {
		t.Errorf("while one is asked: next in %v", w.found.Next)
	}
	w.neighbour(0, "FAILED", mac(1)).after(3*time.Second).is(t, "failed", map[Hop]Hop{first: second})
	for _, state := range []string{"INCOMPLETE", "STALE", "DELAY", "PROBE"} {
		w.neighbour(0, state, mac(1)).after(every).is(t, state+" after it failed",
			map[Hop]Hop{first: second})
	}
	w.neighbour(0, "REACHABLE", mac(1)).after(every).is(t, "reachable", nil)

	w.neighbour(0, "REACHABLE", mac(7)).after(every).is(t, "its address is another's",
		map[Hop]Hop{first: second})
	w.neighbour(0, "PERMANENT", mac(1)).after(every).is(t, "permanent", nil)
	if slices.ContainsFunc(w.found.Probe,
		func(n routing.Neigh) bool { return n.MAC == mac(1).String() }) {
		t.Error("a permanent neighbour is probed")
	}

	w.neighbour(2, "FAILED", mac(3)).after(every).is(t, "the only one of its link",
		map[Hop]Hop{other: {}})
	w.Hops[other] = Noted{At: w.Now.Add(every)}
	w.after(2*every).is(t, "a connection began by it", nil)
	w.after(time.Minute).is(t, "and it is still failed", map[Hop]Hop{other: {}})

	w.Links[1].Carrier = false
	w.neighbour(2, "REACHABLE", mac(3)).after(every).is(t, "no carrier", map[Hop]Hop{other: {}})
	w.Links = w.Links[:1]
	w.after(every).is(t, "the link is gone", map[Hop]Hop{other: {}})
}

// TestWatchResumes: a router that is dead stays so when another process
// watches, until it is heard.
func TestWatchResumes(t *testing.T) {
	w := newWorld()
	w.Neigh = w.Neigh[1:]
	w.watch.Resume(map[Hop]Hop{first: {}}, w.Now.Add(time.Minute))
	w.after(time.Minute).is(t, "resumed", map[Hop]Hop{first: second})
	w.after(Probed).is(t, "later", map[Hop]Hop{first: {}})
	w.Hops[first] = Noted{At: w.Now}
	w.after(every).is(t, "heard", nil)
	w.after(time.Minute).is(t, "and nothing known", nil)
}

// TestWatchForgets: a router that no connection began by for ten minutes is
// neither probed nor found dead.
func TestWatchForgets(t *testing.T) {
	w := newWorld().after(Probed + time.Minute)
	w.is(t, "quiet", nil)
	if len(w.found.Probe) > 0 {
		t.Errorf("probes %v", w.found.Probe)
	}
	w.neighbour(0, "FAILED", mac(1)).after(every).is(t, "failed and quiet", nil)
}

// TestWatchFew: of many invented routers few are probed, and the one that
// connections begin by is among them.
func TestWatchFew(t *testing.T) {
	w := newWorld()
	for n := range 1000 {
		m := MAC{2, 1, 0, 0, byte(n >> 8), byte(n)}
		w.Hops[Hop{Link: 2, Router: m, Own: mac(9)}] = Noted{At: w.Now.Add(-time.Minute)}
		w.Neigh = append(w.Neigh, routing.Neigh{Link: "eth1", State: "STALE",
			MAC: m.String(), Addr: netip.AddrFrom4([4]byte{10, 0, 2 + byte(n>>8), byte(n)})})
	}
	w.after(30 * time.Second)
	if n := len(w.found.Probe); n != watched+1 { // and the router of the other link
		t.Errorf("%d are probed", n)
	}
	w.neighbour(0, "FAILED", mac(1)).after(every)
	w.is(t, "the router", map[Hop]Hop{first: second})
}

// TestWatchHosts: a host of the LAN that asks us itself, a monitor for example,
// stands in for no router; a router does whose own request was the last.
func TestWatchHosts(t *testing.T) {
	w := newWorld()
	w.Hops[second] = Noted{w.Now, netip.MustParseAddr("10.0.1.2")}
	w.after(every)
	w.neighbour(0, "FAILED", mac(1)).after(10*time.Second).is(t, "a host of the LAN", map[Hop]Hop{first: {}})
	w.Hops[second] = Noted{w.Now, netip.MustParseAddr("198.51.100.7")}
	w.after(every).is(t, "it has brought a client", map[Hop]Hop{first: second})
	w.Hops[second] = Noted{w.Now, netip.MustParseAddr("10.0.1.2")}
	w.after(every).is(t, "then its own request", map[Hop]Hop{first: second})

	w = newWorld()
	w.Hops[first] = Noted{w.Now, netip.MustParseAddr("10.0.1.1")}
	for n := range mostDead { // each began something after the router did
		m := MAC{2, 1, 0, 0, byte(n >> 8), byte(n)}
		addr := netip.AddrFrom4([4]byte{10, 0, 2 + byte(n>>8), byte(n)})
		w.Hops[Hop{Link: 2, Router: m, Own: mac(9)}] = Noted{w.Now, addr}
		w.Neigh = append(w.Neigh, routing.Neigh{Link: "eth1", State: "FAILED",
			MAC: m.String(), Addr: addr})
	}
	w.after(every)
	w.neighbour(1, "FAILED", mac(2)).after(10*time.Second).is(t, "hosts and the only router",
		map[Hop]Hop{second: {}})
	if len(w.found.Probe) != 2 { // and the router of the other link
		t.Errorf("probes %v", w.found.Probe)
	}
	w.Links = w.Links[1:]
	w.after(every)
	for hop, instead := range w.found.Dead {
		if instead != (Hop{}) {
			t.Fatalf("the link is gone, and %v stands in for %v", instead, hop)
		}
	}
}
