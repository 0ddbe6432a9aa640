package flow

import (
	"encoding/binary"
	"net/netip"
	"time"

	"lasthop/routing"
)

// Meta is what the kernel reports of a frame besides its bytes.
type Meta struct {
	At     time.Duration // since the epoch
	Link   int           // index of the interface
	Type   uint8         // to this host, to all, to a group, to another host, leaving
	HAType uint16        // of the interface: 1 is Ethernet
	Proto  uint16        // Ethernet's number of the protocol
	Tag    uint16        // of a VLAN; 0 for none
	Header int           // length of the link header
	Length int           // of the whole frame, from the link header on
}

// Packet is what is read of a frame. It contains no payload.
type Packet struct {
	Meta
	From, To routing.MAC // zero on links without
	Src, Dst netip.Addr  // of ARP sender and target
	Proto    uint8       // protocol of IP; 0 for ARP
	Kind     uint8       // type of ICMP; operation of ARP
	Flags    uint8       // of TCP

	Sport, Dport uint16     // of echoes, Dport is the identifier
	Seq, Ack     uint32     // of TCP; of other protocols, Seq tells packets of a flow apart
	Payload      int        // of TCP, in bytes
	Target       netip.Addr // of a neighbour solicitation or advertisement
	hash         uint32     // see flowHash
}

// Leaves reports whether the packet leaves this host.
func (p *Packet) Leaves() bool { return p.Type == typeOutgoing }

// is reports whether exactly these flags of a handshake are set.
func (p *Packet) is(flags uint8) bool { return p.Flags&(flagSYN|flagACK) == flags }

// Parse reads a frame as the filter leaves it. It returns false for every frame
// that the filter drops, without regard to ports and sampling, and for a frame
// that is cut too short.
func Parse(m Meta, frame []byte, salt uint32) (p Packet, ok bool) {
	p.Meta = m
	if m.HAType == hatypeLoopback || m.Tag&0xfff != 0 || m.Type == typeOtherHost ||
		m.Type > typeOutgoing || m.Header > len(frame) || m.Header < 0 {
		return p, false
	}
	if m.HAType == hatypeEther && m.Header >= etherBytes {
		copy(p.To[:], frame)
		copy(p.From[:], frame[6:])
	}
	b := frame[m.Header:]
	switch m.Proto {
	case etherARP:
		return p, p.arp(b)
	case etherIPv4:
		return p, p.v4(b, salt)
	case etherIPv6:
		return p, p.v6(b, salt)
	}
	return p, false
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// arp reads a request or reply of IPv4 over Ethernet.
func (p *Packet) arp(b []byte) bool {
	if len(b) < arpBytes || be32(b) != 0x00010800 || be16(b[4:]) != 0x0604 {
		return false
	}
	p.Meta.Proto, p.Kind = etherARP, b[7]
	p.Src, _ = netip.AddrFromSlice(b[14:18])
	p.Dst, _ = netip.AddrFromSlice(b[24:28])
	return true
}

func (p *Packet) v4(b []byte, salt uint32) bool {
	if len(b) < 20 || be16(b[6:])&0x1fff != 0 {
		return false
	}
	p.Src, _ = netip.AddrFromSlice(b[12:16])
	p.Dst, _ = netip.AddrFromSlice(b[16:20])
	p.Proto, p.Seq = b[9], uint32(be16(b[4:]))
	src, dst, at := be32(b[12:]), be32(b[16:]), int(b[0]&15)*4
	return p.above(b, at, int(be16(b[2:])), func() uint32 {
		return flowHash(salt, src+dst, src^dst, p.Sport, p.Dport)
	})
}

func (p *Packet) v6(b []byte, salt uint32) bool {
	if len(b) < 40 {
		return false
	}
	p.Src, _ = netip.AddrFromSlice(b[8:24])
	p.Dst, _ = netip.AddrFromSlice(b[24:40])
	var sum uint32
	for i := range 8 {
		sum += be32(b[8+4*i:])
	}
	next, at, ok := extensions(b)
	p.Proto = next
	return ok && p.above(b, at, int(be16(b[4:]))+40, func() uint32 {
		return flowHash(salt, sum, be32(b[20:])^be32(b[36:]), p.Sport, p.Dport)
	})
}

// extensions skips extension headers. It returns the protocol behind them and
// the place where that begins.
func extensions(b []byte) (next uint8, at int, ok bool) {
	next, at = b[6], 40
	for range maxExtensions {
		switch next {
		case 0, 43, 60:
			if len(b) < at+2 {
				return next, at, false
			}
			next, at = b[at], at+8+8*int(b[at+1])
		case 44:
			if len(b) < at+8 || be16(b[at+2:])&0xfff8 != 0 {
				return next, at, false
			}
			next, at = b[at], at+8
		default:
			return next, at, true
		}
	}
	return next, at, true
}

// above reads the transport header, which begins at at; end is the end of the
// packet.
func (p *Packet) above(b []byte, at, end int, hash func() uint32) bool {
	is4 := p.Src.Is4()
	switch {
	case p.Proto == protoTCP:
		return p.tcp(b, at, end, hash)
	case p.Proto == protoUDP && len(b) >= at+udpBytes:
		p.Sport, p.Dport = be16(b[at:]), be16(b[at+2:])
		return true
	case p.Proto == protoVRRP:
		return !p.Leaves() && len(b) >= at
	case (is4 && p.Proto == protoICMP || !is4 && p.Proto == protoICMP6) && len(b) >= at+8:
		p.Kind, p.Dport = b[at], be16(b[at+4:])
		if p.solicits() && len(b) >= at+ndBytes {
			p.Target, _ = netip.AddrFromSlice(b[at+8 : at+24])
		}
		return p.class() != unwanted
	}
	return false
}

func (p *Packet) tcp(b []byte, at, end int, hash func() uint32) bool {
	if len(b) < at+tcpBytes {
		return false
	}
	p.Sport, p.Dport = be16(b[at:]), be16(b[at+2:])
	p.Seq, p.Ack = be32(b[at+4:]), be32(b[at+8:])
	p.Flags = b[at+13]
	p.Payload = end - at - int(b[at+12]>>4)*4
	p.hash = hash()
	return p.class() != unwanted
}

// solicits reports whether the packet is a neighbour solicitation or
// advertisement.
func (p *Packet) solicits() bool {
	return p.Proto == protoICMP6 && (p.Kind == 135 || p.Kind == 136)
}

// isError reports whether the packet is an ICMP error of a router whose hop
// limit ended.
func (p *Packet) isError() bool {
	return p.Proto == protoICMP && p.Kind == 11 || p.Proto == protoICMP6 && p.Kind == 3
}

// isEcho reports whether the packet is an echo request that comes in, or the
// reply to one.
func (p *Packet) isEcho() bool {
	request, reply := uint8(8), uint8(0)
	if p.Proto == protoICMP6 {
		request, reply = 128, 129
	}
	return (p.Proto == protoICMP || p.Proto == protoICMP6) &&
		(!p.Leaves() && p.Kind == request || p.Leaves() && p.Kind == reply)
}

// class returns how the filter samples the packet.
func (p *Packet) class() class {
	switch {
	case p.Meta.Proto == etherARP, p.Proto == protoVRRP && !p.Leaves():
		return neighbours
	case p.Proto == protoUDP, p.isEcho():
		return segments
	case p.Proto == protoICMP6 && p.Kind >= 133 && p.Kind <= 136,
		p.isError() && !p.Leaves():
		return neighbours
	case p.Proto == protoTCP:
		return p.tcpClass()
	}
	return unwanted
}

func (p *Packet) tcpClass() class {
	switch {
	case p.Flags&flagRST != 0, !p.Leaves() && p.is(flagSYN),
		p.Leaves() && p.is(flagSYN|flagACK):
		return handshake
	case p.Flags&flagSYN != 0:
		return unwanted
	case p.Leaves() && p.Payload != 0:
		return payload
	case p.Payload != 0:
		return requests
	}
	return segments
}

// port is the port on the listener's side.
func (p *Packet) port() uint16 {
	if p.Leaves() {
		return p.Sport
	}
	return p.Dport
}
