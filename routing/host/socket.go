package host

import (
	"fmt"
	"net/netip"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Socket is one that waits for clients: a TCP socket that listens, or a UDP
// socket that is not connected.
type Socket struct {
	Local     netip.AddrPort // 0.0.0.0 and :: are the wildcards
	Transport routing.Transport
	IPv6Only  bool   // an IPv6 socket that takes no IPv4
	Inode     uint32 // as in the links of /proc/PID/fd: socket:[INODE]
}

// Sockets lists the open sockets of the namespace. It needs no privilege.
func (k *Kernel) Sockets() ([]Socket, error) {
	var out []Socket
	err := k.inside(func() error {
		for _, af := range []byte{unix.AF_INET, unix.AF_INET6} {
			for _, kind := range []struct {
				protocol  byte
				states    uint32
				transport routing.Transport
			}{{unix.IPPROTO_TCP, diagListen, routing.TCP},
				{unix.IPPROTO_UDP, diagClose, routing.UDP}} {
				err := diagnose(af, kind.protocol, kind.states, func(msg []byte) {
					if s, ok := decodeSocket(msg); ok {
						s.Transport = kind.transport
						out = append(out, s)
					}
				})
				if err != nil {
					return fmt.Errorf("list %s sockets: %w",
						kind.transport, err)
				}
			}
		}
		return nil
	})
	return out, err
}

// diagSKV6Only is the number of INET_DIAG_SKV6ONLY, which comes with every IPv6
// socket that listens or is not connected.
const diagSKV6Only = 11

func decodeSocket(b []byte) (Socket, bool) {
	h, list, err := decode[diagMessage](b)
	return Socket{Local: h.addrPort(h.local, h.localPort), Inode: h.inode,
		IPv6Only: find(list, diagSKV6Only).uint() != 0}, err == nil
}
