package lasthop

import (
	"errors"
	"fmt"
	"net/netip"

	"lasthop/routing"

	"github.com/cilium/ebpf"
)

// Flow returns the entry that answers what the host sends from local to remote:
// of a connection's two, that of Connections. ok is false if there is none, and
// the table's route answers. An entry whose hop is dead is returned as it is:
// see Dead.
func (m *Maps) Flow(remote, local netip.AddrPort, transport routing.Transport) (f Flow, ok bool,
	err error) {
	k := bpfKey{Remote: words(remote.Addr()), Local: words(local.Addr()),
		Rport: big(remote.Port()), Protocol: uint32(protocols[transport])}
	kinds := []Kind{Connections, Handshakes}
	if transport != routing.TCP {
		kinds = []Kind{Datagrams}
	}
	if transport != routing.ICMP {
		k.Lport = big(local.Port())
	}
	for _, kind := range kinds {
		var h bpfHop
		var moving bpfMoving
		if kind == Datagrams {
			err = m.maps.Any.Lookup(k, &moving)
			h = moving.Hop
		} else {
			err = m.of(kind).Lookup(k, &h)
		}
		if err == nil {
			return flowOf(kind, k, h), true, nil
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return f, false, fmt.Errorf("look up the flow: %w", err)
		}
	}
	return f, false, nil
}

// Stuff puts n made-up entries into the large maps.
func (m *Maps) Stuff(n int) error {
	keys := make([]bpfKey, n)
	hops, moving := make([]bpfHop, n), make([]bpfMoving, n)
	for i := range keys {
		keys[i] = bpfKey{Remote: [4]uint32{0, 0, 0xffff, uint32(i)}, Protocol: 6}
		hops[i].Link = 1
	}
	if n == 0 {
		return nil
	}
	_, err := m.maps.Tcp.BatchUpdate(keys, hops, nil)
	_, err2 := m.maps.Any.BatchUpdate(keys, moving, nil)
	return errors.Join(err, err2)
}

// Clear empties the maps of flows.
func (m *Maps) Clear() error {
	var errs []error
	for _, one := range []*ebpf.Map{m.maps.Tcp, m.maps.Any, m.maps.Syn, m.maps.Frags} {
		var at ebpf.MapBatchCursor
		keys := make([]bpfKey, batch)
		for {
			values := make([]byte, batch*int(one.ValueSize()))
			_, err := one.BatchLookupAndDelete(&at, keys, values, nil)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				break
			}
			if err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	return errors.Join(errs...)
}
