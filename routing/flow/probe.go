package flow

import (
	"encoding/binary"
	"net/netip"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// maxProbes is how many routers one run asks for their address.
const maxProbes = 16

// prober is a router without a name.
type prober struct {
	link int
	mac  routing.MAC
}

// probe is how to ask a router: from the address of this host to a client of
// the router, with the MAC that the router sends to.
type probe struct {
	own           routing.MAC
	local, remote netip.Addr
}

// noteProbe records how to ask the router that sent a packet.
func (t *table) noteProbe(k key, p *Packet) {
	who := prober{p.Link, p.From}
	if p.Leaves() || p.From == (routing.MAC{}) || len(t.probes) == 4*maxProbes ||
		t.net.class(t.net.wires[p.Link], p.Src) == routing.OnLinkClient {
		return
	}
	if _, known := t.probes[who]; !known {
		t.probes[who] = probe{p.To, k.addr(k.local), k.addr(k.remote)}
	}
}

// probeNameless sends one echo with a hop limit of 1 to each router whose
// address is not known. The router answers with its own address that the
// packet's time is exceeded.
func (o *Observer) probeNameless() {
	for who, how := range o.table.probes {
		wire := o.table.net.wires[who.link]
		if o.probes[who] || len(o.probes) == maxProbes || o.named(wire, who.mac) ||
			o.table.names.knows(wire, who.mac) {
			continue
		}
		o.probes[who] = true
		to := &unix.SockaddrLinklayer{Ifindex: who.link}
		_ = unix.Sendto(o.ring.fd, how.frame(who.mac), 0, to) // then it stays nameless
	}
}

// frame makes the echo request.
func (p probe) frame(router routing.MAC) []byte {
	b := append(append([]byte{}, router[:]...), p.own[:]...)
	echo := []byte{8, 0, 0, 0, 0x6c, 0x68, 0, 1}
	if p.local.Is4() {
		h := []byte{0x45, 0, 0, 28, 0, 0, 0x40, 0, 1, protoICMP, 0, 0}
		h = append(append(h, p.local.AsSlice()...), p.remote.AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], checksum(h, 0))
		binary.BigEndian.PutUint16(echo[2:], checksum(echo, 0))
		b = binary.BigEndian.AppendUint16(b, etherIPv4)
		return append(append(b, h...), echo...)
	}
	echo[0] = 128
	h := []byte{0x60, 0, 0, 0, 0, byte(len(echo)), protoICMP6, 1}
	h = append(append(h, p.local.AsSlice()...), p.remote.AsSlice()...)
	binary.BigEndian.PutUint16(echo[2:],
		checksum(append(h[8:40:40], echo...), uint32(len(echo))+protoICMP6))
	b = binary.BigEndian.AppendUint16(b, etherIPv6)
	return append(append(b, h...), echo...)
}

// checksum returns the checksum of IP (RFC 1071), over an even number of bytes.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(be16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
