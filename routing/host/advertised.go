package host

import (
	"fmt"
	"unsafe"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// in6RTMsg is struct in6_rtmsg of include/uapi/linux/ipv6_route.h.
type in6RTMsg struct {
	dst, src, gateway [16]byte
	kind              uint32
	dstLen, srcLen    uint16
	metric            uint32
	info              uintptr
	flags             uint32
	index             int32
}

// addAdvertised adds an IPv6 route to main as a router's advertisement would.
// Netlink cannot express such a route; the older ioctl can.
func addAdvertised(r routing.Route, index int) error {
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(s)
	const preference = 27 // RTF_PREF(pref): ICMPV6_ROUTER_PREF_*, 1 high, 3 low
	m := in6RTMsg{dst: r.Dst.Addr().As16(), gateway: r.Hops[0].Via.As16(), kind: uint32(r.Type),
		dstLen: uint16(r.Dst.Bits()), metric: r.Metric,
		flags: unix.RTF_UP | unix.RTF_GATEWAY | unix.RTF_ADDRCONF |
			uint32(uint8(r.Pref)&3)<<preference,
		index: int32(index)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCADDRT,
		uintptr(unsafe.Pointer(&m))); errno != 0 {
		return errno
	}
	return nil
}
