package lasthop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"time"
	"unsafe"

	"lasthop/routing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Maps are the maps that the programs share, open in this process. Every method
// asks the kernel, and none stops the programs: a reading spans several
// moments. Errors wrap the kernel's errno.
type Maps struct{ maps bpfMaps }

// Maps opens the newest maps that are pinned at the place. The error is
// fs.ErrNotExist if there are none, and fs.ErrPermission if this process may
// not read them.
func (p Place) Maps() (*Maps, error) { return p.mapsOf(p.pinned()) }

// mapsOf opens those of a generation; 0 has none.
func (p Place) mapsOf(n int) (*Maps, error) {
	m := &Maps{}
	if n == 0 {
		_, err := os.ReadDir(p.Root)
		if !errors.Is(err, fs.ErrPermission) {
			err = fs.ErrNotExist
		}
		return nil, fmt.Errorf("open the maps: %w", err)
	}
	for name, to := range m.byName() {
		one, err := ebpf.LoadPinnedMap(filepath.Join(p.folder(n), name), nil)
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("open the map %s: %w", name, err)
		}
		*to = one
	}
	return m, nil
}

func (m *Maps) byName() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{bpfMapAny: &m.maps.Any, bpfMapConf: &m.maps.Conf,
		bpfMapCounts: &m.maps.Counts, bpfMapDead: &m.maps.Dead, bpfMapFrags: &m.maps.Frags,
		bpfMapHops: &m.maps.Hops, bpfMapSyn: &m.maps.Syn, bpfMapTcp: &m.maps.Tcp,
		bpfMapWanted: &m.maps.Wanted}
}

// Close closes them. Those that are pinned or in use stay in the kernel.
func (m *Maps) Close() error {
	if m == nil {
		return nil
	}
	return m.maps.Close()
}

// Counts are the programs' counters since the maps were made. They only grow,
// and begin at 0 with new maps.
type Counts struct {
	Learned uint64 // connections, UDP flows and echoes whose router was noted
	Moved   uint64 // those that went over to another router
	// segments and datagrams by another router that did not move a flow
	Refused  uint64
	Answered uint64 // packets that left by the router of their request
	// packets of listeners that left by the route, because no router was
	// known
	ByTable uint64
	Dead    uint64 // packets whose router was dead
}

// Counts returns the counters, summed over all processors.
func (m *Maps) Counts() (c Counts, err error) {
	for i, to := range []*uint64{&c.Learned, &c.Moved, &c.Refused, &c.Answered, &c.ByTable,
		&c.Dead} {
		var each []uint64
		if err := m.maps.Counts.Lookup(uint32(i), &each); err != nil {
			return c, fmt.Errorf("read the counters: %w", err)
		}
		for _, n := range each {
			*to += n
		}
	}
	return c, nil
}

// Noted is the time of the last connection that a hop brought, or that moved to
// it.
type Noted struct {
	At     time.Time
	Client netip.Addr // the client of that request
}

// Hops returns the routers that requests came by, and the last note of each. At
// most 4,096 are kept.
func (m *Maps) Hops() (map[Hop]Noted, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	now, clock := time.Now(), ts.Nano()
	hops := map[Hop]Noted{}
	var h bpfHop
	var last bpfNoted
	entries := m.maps.Hops.Iterate()
	for entries.Next(&h, &last) {
		hops[hopOf(h)] = Noted{now.Add(time.Duration(int64(last.Seen) - clock)),
			addrOf(last.Flow.Remote)}
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("read the hops: %w", err)
	}
	return hops, nil
}

// Dead returns the hops that are dead, as SetDead set them.
func (m *Maps) Dead() (map[Hop]Hop, error) {
	dead := map[Hop]Hop{}
	var from, to bpfHop
	entries := m.maps.Dead.Iterate()
	for entries.Next(&from, &to) {
		dead[hopOf(from)] = hopOf(to)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the dead hops: %w", err)
	}
	return dead, nil
}

// SetDead replaces the set of dead hops, each with the hop that stands in for
// it. The zero Hop stands for the table's route. A hop that stands in must not
// be dead: it is not looked up again. It writes only differences. At most 1,024
// can be dead.
func (m *Maps) SetDead(dead map[Hop]Hop) error {
	old, err := m.Dead()
	if err != nil {
		return err
	}
	for from, to := range dead { // first, so that no hop is dead without its stand-in
		if was, ok := old[from]; ok && was == to {
			continue
		}
		if err := m.maps.Dead.Put(from.bpf(), to.bpf()); err != nil {
			return fmt.Errorf("write a dead hop: %w", err)
		}
	}
	if err := m.maps.Conf.Put(uint32(0), uint32(len(dead))); err != nil {
		return fmt.Errorf("write how many hops are dead: %w", err)
	}
	for from := range old {
		if _, ok := dead[from]; ok {
			continue
		}
		err := m.maps.Dead.Delete(from.bpf())
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a dead hop: %w", err)
		}
	}
	return nil
}

// Kind is the map that an entry is in.
type Kind string

const (
	Connections Kind = bpfMapTcp // TCP that a socket here has accepted a segment of
	Handshakes  Kind = bpfMapSyn // TCP before that, and segments without a socket
	Datagrams   Kind = bpfMapAny // UDP and echo
)

// Flow is an entry of one of those maps.
type Flow struct {
	Kind      Kind
	Transport routing.Transport // TCP, UDP or ICMP
	// for ICMP, the remote port is the identifier of the echo, and the
	// local port 0
	Remote, Local netip.AddrPort
	Hop           Hop // that answers
}

func (m *Maps) of(k Kind) *ebpf.Map { return *m.byName()[string(k)] }

// Each calls f for the entries of all three maps, until it returns false. It
// reads some hundred bytes an entry: 0.3 s for a million.
func (m *Maps) Each(f func(Flow) bool) error {
	more := true
	look := func(kind Kind) func(bpfKey, bpfHop) bool {
		return func(k bpfKey, h bpfHop) bool {
			more = f(flowOf(kind, k, h))
			return more
		}
	}
	for _, kind := range []Kind{Connections, Handshakes} {
		if err := each(m.of(kind), look(kind)); err != nil || !more {
			return err
		}
	}
	datagrams := look(Datagrams)
	return each(m.maps.Any, func(k bpfKey, v bpfMoving) bool { return datagrams(k, v.Hop) })
}

// FlowsByHop counts the entries of each hop. It reads all, as Each does.
func (m *Maps) FlowsByHop() (map[Hop]map[Kind]int, error) {
	n := map[Hop]map[Kind]int{}
	err := m.Each(func(f Flow) bool {
		if n[f.Hop] == nil {
			n[f.Hop] = map[Kind]int{}
		}
		n[f.Hop][f.Kind]++
		return true
	})
	return n, err
}

// batch is how many entries one call reads: more than a bucket ever has.
const batch = 4096

// each reads a map in batches. It may see or miss entries that are added or
// removed during the call.
func each[V any](m *ebpf.Map, f func(bpfKey, V) bool) error {
	var at ebpf.MapBatchCursor
	keys, values := make([]bpfKey, batch), make([]V, batch)
	for {
		n, err := m.BatchLookup(&at, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read the flows: %w", err)
		}
		for i := range n {
			if !f(keys[i], values[i]) {
				return nil
			}
		}
		if err != nil {
			return nil // that was the last batch
		}
	}
}

// Memory returns the kernel memory of the maps, in bytes. Before Linux 6.4 it
// is an estimate of the kernel's. Without the line in fdinfo it is 0.
func (m *Maps) Memory() (total uint64, err error) {
	for _, one := range m.byName() {
		info, err := (*one).Info()
		if err != nil {
			return 0, fmt.Errorf("ask for the memory of a map: %w", err)
		}
		n, _ := info.Memlock()
		total += n
	}
	return total, nil
}

// take copies the flows and hops of other maps, as many as there is room for;
// entries that these maps have already are newer. A map that cannot be read is
// not copied.
func (m *Maps) take(old *Maps) {
	add := func(to *ebpf.Map, key, value any) bool {
		err := to.Update(key, value, ebpf.UpdateNoExist)
		return err == nil || errors.Is(err, ebpf.ErrKeyExist)
	}
	for _, kind := range []Kind{Connections, Handshakes} {
		_ = each(old.of(kind), func(k bpfKey, h bpfHop) bool {
			return add(m.of(kind), k, h)
		})
	}
	_ = each(old.maps.Any, func(k bpfKey, v bpfMoving) bool {
		return add(m.maps.Any, k, v)
	})
	var h bpfHop
	var last bpfNoted
	for entries := old.maps.Hops.Iterate(); entries.Next(&h, &last); {
		if !add(m.maps.Hops, h, last) {
			break
		}
	}
}

// Fill estimates how full a map is, from 0 to 1. Entries are never removed; the
// oldest is replaced if there is no room. So a full map is no fault by itself.
// It is one if Counts.ByTable grows meanwhile: then entries of live connections
// were replaced. It looks at some 4,096 entries of a large map.
func (m *Maps) Fill(k Kind) (float64, error) {
	one := m.of(k)
	size := int(one.MaxEntries())
	buckets := 1
	for buckets < size {
		buckets *= 2 // as htab_map_alloc does in kernel/bpf/hashtab.c
	}
	keys, values := make([]byte, batch*int(one.KeySize())), make([]byte,
		batch*int(one.ValueSize()))
	var next uint32
	var pin runtime.Pinner
	defer pin.Unpin()
	address := func(p any) uint64 { pin.Pin(p); return uint64(reflect.ValueOf(p).Pointer()) }
	attr := struct {
		in, out, keys, values uint64
		count, fd             uint32
		elemFlags, flags      uint64
	}{out: address(&next), keys: address(&keys[0]), values: address(&values[0]), count: batch,
		fd: uint32(one.FD())}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_LOOKUP_BATCH,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch errno {
	case 0: // next is the number of buckets that were read
	case unix.ENOENT:
		next = uint32(buckets)
	default:
		return 0, fmt.Errorf("read the map %s: %w", k, errno)
	}
	return min(1, float64(attr.count)/float64(next)*float64(buckets)/float64(size)), nil
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Hop is the next hop of a reply: the addresses of the frame that brought the
// request, swapped.
type Hop struct {
	Link        uint32
	Router, Own MAC
}

func (h Hop) bpf() bpfHop { return bpfHop{Link: h.Link, Router: h.Router, Ours: h.Own} }

func hopOf(h bpfHop) Hop { return Hop{Link: h.Link, Router: h.Router, Own: h.Ours} }

func flowOf(kind Kind, k bpfKey, h bpfHop) Flow {
	f := Flow{Kind: kind, Remote: netip.AddrPortFrom(addrOf(k.Remote), big(k.Rport)),
		Local: netip.AddrPortFrom(addrOf(k.Local), big(k.Lport)), Hop: hopOf(h)}
	f.Transport = transportOf(uint16(k.Protocol))
	return f
}

func transportOf(number uint16) routing.Transport {
	for t, n := range protocols {
		if n == number {
			return t
		}
	}
	return ""
}

// Reading is what the programs have done until a moment.
type Reading struct {
	At     time.Time
	Counts Counts
	Hops   map[Hop]Noted
}

// Read reads counters and hops.
func (m *Maps) Read() (r Reading, err error) {
	r.At = time.Now()
	if r.Counts, err = m.Counts(); err == nil {
		r.Hops, err = m.Hops()
	}
	return r, err
}

// Seen reports whether a connection was noted by a link after a moment.
func (r Reading) Seen(link uint32, after time.Time) bool {
	for hop, noted := range r.Hops {
		if hop.Link == link && noted.At.After(after) {
			return true
		}
	}
	return false
}

// blindness is how many packets of listeners have to leave by the table before
// Blind reports anything: a single one may be a late reply.
const blindness = 3

// Blind reports whether no packet seems to reach the filter of a link: between
// two readings replies of listeners left by the table, because no router was
// known, and the filter learned nothing. If another program stands in front of
// lasthop's on the link, that program ends the chain, or no client has come by
// the link. Without a program in front, no client has come by the link.
func Blind(from, to Reading, link uint32) bool {
	return !to.Seen(link, from.At) && to.Counts.ByTable >= from.Counts.ByTable+blindness
}
