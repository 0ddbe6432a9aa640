package lasthop_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"lasthop/internal/nstest"

	"golang.org/x/sys/unix"
)

var be = binary.BigEndian

// checksum is that of the internet (RFC 1071).
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i := 0; i+1 < len(p); i += 2 {
			sum += uint32(be.Uint16(p[i:]))
		}
		if len(p)%2 == 1 {
			sum += uint32(p[len(p)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudo is the header that checksums of TCP and UDP begin with.
func pseudo(from, to netip.Addr, protocol byte, length int) []byte {
	b := append(from.AsSlice(), to.AsSlice()...)
	return be.AppendUint32(append(b, 0, protocol, 0, 0), uint32(length))
}

// Flags of TCP.
const (
	fin, syn, rst, psh, ack = 1, 2, 4, 8, 16
)

// segment is a TCP segment without options.
type segment struct {
	from, to netip.AddrPort
	flags    byte
	seq, ack uint32
	data     string
}

func (s segment) packet() []byte {
	t := be.AppendUint16(be.AppendUint16(nil, s.from.Port()), s.to.Port())
	t = be.AppendUint32(be.AppendUint32(t, s.seq), s.ack)
	t = append(t, 5<<4, s.flags, 0xff, 0xff, 0, 0, 0, 0)
	t = append(t, s.data...)
	be.PutUint16(t[16:], checksum(pseudo(s.from.Addr(), s.to.Addr(), unix.IPPROTO_TCP,
		len(t)), t))
	return inIP(s.from.Addr(), s.to.Addr(), unix.IPPROTO_TCP, t)
}

// datagram is a packet of UDP. Its data asks a server for 8 bytes.
func datagram(from, to netip.AddrPort) []byte {
	u := be.AppendUint16(be.AppendUint16(nil, from.Port()), to.Port())
	u = append(u, 0, 16, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0)
	be.PutUint16(u[6:], checksum(pseudo(from.Addr(), to.Addr(), unix.IPPROTO_UDP, len(u)), u))
	return inIP(from.Addr(), to.Addr(), unix.IPPROTO_UDP, u)
}

// echo is a request of ping.
func echo(from, to netip.Addr, id uint16) []byte {
	b := []byte{8, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}
	if from.Is4() {
		be.PutUint16(b[2:], checksum(b))
		return inIP(from, to, unix.IPPROTO_ICMP, b)
	}
	b[0] = 128
	be.PutUint16(b[2:], checksum(pseudo(from, to, unix.IPPROTO_ICMPV6, len(b)), b))
	return inIP(from, to, unix.IPPROTO_ICMPV6, b)
}

// inIP puts a payload into a packet of either family.
func inIP(from, to netip.Addr, protocol byte, payload []byte) []byte {
	if from.Is4() {
		return in4(from, to, protocol, nil, 0, payload)
	}
	return in6(from, to, protocol, payload)
}

func in6(from, to netip.Addr, next byte, payload []byte) []byte {
	b := be.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(len(payload)))
	b = append(append(b, next, 63), from.AsSlice()...)
	return append(append(b, to.AsSlice()...), payload...)
}

// in4 has options, and offset is the field of fragments.
func in4(from, to netip.Addr, protocol byte, options []byte, offset uint16, payload []byte) []byte {
	h := []byte{4<<4 | byte(5+len(options)/4), 0}
	h = be.AppendUint16(h, uint16(20+len(options)+len(payload)))
	h = be.AppendUint16(be.AppendUint16(h, 0x4242), offset)
	h = append(append(h, 63, protocol, 0, 0), from.AsSlice()...)
	h = append(append(h, to.AsSlice()...), options...)
	be.PutUint16(h[10:], checksum(h))
	return append(h, payload...)
}

// framed puts a packet into a frame, with a VLAN tag unless that is -1.
func framed(to, from []byte, tag int, packet []byte) []byte {
	f := append(append([]byte{}, to...), from...)
	if tag >= 0 {
		f = be.AppendUint16(append(f, 0x81, 0), uint16(tag))
	}
	ether := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		ether = unix.ETH_P_IPV6
	}
	return append(be.AppendUint16(f, ether), packet...)
}

// sender sends frames on a link.
type sender struct {
	t  testing.TB
	fd int
	to *unix.SockaddrLinklayer
}

func newSender(t testing.TB, ns *nstest.NS, link string) *sender {
	t.Helper()
	s := &sender{t: t}
	var err error
	ns.Do(func() {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		s.to = &unix.SockaddrLinklayer{Ifindex: indexOf(link)}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// close closes it once: its number may be that of another test's socket later.
func (s *sender) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

func (s *sender) send(frames ...[]byte) {
	s.t.Helper()
	for _, f := range frames {
		if err := unix.Sendto(s.fd, f, 0, s.to); err != nil {
			s.t.Fatal(err)
		}
	}
}

// indexOf returns the number of a link of the namespace that it is called in.
func indexOf(link string) int {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return 0
	}
	return i.Index
}

// macOf returns the MAC of a link.
func macOf(t testing.TB, ns *nstest.NS, link string) (mac net.HardwareAddr) {
	t.Helper()
	var i *net.Interface
	var err error
	ns.Do(func() { i, err = net.InterfaceByName(link) })
	if err != nil {
		t.Fatal(err)
	}
	return i.HardwareAddr
}
