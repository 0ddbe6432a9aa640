package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Session is one established TCP session of the host.
type Session struct{ Local, Remote netip.AddrPort }

// SessionGroup is a number of sessions that are routed alike: those of one
// local address with remote addresses that no route and no rule tells apart, of
// which Remote is one.
type SessionGroup struct {
	Local  netip.Addr `json:"local"`
	Remote netip.Addr `json:"remote"`
	Count  int        `json:"count"`
	Own    bool       `json:"own,omitempty"` // the user's own is one of them
}

// Sessions lists the established TCP sessions of the namespace. IPv4 sessions
// of IPv6 sockets have IPv4 addresses.
func (k *Kernel) Sessions() ([]Session, error) {
	var out []Session
	err := k.inside(func() error {
		for _, af := range []byte{unix.AF_INET, unix.AF_INET6} {
			err := diagnose(af, unix.IPPROTO_TCP, diagEstablished, func(msg []byte) {
				if s, ok := decodeSession(msg); ok {
					out = append(out, s)
				}
			})
			if err != nil {
				return fmt.Errorf("list TCP sessions: %w", err)
			}
		}
		return nil
	})
	return out, err
}

// Sizes and offsets of struct inet_diag_req_v2 and struct inet_diag_msg, and
// the states by their TCP_* numbers.
const (
	diagRequest     = 56
	diagMessage     = 72
	diagID          = 4 // of the socket's ports and addresses in the answer
	diagInode       = 68
	diagEstablished = 1 << 1
	diagClose       = 1 << 7 // a UDP socket that is not connected
	diagListen      = 1 << 10
)

// diagnose visits the sockets of a family and protocol that are in one of the
// states. The kernel filters: on a busy proxy most sockets are in others.
func diagnose(af, protocol byte, states uint32, each func(msg []byte)) error {
	body := make([]byte, diagRequest)
	body[0], body[1] = af, protocol
	native.PutUint32(body[4:], states)
	req := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddRawData(body)
	return req.ExecuteIter(unix.NETLINK_INET_DIAG, 0, func(msg []byte) bool {
		each(msg)
		return true
	})
}

func decodeSession(b []byte) (Session, bool) {
	if len(b) < diagMessage {
		return Session{}, false
	}
	size := 16
	if b[0] == unix.AF_INET {
		size = 4
	}
	id := b[diagID:]
	port := func(i int) uint16 { return binary.BigEndian.Uint16(id[i:]) }
	addr := func(i int) netip.Addr {
		a, _ := netip.AddrFromSlice(id[i : i+size])
		return a.Unmap()
	}
	return Session{netip.AddrPortFrom(addr(4), port(0)), netip.AddrPortFrom(addr(20), port(2))},
		true
}
