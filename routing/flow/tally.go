package flow

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"
)

// maxClients bounds the clients that are told apart in one window.
const maxClients = 32768

// tally counts flows by listener, class of client, way in and way out.
type tally struct {
	net     *network
	ways    map[wayKey]*counted
	clients int // told apart, of all ways; a client of several ways counts for each
}

type wayKey struct {
	addr      netip.Addr
	port      uint16
	transport routing.Transport
	class     routing.SeenClass
	in, out   crossing
}

// crossing is a side in the form that tells ways apart.
type crossing struct {
	wire string
	mac  routing.MAC
}

type counted struct {
	in, out routing.Crossing
	count   routing.Connections
	clients map[[16]byte]traits
}

func newTally(n *network) tally { return tally{net: n, ways: map[wayKey]*counted{}} }

// clone returns an independent copy.
func (t tally) clone() tally {
	t.ways = maps.Clone(t.ways)
	for k, c := range t.ways {
		own := *c
		own.clients = maps.Clone(c.clients)
		t.ways[k] = &own
	}
	return t
}

// add counts a flow. A flow that was not seen to come in has no way, and an
// unanswered one without a request has none, either.
func (t *tally) add(k key, f *flow, s state) {
	if f.in.link == 0 || k.proto == protoTCP && f.out.link == 0 && !f.has(requested) {
		return
	}
	in, out := t.crossing(f.in), t.crossing(f.out)
	w := wayKey{k.addr(k.local), k.lport, transportOf(k.proto),
		t.net.class(in.wire, k.addr(k.remote)), in, out}
	c := t.ways[w]
	if c == nil {
		c = &counted{clients: map[[16]byte]traits{}, in: t.named(f.in),
			out: t.named(f.out)}
		t.ways[w] = c
	}
	t.rename(&c.in, f.in)
	t.rename(&c.out, f.out)
	c.count.Seen++
	var shown traits
	switch s {
	case confirmed:
		c.count.Confirmed++
		shown = acknowledged
	case inferred:
		c.count.Inferred++
	case unconfirmed:
		c.count.Unconfirmed++
		shown = answersAgain
	case unanswered:
		c.count.Unanswered++
		shown = answersAgain
	case refused:
		c.count.Refused++
	}
	before, known := c.clients[k.remote]
	if !known && t.clients == maxClients {
		return
	}
	if !known {
		t.clients++
	}
	c.clients[k.remote] = before | shown
}

func (t *tally) crossing(s side) crossing { return crossing{t.net.wires[int(s.link)], s.mac} }

// rename gives a crossing the link of another flow if that is nearer to the
// sockets.
func (t *tally) rename(c *routing.Crossing, s side) {
	if name := t.net.links[int(s.nearest)]; t.net.inner[name] > t.net.inner[c.Link] {
		c.Link = name
	}
}

func (t *tally) named(s side) routing.Crossing {
	link := int(s.nearest)
	return routing.Crossing{Link: t.net.links[link], Wire: t.net.wires[link], MAC: s.mac}
}

// ask adds the next hops that did not answer to the ways by which no packet
// left.
func (t *tally) ask(names *nameTable, now time.Duration) {
	for k, c := range t.ways {
		if k.out.wire != "" {
			continue
		}
		if x, found := names.vain(t.net, k.addr, now); found {
			c.out.Link, c.out.Asked = t.net.links[x.link], x.addr
		}
	}
}

// list returns the ways in a fixed order. With SYN cookies an answer that is
// not repeated means nothing.
func (t *tally) list(cookies bool) []routing.SeenWay {
	out := []routing.SeenWay{}
	answered := t.answered()
	for k, c := range t.ways {
		if k.out.wire == "" && c.count.Unanswered == 0 && answered[k.withoutOut()] {
			continue // too early, or the sampling took only one direction
		}
		w := c.way(k)
		if cookies {
			w.Count.Inferred = 0
		}
		out = append(out, w)
	}
	slices.SortFunc(out, compareWays)
	return out
}

// way is what was counted, with the first of the clients.
func (c *counted) way(k wayKey) routing.SeenWay {
	w := routing.SeenWay{Addr: k.addr, Port: k.port, Transport: k.transport, Class: k.class,
		In: c.in, Out: c.out, Count: c.count, Clients: len(c.clients)}
	for a, shown := range c.clients {
		client := addrOf(a, k.addr.Is4())
		switch {
		case shown&acknowledged != 0:
			w.Reached++
		case shown&answersAgain != 0:
			w.Lost = append(w.Lost, client)
		}
		at, _ := slices.BinarySearchFunc(w.Examples, client, netip.Addr.Compare)
		if at < routing.MaxExamples {
			w.Examples = slices.Insert(w.Examples, at, client)
			w.Examples = w.Examples[:min(len(w.Examples), routing.MaxExamples)]
		}
	}
	slices.SortFunc(w.Lost, netip.Addr.Compare)
	return w
}

func (k wayKey) withoutOut() wayKey {
	k.out = crossing{}
	return k
}

// answered are the ways in by which some reply left.
func (t *tally) answered() map[wayKey]bool {
	in := map[wayKey]bool{}
	for k := range t.ways {
		if k.out.wire != "" {
			in[k.withoutOut()] = true
		}
	}
	return in
}

// distinct returns how many clients all ways have.
func (t *tally) distinct() int {
	all := make([][16]byte, 0, t.clients)
	for _, c := range t.ways {
		all = slices.AppendSeq(all, maps.Keys(c.clients))
	}
	slices.SortFunc(all, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	return len(slices.Compact(all))
}

func compareWays(a, b routing.SeenWay) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Transport, b.Transport), cmp.Compare(b.Count.Seen, a.Count.Seen),
		cmp.Compare(a.Class, b.Class), cmp.Compare(a.In.Wire, b.In.Wire),
		slices.Compare(a.In.MAC[:], b.In.MAC[:]), cmp.Compare(a.Out.Wire, b.Out.Wire),
		slices.Compare(a.Out.MAC[:], b.Out.MAC[:]))
}
