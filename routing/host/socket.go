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
	Cgroup    uint64 // inode of its cgroup (v2), its creator's; 0 if the kernel does not say
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

const (
	// INET_DIAG_SKV6ONLY comes with every IPv6 socket that listens or is
	// not connected
	diagSKV6Only = 11
	diagCgroup   = 21 // INET_DIAG_CGROUP_ID, since Linux 5.9
)

func decodeSocket(b []byte) (Socket, bool) {
	h, list, err := decode[diagMessage](b)
	return Socket{Local: h.addrPort(h.local, h.localPort), Inode: h.inode,
		IPv6Only: find(list, diagSKV6Only).uint() != 0,
		Cgroup:   find(list, diagCgroup).uint64()}, err == nil
}
