package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"lasthop/routing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sessions lists the established TCP sessions of the namespace. IPv4 sessions
// of IPv6 sockets have IPv4 addresses.
func (k *Kernel) Sessions() (out []routing.Session, err error) {
	err = k.sessions("TCP sessions", diagEstablished, func(h diagMessage) {
		out = append(out, h.session())
	})
	return out, err
}

// HalfOpen lists the TCP sessions whose client has not answered the SYN-ACK
// yet. Any sender of packets can create some, from any address.
func (k *Kernel) HalfOpen() (out []routing.HalfOpen, err error) {
	err = k.sessions("half-open TCP sessions", diagSynReceived, func(h diagMessage) {
		out = append(out, routing.HalfOpen{Session: h.session(), Repeats: int(h.repeats)})
	})
	return out, err
}

// sessions visits the TCP sessions in a state. Errors name them as what.
func (k *Kernel) sessions(what string, state uint32, each func(diagMessage)) error {
	return k.inside(func() error {
		for _, af := range []byte{unix.AF_INET, unix.AF_INET6} {
			err := diagnose(af, unix.IPPROTO_TCP, state, func(msg []byte) {
				if h, _, err := split[diagMessage](msg); err == nil {
					each(h)
				}
			})
			if err != nil {
				return fmt.Errorf("list %s: %w", what, err)
			}
		}
		return nil
	})
}

// States of sockets by their TCP_* numbers, as bits.
const (
	diagEstablished = 1 << 1
	diagSynReceived = 1 << 3
	diagClose       = 1 << 7 // a UDP socket that is not connected
	diagListen      = 1 << 10
)

// diagRequest is struct inet_diag_req_v2; without an id it asks for all.
type diagRequest struct {
	family, protocol, _, _ uint8
	states                 uint32
	_                      [48]byte // the id of one socket
}

// diagMessage is struct inet_diag_msg.
type diagMessage struct {
	family, _, _, repeats uint8
	localPort, remotePort [2]byte
	local, remote         [16]byte
	_                     [7]uint32
	inode                 uint32
}

// diagnose visits the sockets of a family and protocol that are in one of the
// states. The kernel filters: on a busy proxy most sockets are in other states.
func diagnose(af, protocol byte, states uint32, each func(msg []byte)) error {
	m := newMessage(diagRequest{family: af, protocol: protocol, states: states})
	req := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddRawData(m.data)
	return req.ExecuteIter(unix.NETLINK_INET_DIAG, 0, func(msg []byte) bool {
		each(msg)
		return true
	})
}

func (h diagMessage) session() routing.Session {
	return routing.Session{Local: h.addrPort(h.local, h.localPort),
		Remote: h.addrPort(h.remote, h.remotePort)}
}

func (h diagMessage) addrPort(ip [16]byte, port [2]byte) netip.AddrPort {
	addr := netip.AddrFrom16(ip).Unmap()
	if h.family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(ip[:4]))
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port[:]))
}
