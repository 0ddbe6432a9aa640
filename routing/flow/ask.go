package flow

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// How neighbours are asked. A proxy for IPv6 waits up to 0.8 s before it
// answers (proxy_delay). Switches that inspect ARP shut a port that sends much.
const (
	askRounds = 3
	askPause  = 400 * time.Millisecond // between rounds
	askWait   = time.Second            // after the last
	askRate   = 200                    // frames a second
)

// Ask asks the neighbours on links for the owners of addresses, as `arping` and
// `ndisc6` do, and returns the answers of other machines. It asks for each
// address in two ways: from no address, as a host does that looks for a
// duplicate (RFC 5227, RFC 4862), and from an address of this host, as other
// neighbours do, which a proxy answers, too. An answer with a MAC of this host
// is its own, whatever link it came by. Without CAP_NET_RAW the error is
// unix.EPERM.
func Ask(ctx context.Context, o Options, questions []routing.Question) ([]routing.Asked, error) {
	a := &asker{own: map[routing.MAC]bool{}, at: map[target]int{},
		macs: map[string]routing.MAC{}, links: map[string]routing.Link{}}
	inside := o.Inside
	if inside == nil {
		inside = func(f func() error) error { return f() }
	}
	if err := inside(a.open); err != nil {
		return nil, err
	}
	defer a.ring.close()
	for _, l := range o.Host.Links {
		a.links[l.Name] = l
	}
	for _, q := range questions {
		a.question(q, o.Host)
	}
	for range askRounds {
		if err := a.round(ctx); err != nil {
			return nil, err
		}
	}
	err := a.listen(ctx, askWait)
	return a.asked, err
}

// asker asks, and collects answers.
type asker struct {
	ring  *ring
	own   map[routing.MAC]bool
	macs  map[string]routing.MAC // by link
	links map[string]routing.Link

	asked  []routing.Asked
	at     map[target]int // indexes of asked
	frames []askFrame
}

// askFrame is a question as it is sent.
type askFrame struct {
	link  int
	frame []byte
}

// open opens a socket that receives only neighbour packets, and reads the
// links' MACs, in the namespace of the calling thread.
func (a *asker) open() (err error) {
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("read interfaces: %w", err)
	}
	for _, l := range links {
		if mac := (routing.MAC{}); len(l.HardwareAddr) == len(mac) {
			copy(mac[:], l.HardwareAddr)
			a.macs[l.Name], a.own[mac] = mac, true
		}
	}
	none := uint32(1)<<coarsest - 1
	a.ring, err = openRing(&filterSpec{ports: portSet{{}}, // no listener has port 0
		masks: masks{handshake: none, payload: none, requests: none, segments: none}})
	return err
}

// question adds a question, and makes its frames.
func (a *asker) question(q routing.Question, h routing.Host) {
	l, mac := a.links[q.Link], a.macs[q.Link]
	x := routing.Asked{Question: q}
	switch {
	case l.Name == "":
		x.Unasked = "the interface does not exist here"
	case !l.Up || !l.Carrier:
		x.Unasked = "the interface is down"
	case l.Loopback || mac == (routing.MAC{}) || l.PointToPoint:
		x.Unasked = "the interface has no MAC addresses"
	default:
		a.at[target{l.Index, q.Addr}] = len(a.asked)
		frame := newSolicitation
		if q.Addr.Is4() {
			frame = newARP
		}
		unspecified := routing.FamilyOf(q.Addr).All().Addr()
		a.frames = append(a.frames, askFrame{l.Index, frame(mac, unspecified, q.Addr)})
		if own := askFrom(h, q); own.IsValid() {
			a.frames = append(a.frames, askFrame{l.Index, frame(mac, own, q.Addr)})
		}
	}
	a.asked = append(a.asked, x)
}

// askFrom returns an address of this host that neighbours on the link can
// answer; an invalid one if the only one is the address in question.
func askFrom(h routing.Host, q routing.Question) (from netip.Addr) {
	for _, a := range h.Addrs {
		own := a.Prefix.Addr()
		if a.Link != q.Link || own == q.Addr || own.Is4() != q.Addr.Is4() || a.Tentative {
			continue
		}
		if a.Connected().Contains(q.Addr) {
			return own
		}
		from = own
	}
	return from
}

// round sends each question once. A question is lost if its link goes down.
func (a *asker) round(ctx context.Context) error {
	const burst = 10
	for frames := range slices.Chunk(a.frames, burst) {
		for _, f := range frames {
			to := &unix.SockaddrLinklayer{Ifindex: f.link}
			_ = unix.Sendto(a.ring.fd, f.frame, 0, to)
		}
		if err := a.listen(ctx, burst*time.Second/askRate); err != nil {
			return err
		}
	}
	return a.listen(ctx, askPause)
}

// listen collects answers for a time.
func (a *asker) listen(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		for a.ring.block(a.take) {
		}
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := a.ring.wait(max(left, time.Millisecond)); err != nil {
			return fmt.Errorf("wait for answers: %w", err)
		}
	}
}

// take reads what a neighbour says of itself.
func (a *asker) take(m Meta, frame []byte) {
	p, ok := Parse(m, frame, 0)
	if !ok || p.Leaves() || a.own[p.From] || p.From == (routing.MAC{}) {
		return
	}
	addr, proxy := p.Src, false
	switch {
	case p.Meta.Proto == etherARP:
		proxy = p.Kind == arpReply && !p.Dst.IsUnspecified() && p.Dst != p.Src
	case p.Proto == protoICMP6 && p.Kind == 136:
		addr, proxy = p.Target, p.Dport&naOverride == 0
	case p.Proto != protoICMP6 || p.Kind != 135:
		return
	}
	i, found := a.at[target{p.Link, addr}]
	if !found {
		return
	}
	answers := &a.asked[i].Answers
	at, known := slices.BinarySearchFunc(*answers, p.From,
		func(x routing.Answer, mac routing.MAC) int {
			return slices.Compare(x.MAC[:], mac[:])
		})
	if !known {
		*answers = slices.Insert(*answers, at, routing.Answer{MAC: p.From, Proxy: true})
	}
	x := &(*answers)[at]
	x.Proxy = x.Proxy && proxy
}

const (
	arpReply = 2
	// of the flags of an advertisement, which begin where an echo has its
	// identifier: a proxy does not set it (RFC 4861, 7.2.8)
	naOverride = 0x2000
)

// newARP asks for an IPv4 address, from an address of this host or from none.
func newARP(mac routing.MAC, own, addr netip.Addr) []byte {
	b := slices.Repeat([]byte{0xff}, 6)
	b = binary.BigEndian.AppendUint16(append(b, mac[:]...), etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	b = append(append(b, mac[:]...), own.AsSlice()...)
	return append(append(b, make([]byte, 6)...), addr.AsSlice()...)
}

// newSolicitation asks for an IPv6 address, from an address of this host or
// from none.
func newSolicitation(mac routing.MAC, own, addr netip.Addr) []byte {
	group := netip.MustParseAddr("ff02::1:ff00:0").As16() // the group of all possible owners
	target := addr.As16()
	copy(group[13:], target[13:])
	ask := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	if !own.IsUnspecified() {
		ask = append(append(ask, 1, 1), mac[:]...) // where the answer goes to
	}
	head := []byte{0x60, 0, 0, 0, 0, byte(len(ask)), protoICMP6, 255}
	head = append(append(head, own.AsSlice()...), group[:]...)
	binary.BigEndian.PutUint16(ask[2:],
		checksum(append(head[8:40:40], ask...), uint32(len(ask))+protoICMP6))
	b := append([]byte{0x33, 0x33}, group[12:]...)
	b = binary.BigEndian.AppendUint16(append(b, mac[:]...), etherIPv6)
	return append(append(b, head...), ask...)
}
