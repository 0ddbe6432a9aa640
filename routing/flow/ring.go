package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The ring: 512 KiB. A flood of 150,000 packets a second does not overrun it,
// since the sampling follows the flood.
const (
	blockBytes = 32 << 10
	blocks     = 16
	frameBytes = 2 << 10
	// retire is how long a packet may wait in a block that is not full.
	retire = 60 * time.Millisecond
)

// ring is a socket that sees every link of its namespace, and the memory that
// the kernel puts frames into (TPACKET_V3).
type ring struct {
	fd   int
	mem  []byte
	next int // block
}

// openRing opens a ring in the namespace of the calling thread. It binds the
// socket only after the filter is attached: nothing unfiltered ever arrives.
// Without CAP_NET_RAW the error is unix.EPERM.
func openRing(filter *filterSpec) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET,
		unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	r := &ring{fd: fd}
	if err := r.prepare(filter); err != nil {
		r.close()
		return nil, fmt.Errorf("prepare packet socket: %w", err)
	}
	return r, nil
}

func (r *ring) prepare(filter *filterSpec) (err error) {
	if err := r.fit(filter); err != nil {
		return err
	}
	err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3)
	if err != nil {
		return err
	}
	err = unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING,
		&unix.TpacketReq3{Block_size: blockBytes, Block_nr: blocks, Frame_size: frameBytes,
			Frame_nr:       blocks * blockBytes / frameBytes,
			Retire_blk_tov: uint32(retire.Milliseconds())})
	if err != nil {
		return err
	}
	r.mem, err = unix.Mmap(r.fd, 0, blocks*blockBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		return err
	}
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	return unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all)})
}

// fit attaches the first filter, so that the kernel has room for the next one
// in addition. If the kernel has no room (net.core.optmem_max, 20 kB before
// Linux 6.7), the spec gets a smaller filter. The socket receives nothing yet.
func (r *ring) fit(s *filterSpec) error {
	for {
		program, err := s.assemble()
		for range 2 {
			if err == nil {
				err = r.attach(program)
			}
		}
		if !errors.Is(err, unix.ENOMEM) || !s.shrink() {
			return err
		}
		_ = unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}
}

// filter replaces the filter.
func (r *ring) filter(s *filterSpec) error {
	program, err := s.assemble()
	if err != nil {
		return err
	}
	return r.attach(program)
}

func (r *ring) attach(program []bpf.RawInstruction) error {
	list := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		list[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(list)), Filter: &list[0]})
	if err != nil {
		return fmt.Errorf("attach filter of %d instructions: %w", len(list), err)
	}
	return nil
}

// join makes a NIC pass a multicast group of Ethernet.
func (r *ring) join(link int, group [6]byte) error {
	m := unix.PacketMreq{Ifindex: int32(link), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(m.Address[:], group[:])
	return unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m)
}

// drops returns how many wanted packets found no room since the last call.
func (r *ring) drops() int {
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int(s.Drops)
}

func (r *ring) close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem) // of lasthop's own memory: cannot fail
	}
	unix.Close(r.fd)
}

// wait waits until a block may be ready.
func (r *ring) wait(d time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, int(d.Milliseconds()))
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err == nil && fds[0].Revents&unix.POLLERR != 0:
		// A link went down: read the error, which clears it.
		_, _ = unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return nil
	}
	return err
}

// Where things are in a block and in a frame (linux/if_packet.h).
const (
	blockStatus  = 8 // of tpacket_block_desc
	blockPackets = 12
	blockFirst   = 16

	frameNext     = 0 // of tpacket3_hdr
	frameSeconds  = 4
	frameNanos    = 8
	frameKept     = 12
	frameLength   = 16
	frameStatus   = 20
	frameMAC      = 24
	frameNet      = 26
	frameTag      = 32
	frameAddress  = 48 // sockaddr_ll
	frameProtocol = frameAddress + 2
	frameLink     = frameAddress + 4
	frameHAType   = frameAddress + 8
	frameType     = frameAddress + 10
)

// status is the word by which the kernel and the program pass a block.
func (r *ring) status() *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[r.next*blockBytes+blockStatus]))
}

// block passes the frames of the next block to take, and the block back to the
// kernel. It returns false if there is none.
func (r *ring) block(take func(Meta, []byte)) bool {
	if atomic.LoadUint32(r.status())&unix.TP_STATUS_USER == 0 {
		return false
	}
	b := r.mem[r.next*blockBytes : (r.next+1)*blockBytes]
	n, at := u32(b[blockPackets:]), int(u32(b[blockFirst:]))
	for range n {
		frame(b[at:], take)
		at += int(u32(b[at+frameNext:]))
	}
	atomic.StoreUint32(r.status(), unix.TP_STATUS_KERNEL)
	r.next = (r.next + 1) % blocks
	return true
}

func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// frame reads one frame of a block.
func frame(b []byte, take func(Meta, []byte)) {
	mac, net := int(u16(b[frameMAC:])), int(u16(b[frameNet:]))
	m := Meta{At: time.Duration(u32(b[frameSeconds:]))*time.Second +
		time.Duration(u32(b[frameNanos:])),
		Link: int(u32(b[frameLink:])), Type: b[frameType], HAType: u16(b[frameHAType:]),
		Proto: be16(b[frameProtocol:]), Header: net - mac,
		Length: int(u32(b[frameLength:]))}
	if u32(b[frameStatus:])&unix.TP_STATUS_VLAN_VALID != 0 {
		m.Tag = u16(b[frameTag:])
	}
	take(m, b[mac:mac+int(u32(b[frameKept:]))])
}
