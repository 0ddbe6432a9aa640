package host

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errShort means that a message ended before its parts did.
var errShort = errors.New("message too short")

var native = binary.NativeEndian

// attr is one rtnetlink attribute: its type without flags, and its value.
type attr struct {
	kind  int
	value []byte
}

// attrs splits a sequence of attributes (struct rtattr, each padded to 4
// bytes).
func attrs(b []byte) ([]attr, error) {
	out := make([]attr, 0, 8) // most objects have no more
	for len(b) >= 4 {
		size := int(native.Uint16(b))
		if size < 4 || size > len(b) {
			return nil, errShort
		}
		out = append(out, attr{int(native.Uint16(b[2:]) & 0x3fff), b[4:size]})
		b = b[min(align(size), len(b)):]
	}
	if len(b) > 0 {
		return nil, errShort
	}
	return out, nil
}

// find returns the last attribute of a kind. If there is none, its number is 0
// and its string empty.
func find(list []attr, kind int) (found attr) {
	for _, a := range list {
		if a.kind == kind {
			found = a
		}
	}
	return found
}

func align(n int) int { return (n + 3) &^ 3 }

// uint reads a number of 1, 2 or 4 bytes; anything else is 0.
func (a attr) uint() uint32 {
	switch len(a.value) {
	case 1:
		return uint32(a.value[0])
	case 2:
		return uint32(native.Uint16(a.value))
	case 4:
		return native.Uint32(a.value)
	}
	return 0
}

// uint64 reads a number of 8 bytes; anything else is 0.
func (a attr) uint64() uint64 {
	if len(a.value) != 8 {
		return 0
	}
	return native.Uint64(a.value)
}

// big reads a number of 4 bytes in network order, as netfilter sends them.
func (a attr) big() uint32 {
	if len(a.value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.value)
}

// string reads a zero-terminated string.
func (a attr) string() string {
	for i, c := range a.value {
		if c == 0 {
			return string(a.value[:i])
		}
	}
	return string(a.value)
}

func (a attr) addr() (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(a.value)
	if !ok {
		return netip.Addr{}, errShort
	}
	return addr, nil
}

func (a attr) prefix(bits int) (netip.Prefix, error) {
	addr, err := a.addr()
	if err != nil {
		return netip.Prefix{}, err
	}
	return addr.Prefix(bits)
}

// header is a structure that a netlink message, or a part of one, begins with.
type header interface {
	unix.IfInfomsg | unix.IfAddrmsg | unix.RtMsg | unix.RtNexthop | unix.Nhmsg |
		unix.NexthopGrp |
		ruleHeader | tcm | unix.NdMsg | diagRequest | diagMessage | unix.Nfgenmsg | netconf
}

// bytesOf returns the memory of a header: the kernel's own form of it.
func bytesOf[H header](h *H) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Sizeof(*h))
}

// split reads a header from the start of b and returns the rest.
func split[H header](b []byte) (h H, rest []byte, err error) {
	into := bytesOf(&h)
	if len(b) < len(into) {
		return h, nil, errShort
	}
	return h, b[copy(into, b):], nil
}

// decode splits a message into its header and its attributes.
func decode[H header](b []byte) (h H, list []attr, err error) {
	h, rest, err := split[H](b)
	if err == nil {
		list, err = attrs(rest)
	}
	return h, list, err
}

// message builds a netlink payload: a header, then attributes.
type message struct{ data []byte }

func newMessage[H header](h H) message { return message{slices.Clone(bytesOf(&h))} }

func (m *message) put(kind int, value []byte) {
	m.data = native.AppendUint16(m.data, uint16(4+len(value)))
	m.data = native.AppendUint16(m.data, uint16(kind))
	m.data = append(m.data, value...)
	for len(m.data)%4 != 0 {
		m.data = append(m.data, 0)
	}
}

func (m *message) putUint32(kind int, v uint32) { m.put(kind, native.AppendUint32(nil, v)) }

// putNumber puts a number, unless it is 0.
func (m *message) putNumber(kind int, v uint32) {
	if v != 0 {
		m.putUint32(kind, v)
	}
}

// putString puts a string unless it is empty.
func (m *message) putString(kind int, s string) {
	if s != "" {
		m.put(kind, append([]byte(s), 0))
	}
}

// putAddr puts an address unless it is the zero Addr.
func (m *message) putAddr(kind int, a netip.Addr) {
	if a.IsValid() {
		m.put(kind, a.AsSlice())
	}
}
