package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Ask asks the kernel which way packets of its own take, and returns an answer
// for each query. A reject route is a Way with its type, if the kernel reports
// the type. For IPv4 it reports EHOSTUNREACH (unreachable), EACCES (prohibit)
// and EINVAL (blackhole, or an impossible source). ENETUNREACH is the zero Way:
// for no route, for an `unreachable` rule, and for an IPv4 source that is not
// assigned here. Ask stops at the first error.
func (k *Kernel) Ask(qs []routing.Query) ([]routing.Way, error) {
	r := &reading{conn: &k.conn}
	ways := make([]routing.Way, len(qs))
	for i, q := range qs {
		var err error
		if ways[i], err = r.ask(q); err != nil {
			return nil, err
		}
	}
	return ways, nil
}

// ask asks for one way. It reads the links if they were not read, and again if
// the answer names a new one.
func (r *reading) ask(q routing.Query) (routing.Way, error) {
	if err := r.needLinks(); err != nil {
		return routing.Way{}, err
	}
	m, err := encodeQuery(q, r.index)
	if err != nil {
		return routing.Way{}, err
	}
	msgs, err := r.request(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, m.data)
	if err != nil {
		return refused(err)
	}
	if len(msgs) == 0 {
		return routing.Way{}, errors.New("ask for a route: no answer")
	}
	w, err := answer(msgs[0], r.names)
	if errors.Is(err, errNewLink) {
		if err := r.readLinks(); err != nil {
			return routing.Way{}, err
		}
		w, err = answer(msgs[0], r.names)
	}
	return w, err
}

// encodeQuery writes the payload of RTM_GETROUTE.
func encodeQuery(q routing.Query, index map[string]int) (message, error) {
	family := routing.FamilyOf(q.Dst)
	h := unix.RtMsg{Family: afOf(family), Dst_len: uint8(family.Bits())}
	if family == routing.IPv4 {
		// IPv6 always returns the table, and refuses the flag when it
		// checks strictly.
		h.Flags = unix.RTM_F_LOOKUP_TABLE
	}
	if q.Src.IsValid() {
		h.Src_len = uint8(family.Bits())
	}
	m := newMessage(h)
	m.putAddr(unix.RTA_DST, q.Dst)
	m.putAddr(unix.RTA_SRC, q.Src)
	if q.OIF != "" {
		if index[q.OIF] == 0 {
			return m, fmt.Errorf("find link %s: %w", q.OIF, unix.ENODEV)
		}
		m.putUint32(unix.RTA_OIF, uint32(index[q.OIF]))
	}
	m.putNumber(unix.RTA_MARK, q.Mark)
	if q.Proto != 0 { // else the kernel assumes UDP
		m.put(unix.RTA_IP_PROTO, []byte{q.Proto})
		m.put(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, q.Sport))
		m.put(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.Dport))
	}
	return m, nil
}

func refused(err error) (routing.Way, error) {
	for errno, t := range map[error]routing.RouteType{
		unix.EHOSTUNREACH: routing.Unreachable, unix.EACCES: routing.Prohibit,
		unix.EINVAL: routing.Blackhole, unix.ENETUNREACH: 0} {
		if errors.Is(err, errno) {
			return routing.Way{Type: t}, nil
		}
	}
	return routing.Way{}, fmt.Errorf("ask for a route: %w", err)
}

// answer reads the reply to RTM_GETROUTE: a route with one next hop, flagged as
// cloned.
func answer(b []byte, n names) (routing.Way, error) {
	h, list, err := decode[unix.RtMsg](b)
	if err != nil {
		return routing.Way{}, fmt.Errorf("ask for a route: %w", err)
	}
	w := routing.Way{Type: routing.RouteType(h.Type), Table: uint32(h.Table)}
	for _, a := range list {
		switch a.kind {
		case unix.RTA_TABLE:
			w.Table = a.uint()
		case unix.RTA_OIF:
			if w.Link, err = n.link(a.uint()); err != nil {
				return w, fmt.Errorf("find link %d: %w", a.uint(), err)
			}
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			if w.Via, err = gatewayOf(a); err != nil {
				return w, err
			}
		case unix.RTA_ENCAP:
			w.LastHop = answerOf(a.value) != ""
		}
	}
	switch {
	case w.Type == routing.Local:
		w.Link, w.Via = "lo", netip.Addr{}
	case w.Type.Rejects():
		w.Link, w.Via = "", netip.Addr{}
	}
	return w, nil
}
