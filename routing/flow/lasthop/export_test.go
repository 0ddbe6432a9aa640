package lasthop

import (
	"errors"

	"github.com/cilium/ebpf"
)

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
