package flow

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"
)

const (
	// maxFlows bounds the table: 16,384 take 4 MB with their keys.
	maxFlows = 16384
	// again is how long after the first a segment counts as repeated. A
	// kernel repeats a SYN and a SYN-ACK after a second, the payload of a
	// LAN's connection after 200 ms.
	again = 200 * time.Millisecond
	// quiet is how long an answer must stay unrepeated to count as
	// acknowledged.
	quiet = 1200 * time.Millisecond
	// young is how old an undecided connection may be to be in the next
	// window too.
	young = 3 * time.Second
	// sameTime is within what one packet crosses the devices of this host.
	sameTime = 5 * time.Millisecond
)

// key is a flow. For ping the remote port is the identifier.
type key struct {
	local, remote [16]byte
	lport, rport  uint16
	proto         uint8
	four          bool
}

func (k key) addr(a [16]byte) netip.Addr { return addrOf(a, k.four) }

func addrOf(a [16]byte, four bool) netip.Addr {
	addr := netip.AddrFrom16(a)
	if four {
		return addr.Unmap()
	}
	return addr
}

// side is where packets of a flow last crossed the edge of the host.
type side struct {
	at   time.Duration
	link int32 // 0 for nowhere yet
	// of the links of that wire on which the flow was seen, the nearest to
	// the sockets
	nearest  int32
	seq, ack uint32 // these and the flags tell packets apart
	flags    uint8
	mac      routing.MAC
}

// flow is what was seen of one connection, in 128 bytes.
type flow struct {
	in, out side
	first   time.Duration
	syn     mark  // the request
	answer  mark  // this host's SYN-ACK
	sent    bytes // payload that left, of a connection that is older than the window
	hash    uint32
	shown   traits
}

// mark is a segment: its number, and when it was first seen.
type mark struct {
	seq uint32
	at  time.Duration
}

// bytes is a range of numbers that left, and when the first did.
type bytes struct {
	from, to uint32
	at       time.Duration
}

// traits are what a connection has shown.
type traits uint8

const (
	requested     traits = 1 << iota // a SYN came in
	asksAgain                        // it was repeated
	answered                         // a SYN-ACK left
	answersAgain                     // it, or payload, was repeated
	acknowledged                     // see Connections.Confirmed
	rejected                         // a RST was the answer
	leftByPeer                       // a RST came in
	halfInvisible                    // the sampling became too coarse for this flow meanwhile
)

func (f *flow) has(b traits) bool { return f.shown&b != 0 }

// table is the flows of one window.
type table struct {
	net     *network
	flows   map[key]uint16 // where each is in places
	places  []flow
	free    []uint16 // places of no flow
	tally   tally
	names   *nameTable
	probes  map[prober]probe // how to ask routers for their names
	now     time.Duration    // of the last packet
	evicted int              // undecided flows
	// evicted, of the tally that was returned last
	forgotten int
}

func newTable(n *network) *table {
	return &table{net: n, flows: map[key]uint16{}, tally: newTally(n), names: newNameTable(),
		places: make([]flow, 0, maxFlows), probes: map[prober]probe{}}
}

// add takes a packet.
func (t *table) add(p *Packet) {
	t.now = max(t.now, p.At)
	wire := t.net.wires[p.Link]
	if p.class() == neighbours {
		t.names.add(p, wire)
		return
	}
	k, ok := t.keyOf(p)
	if !ok || wire == "" {
		return
	}
	at, known := t.flows[k]
	if !known {
		at = t.begin(k, flow{first: p.At, hash: p.hash})
	}
	f := &t.places[at]
	if t.cross(f, p) {
		return
	}
	t.noteProbe(k, p)
	switch {
	case p.Proto != protoTCP:
	case p.Leaves():
		f.leaves(p)
	case p.is(flagSYN) && f.has(requested) && p.Seq != f.syn.seq:
		t.fold(k, f) // the same ports once more
		*f = flow{in: f.in, first: p.At, hash: p.hash}
		f.enters(p)
	default:
		f.enters(p)
	}
}

// keyOf returns the flow of a packet. It returns false for a packet that is for
// no listener.
func (t *table) keyOf(p *Packet) (k key, ok bool) {
	local, remote, rport := p.Dst, p.Src, p.Sport
	if p.Leaves() {
		local, remote, rport = p.Src, p.Dst, p.Dport
	}
	k = key{local: local.As16(), remote: remote.As16(), lport: p.port(), rport: rport,
		proto: p.Proto, four: local.Is4()}
	if p.Proto != protoTCP && p.Proto != protoUDP {
		k.lport, k.rport = 0, p.Dport
	}
	return k, t.net.listens(transportOf(p.Proto), local, k.lport)
}

// cross records where a packet crossed the edge of the host. It reports whether
// the same packet was seen on another device before. For a packet that comes in
// the last device counts, for one that leaves the first.
func (t *table) cross(f *flow, p *Packet) (twice bool) {
	s, now := &f.in, side{at: p.At, link: int32(p.Link), seq: p.Seq, ack: p.Ack,
		flags: p.Flags, mac: p.From}
	if p.Leaves() {
		s, now.mac = &f.out, p.To
	}
	now.nearest = t.net.nearest(s.nearest, now.link)
	twice = s.link != 0 && s.link != now.link && p.At-s.at < sameTime &&
		s.seq == now.seq && s.ack == now.ack && s.flags == now.flags
	if !twice || !p.Leaves() {
		*s = now
	}
	s.nearest = now.nearest
	return twice
}

// enters records a TCP segment that comes in.
func (f *flow) enters(p *Packet) {
	switch {
	case p.Flags&flagRST != 0:
		f.shown |= leftByPeer
	case p.is(flagSYN) && !f.has(requested):
		f.shown |= requested
		f.syn = mark{p.Seq, p.At}
	case p.is(flagSYN):
		if p.At-f.syn.at > again {
			f.shown |= asksAgain
		}
	case f.has(answered) && p.Ack == f.answer.seq+1, f.sent.acked(p.Ack):
		f.shown |= acknowledged
	}
}

// acked reports whether a number acknowledges some of the bytes.
func (b bytes) acked(ack uint32) bool {
	n := ack - b.from
	return n > 0 && n <= b.to-b.from
}

// leaves records a TCP segment that leaves.
func (f *flow) leaves(p *Packet) {
	switch {
	case p.Flags&flagRST != 0:
		if f.has(requested) && !f.has(answered) {
			f.shown |= rejected
		}
	case p.is(flagSYN|flagACK) && f.has(answered):
		if p.At-f.answer.at > again {
			f.shown |= answersAgain
		}
		f.answer.seq = p.Seq // another one with SYN cookies
	case p.is(flagSYN | flagACK):
		f.shown |= answered
		f.answer = mark{p.Seq, p.At}
	case p.Payload == 0:
	case f.has(requested):
		// This host sends no payload before the handshake is done.
		f.shown |= acknowledged
	case f.sent.from == f.sent.to:
		f.sent = bytes{p.Seq, p.Seq + uint32(p.Payload), p.At}
	case p.Seq == f.sent.from && p.At-f.sent.at > again:
		f.shown |= answersAgain
	case int32(p.Seq+uint32(p.Payload)-f.sent.to) > 0:
		f.sent.to = p.Seq + uint32(p.Payload)
	}
}

// state is what is known of a connection.
type state uint8

const (
	undecided state = iota
	confirmed
	inferred
	unconfirmed
	unanswered
	refused
)

// state concludes from the packets so far. It leaves undecided what a flood or
// a loss could have caused.
func (f *flow) state(now time.Duration) state {
	whole := !f.has(halfInvisible)
	switch {
	case f.has(acknowledged):
		return confirmed
	case f.has(rejected):
		return refused
	case f.has(answersAgain), f.has(answered) && f.has(asksAgain):
		return unconfirmed
	case f.sent != (bytes{}):
		// The handshake was before the window, or not in the sampling.
		// There was one: no sender can make this host send payload
		// without it.
		return confirmed
	case f.has(requested) && f.has(asksAgain) && f.out.link == 0 && whole:
		return unanswered
	case f.has(requested) && f.has(answered) && whole && now-f.answer.at > quiet:
		return inferred
	}
	return undecided
}

// narrow marks the flows that a coarser sampling of handshakes does not show
// any more.
func (t *table) narrow(mask uint32) {
	for _, f := range t.all() {
		if f.hash&mask != 0 {
			f.shown |= halfInvisible
		}
	}
}

// begin takes a flow into the table, and returns its place.
func (t *table) begin(k key, f flow) (at uint16) {
	if len(t.flows) >= maxFlows {
		t.evict()
	}
	if n := len(t.free); n > 0 {
		at, t.free = t.free[n-1], t.free[:n-1]
		t.places[at] = f
	} else {
		at, t.places = uint16(len(t.places)), append(t.places, f)
	}
	t.flows[k] = at
	return at
}

// end takes a flow out of the table.
func (t *table) end(k key) {
	t.free = append(t.free, t.flows[k])
	delete(t.flows, k)
}

// clear takes all flows out of the table.
func (t *table) clear() {
	clear(t.flows)
	t.places, t.free = t.places[:0], t.free[:0]
}

// all ranges over the flows.
func (t *table) all() iter.Seq2[key, *flow] {
	return func(yield func(key, *flow) bool) {
		for k, at := range t.flows {
			if !yield(k, &t.places[at]) {
				return
			}
		}
	}
}

// rank orders flows by how much is lost with them: the undecided first, and of
// those the oldest.
func (f *flow) rank(now time.Duration) time.Duration {
	if f.state(now) == confirmed {
		return f.first + 1000*time.Hour
	}
	return f.first
}

// evict makes room: it drops about one flow in sixteen, those of the smallest
// ranks. The first flows that a range over the map yields are a sample of all.
// It counts decided flows before.
func (t *table) evict() {
	sample := make([]time.Duration, 0, 1024)
	for _, f := range t.all() {
		if sample = append(sample, f.rank(t.now)); len(sample) == cap(sample) {
			break
		}
	}
	slices.Sort(sample)
	last := sample[len(sample)/16]
	for k, f := range t.all() {
		if f.rank(t.now) > last {
			continue
		}
		if f.state(t.now) == undecided && k.proto == protoTCP {
			t.evicted++
		}
		t.fold(k, f)
		t.end(k)
	}
}

// fold counts a flow.
func (t *table) fold(k key, f *flow) { t.tally.add(k, f, f.state(t.now)) }

// turn ends the window at a time: it counts all flows. It keeps for the next
// window those that are undecided and young, and those with unacknowledged
// payload, so that a repetition is recognised. now must not be before a packet.
func (t *table) turn(now time.Duration) tally {
	t.now = max(t.now, now)
	done := t.tally
	for k, f := range t.all() {
		s := f.state(t.now)
		done.add(k, f, s)
		waits := s == undecided && f.has(requested) && t.now-f.first < young
		if !waits && (f.sent == (bytes{}) || f.has(acknowledged)) {
			t.end(k)
		}
	}
	done.ask(t.names, t.now)
	t.tally, t.forgotten, t.evicted = newTally(t.net), t.evicted, 0
	return done
}

// peek counts as turn does, but does not end the window.
func (t *table) peek(now time.Duration) tally {
	t.now, t.forgotten = max(t.now, now), t.evicted
	done := t.tally.clone()
	for k, f := range t.all() {
		done.add(k, f, f.state(t.now))
	}
	done.ask(t.names, t.now)
	return done
}
