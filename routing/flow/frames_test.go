package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// frameBuilder makes one random frame. Its number is in the last bytes of the
// source address.
type frameBuilder struct {
	rnd     *rand.Rand
	id      uint16
	anyPort bool // the filter has too many ports, and passes all
}

// built is a frame, and what it is made of.
type built struct {
	bytes  []byte // as sent
	tunnel bool   // by the tunnel, without a link header
	tag    int    // -1 for none
	proto  uint16 // of Ethernet, behind a tag
	host   bool   // sent to the end where it comes in
	group  bool   // to a group or to all
	plain  int    // bytes from the network header on that are no payload
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// build makes a frame for a station.
func (b frameBuilder) build(station [6]byte) built {
	f := built{tag: -1, tunnel: b.rnd.IntN(5) == 0}
	var packet []byte
	switch k := b.rnd.IntN(20); {
	case k < 9:
		f.proto = etherIPv4
		packet, f.plain = b.v4()
	case k < 18:
		f.proto = etherIPv6
		packet, f.plain = b.v6()
	case k == 18 && !f.tunnel:
		f.proto, packet, f.plain = etherARP, b.arp(), arpBytes
	default:
		f.proto, packet, f.plain = 0x88cc, make([]byte, 60), 0
		if f.tunnel { // the tunnel looks at the version
			f.proto = etherIPv4
			packet, f.plain = b.v4()
		}
	}
	if f.tunnel {
		f.bytes, f.host = packet, true
		return f
	}
	to := station
	switch b.rnd.IntN(12) {
	case 0:
		to = [6]byte{2, 0, 0, 0, 0, 77}
	case 1:
		to, f.group = [6]byte{255, 255, 255, 255, 255, 255}, true
	case 2:
		to, f.group = [6]byte{1, 0, 0x5e, 0, 0, 0x12}, true
	default:
		f.host = true
	}
	f.bytes = append(f.bytes, to[:]...)
	f.bytes = append(f.bytes, 2, 1, 0, 0, 0, 1)
	if b.rnd.IntN(6) == 0 {
		f.tag = pick(b.rnd, 0, 5, 0x2000, 0x2005) // of which 12 bits are the VLAN
		f.bytes = append(f.bytes, 0x81, 0x00, byte(f.tag>>8), byte(f.tag))
	}
	f.bytes = binary.BigEndian.AppendUint16(f.bytes, f.proto)
	f.bytes = append(f.bytes, packet...)
	return f
}

func (b frameBuilder) arp() []byte {
	p := make([]byte, 46)
	copy(p, []byte{0, 1, 8, 0, 6, 4, 0, byte(1 + b.rnd.IntN(2)), 2, 1, 0, 0, 0, 1, 198, 51})
	binary.BigEndian.PutUint16(p[16:], b.id)
	copy(p[24:], []byte{10, 0, 0, 1})
	return p
}

// v4 makes a packet of IPv4, with options, as a fragment or not.
func (b frameBuilder) v4() (packet []byte, plain int) {
	proto := pick[uint8](b.rnd, protoTCP, protoTCP, protoTCP, protoTCP, protoUDP, protoICMP,
		protoVRRP, 47)
	above, plain := b.transport(proto)
	h := make([]byte, 20+4*pick(b.rnd, 0, 0, 0, 1, 10))
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(above)))
	if b.rnd.IntN(8) == 0 {
		binary.BigEndian.PutUint16(h[6:], pick[uint16](b.rnd, 0x2000, 0x4000, 0x2001, 100))
	}
	h[8], h[9] = 64, proto
	copy(h[12:], []byte{198, 51})
	binary.BigEndian.PutUint16(h[14:], b.id)
	copy(h[16:], []byte{192, 0, 2, byte(b.rnd.Uint32())})
	return append(h, above...), plain + len(h)
}

// v6 makes a packet of IPv6 with extension headers.
func (b frameBuilder) v6() (packet []byte, plain int) {
	proto := pick[uint8](b.rnd, protoTCP, protoTCP, protoTCP, protoTCP, protoUDP, protoICMP6,
		protoVRRP, 50)
	above, plain := b.transport(proto)
	rest, next := above, proto
	for range pick(b.rnd, 0, 0, 0, 1, 2, 3, 4, 5) {
		kind := pick[uint8](b.rnd, 0, 43, 60, 44)
		head := make([]byte, 8*(1+b.rnd.IntN(3)))
		head[1] = byte(len(head)/8 - 1)
		if kind == 44 {
			head = make([]byte, 8)
			binary.BigEndian.PutUint16(head[2:], pick[uint16](b.rnd, 1, 0, 1, 0, 8))
		}
		head[0] = next
		next, plain = kind, plain+len(head)
		rest = slices.Concat(head, rest)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(h[4:], uint16(len(rest)))
	for i := 8; i < 40; i++ {
		h[i] = byte(b.rnd.Uint32())
	}
	binary.BigEndian.PutUint16(h[22:], b.id)
	return append(h, rest...), plain + 40
}

// transport makes what stands above IP, and says how much of it is no payload.
func (b frameBuilder) transport(proto uint8) (data []byte, plain int) {
	port := func() uint16 {
		return pick[uint16](b.rnd, 80, 443, 447, 450, 451, 81, 5000, 65535)
	}
	data = make([]byte, 8, 1200)
	binary.BigEndian.PutUint16(data, port())
	binary.BigEndian.PutUint16(data[2:], port())
	plain = 8
	switch proto {
	case protoTCP:
		data = append(data, make([]byte, 12+4*pick(b.rnd, 0, 3, 10))...)
		binary.BigEndian.PutUint32(data[4:], b.rnd.Uint32())
		data[12] = byte(len(data)/4) << 4
		data[13] = pick[byte](b.rnd, 2, 2, 18, 18, 4, 20, 16, 24, 17, 3, 0xc2)
		plain = len(data)
	case protoICMP:
		data[0] = pick[byte](b.rnd, 0, 8, 11, 3)
		data = append(data, make([]byte, 48)...)
		plain = 8 + b.quoted(data[0] == 11)
	case protoICMP6:
		data[0] = pick[byte](b.rnd, 128, 129, 3, 1, 132, 133, 134, 135, 136, 137)
		data = append(data, make([]byte, 48)...)
		if plain = 8 + b.quoted(data[0] == 3); data[0] >= 133 {
			plain = ndBytes
		}
	}
	return append(data, make([]byte, pick(b.rnd, 0, b.rnd.IntN(1000)))...), plain
}

// quoted is how many bytes of the headers that an error quotes may be kept.
func (b frameBuilder) quoted(isError bool) int {
	if isError {
		return 48
	}
	return 0
}

// expect notes on which links the frame is wanted, and what may be kept of it.
func (b frameBuilder) expect(want map[sighting]int, w *wire, s filterSpec, f built) {
	note := func(m Meta, frame []byte) {
		p, ok := Parse(m, frame, s.salt)
		if !ok || p.isError() && !s.probe {
			return
		}
		c := p.class()
		if mask := s.masks[c]; c != neighbours && p.hash&mask != 0 {
			return
		}
		if (p.Proto == protoTCP || p.Proto == protoUDP) && !b.anyPort &&
			!s.ports.holds(p.port()) {
			return
		}
		want[sighting{b.id, m.Link}] = m.Header + f.plain
	}
	if f.tunnel {
		note(Meta{Link: w.tun, HAType: 65534, Proto: f.proto}, f.bytes)
		return
	}
	in := Meta{Link: w.in, HAType: hatypeEther, Proto: f.proto, Header: etherBytes,
		Type: typeOtherHost}
	switch {
	case f.host:
		in.Type = 0
	case f.group && f.bytes[0] == 255:
		in.Type = 1
	case f.group:
		in.Type = typeMulticast
	}
	frame, out := f.bytes, in
	out.Link, out.Type = w.out, typeOutgoing
	if f.tag >= 0 { // the kernel takes the tag out of what comes in
		in.Tag, out.Proto = uint16(f.tag), 0x8100
		frame = slices.Concat(f.bytes[:12], f.bytes[16:])
	}
	note(in, frame)
	note(out, f.bytes)
}
