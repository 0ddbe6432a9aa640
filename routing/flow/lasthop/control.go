package lasthop

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lasthop/routing"

	"github.com/cilium/ebpf"
	ebpflink "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Control holds the programs of one network namespace for package host: it
// finds maps that are pinned, and loads the programs when a route or filter
// needs them. It is not safe for concurrent use.
type Control struct {
	Place Place
	Flows int // the size of the large maps; 0 is routing.DefaultFlows
	// treat a kernel as fixed if its fix is unknown
	Trust bool
	// the process stays, so maps need no pins; with neither pins nor a
	// lasting process the mode is not available
	Stays  bool
	open   *Programs
	pinned *Maps // as fitting found them
	// that were attached at the last call of Support, and that were
	// returned since
	tags []string
	// why the programs could not be loaded; nil if they were, or if they
	// were not needed yet
	fault  error
	failed time.Time
}

// again is when to retry programs that could not be loaded, for example for
// lack of memory. What the verifier refuses, it refuses for ever.
const again = time.Minute

// Support reports whether the mode is available: see host.LastHop. The kernel's
// refusal of a program is known only after an attempt to load it.
func (c *Control) Support(attached []string) routing.LastHopSupport {
	c.tags = attached
	_ = c.letGo()
	var refused *ebpf.VerifierError
	if c.fault != nil && time.Since(c.failed) > again && !errors.As(c.fault, &refused) {
		c.fault = nil
	}
	s := routing.LastHopSupport{Known: true}
	if c.open != nil {
		s.Tag = c.open.Tag()
	} else {
		s.Tag = c.Place.Tag(attached, c.flows())
	}
	kernel, noPins := running().lacks(c.Trust), c.Place.usable()
	switch rights := capabilities(); {
	case len(attached) > 0 && c.open == nil && !rights.has(unix.CAP_BPF):
		// it stays: this process sees no maps, and can do nothing
		s.Tag, s.Known = newest(attached), false
	case !rights.has(unix.CAP_NET_ADMIN):
		s.Known = false // a process that only reads
	case c.fault != nil:
		s.Missing = c.fault.Error()
	case kernel != "":
		s.Missing = kernel
	case !rights.has(unix.CAP_BPF):
		s.Missing = "the right to load programs (CAP_BPF)"
	case c.open != nil || c.Stays || noPins == nil:
	case len(attached) > 0: // by a process that stays: its maps are its own
		s.Tag, s.Known = newest(attached), false
	default:
		s.Missing = fmt.Sprintf("a place where maps outlive this command: %v", noPins)
	}
	return s
}

// Resize gives the large maps another size from the next write on. It copies
// their entries.
func (c *Control) Resize(flows int) error {
	if c.Flows == flows {
		return nil
	}
	c.Flows = flows
	return c.Close()
}

func (c *Control) flows() int {
	return cmp.Or(c.Flows, routing.DefaultFlows)
}

// running is the kernel that runs: it stays the same.
var running = sync.OnceValue(Running)

// rights is a set of capabilities.
type rights [2]unix.CapUserData

func (r rights) has(capability int) bool {
	bit := func(c int) bool { return r[c/32].Effective&(1<<(c%32)) != 0 }
	return bit(capability) || capability == unix.CAP_BPF && bit(unix.CAP_SYS_ADMIN)
}

// capabilities returns those of the process.
func capabilities() (r rights) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_ = unix.Capget(&header, &r[0]) // it only fails for a wrong version
	return r
}

// Load loads the programs unless they are.
func (c *Control) Load() error {
	_, err := c.load()
	return err
}

// Learn loads the programs unless they are: see host.LastHop.
func (c *Control) Learn() (program int, tag string, err error) {
	return c.give((*Programs).Learn)
}

// Answer loads the programs unless they are: see host.LastHop. At its first
// call after the maps were made, it copies the entries of other maps. If there
// are none to copy, it waits until the filter has seen most open connections.
func (c *Control) Answer() (program int, tag string, err error) {
	return c.give((*Programs).Answer)
}

// give returns one of the programs, which may be attached from now on.
func (c *Control) give(of func(*Programs) int) (program int, tag string, err error) {
	p, err := c.load()
	if err != nil {
		return 0, "", err
	}
	if !slices.Contains(c.tags, p.Tag()) {
		c.tags = append(c.tags, p.Tag())
	}
	return of(p), p.Tag(), nil
}

func (c *Control) load() (*Programs, error) {
	if c.open != nil {
		return c.open, nil
	}
	p, err := Open(c.Place, c.flows(), c.tags)
	if c.fault = err; err != nil {
		c.failed = time.Now()
		return nil, err
	}
	c.open = p
	return p, nil
}

// InFront asks for the tcx programs of a link: see host.LastHop. tc does not
// show them.
func (c *Control) InFront(link int) (names []string) {
	r, err := ebpflink.QueryPrograms(ebpflink.QueryOptions{Target: link,
		Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil // the kernel is older than 6.6, or the link is gone
	}
	for _, attached := range r.Programs {
		name := "" // only CAP_SYS_ADMIN may ask for it
		if p, err := ebpf.NewProgramFromID(attached.ID); err == nil {
			if info, err := p.Info(); err == nil {
				name = info.Name
			}
			p.Close()
		}
		names = append(names, name)
	}
	return names
}

// Note returns what the log should say of the maps, once; "" if there is
// nothing to say.
func (c *Control) Note() string {
	switch {
	case c.open == nil:
		return ""
	case c.open.Unpinned != nil:
		return fmt.Sprintf("the maps are not pinned, they end with the routes: %v",
			c.open.Unpinned)
	case c.open.Fresh != nil:
		return fmt.Sprintf("the maps are new, with what can be read of the pinned ones: %v",
			c.open.Fresh)
	}
	return ""
}

// Attached says that the routes and filters of the last call of Support, and
// those returned since, are all that there are. If they have the loaded
// programs, it removes all other pins; if there are none, it removes all pins.
func (c *Control) Attached() error {
	if len(c.tags) == 0 && c.Place.pinned() > 0 {
		return c.Forget()
	}
	if c.open == nil || len(c.tags) != 1 || c.tags[0] != c.open.Tag() {
		return nil
	}
	return c.open.Attached(c.Place)
}

// Forget closes the maps and removes their pins: without routes and filters the
// maps are gone.
func (c *Control) Forget() error { return errors.Join(c.Close(), c.Place.Unpin(0)) }

// Close releases everything that is not attached or pinned.
func (c *Control) Close() error {
	err := c.letGo()
	if c.open != nil {
		err = errors.Join(err, c.open.Close())
		c.open = nil
	}
	return err
}

// Wanted returns the listeners in the map: see host.LastHop.
func (c *Control) Wanted() (list []routing.Wanted, err error) {
	m, err := c.fitting()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l bpfListener
	var mark uint8
	entries := m.maps.Wanted.Iterate()
	for entries.Next(&l, &mark) {
		list = append(list, wantedOf(l))
	}
	return list, entries.Err()
}

// Maps opens the maps of the programs that are attached, or would be: those of
// the loaded programs, or the pinned ones. The error is that of Place.Maps. The
// caller must call done.
func (c *Control) Maps() (m *Maps, done func(), err error) {
	if c.open != nil {
		return &c.open.Maps, func() {}, nil
	}
	if m, err = c.Place.Maps(); err != nil {
		return nil, nil, err
	}
	return m, func() { m.Close() }, nil
}

// fitting is Maps, but not for maps of another size: those are replaced. The
// maps stay open until the next call of Support, for many writes.
func (c *Control) fitting() (*Maps, error) {
	if c.open != nil {
		return &c.open.Maps, nil
	}
	if n := c.Place.pinned(); c.pinned == nil && n > 0 && !c.Place.fits(n, c.flows()) {
		return nil, fs.ErrNotExist
	}
	if c.pinned == nil {
		m, err := c.Place.Maps()
		if err != nil {
			return nil, err
		}
		c.pinned = m
	}
	return c.pinned, nil
}

// letGo closes maps that were opened for writes.
func (c *Control) letGo() (err error) {
	if c.pinned != nil {
		err = c.pinned.Close()
		c.pinned = nil
	}
	return err
}

// SetWanted adds a listener to the map, or removes it.
func (c *Control) SetWanted(w routing.Wanted, remove bool) error {
	m, err := c.fitting()
	if errors.Is(err, fs.ErrNotExist) {
		if remove {
			return nil
		}
		if _, err = c.load(); err == nil {
			m, err = c.fitting()
		}
	}
	if err != nil {
		return err
	}
	l := listenerOf(w)
	if !remove {
		return m.maps.Wanted.Put(l, uint8(1))
	}
	if err := m.maps.Wanted.Delete(l); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// protocols are the numbers of transports; ICMPv6 is counted as ICMP.
var protocols = map[routing.Transport]uint16{routing.TCP: unix.IPPROTO_TCP,
	routing.UDP: unix.IPPROTO_UDP, routing.ICMP: unix.IPPROTO_ICMP}

func listenerOf(w routing.Wanted) bpfListener {
	return bpfListener{Addr: words(w.Addr), Port: big(w.Port),
		Protocol: protocols[w.Transport]}
}

func wantedOf(l bpfListener) routing.Wanted {
	return routing.Wanted{Addr: addrOf(l.Addr), Port: big(l.Port),
		Transport: transportOf(l.Protocol)}
}

// words returns an address as the maps have it: 16 bytes, IPv4 mapped.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = native.Uint32(b[4*i:])
	}
	return w
}

func addrOf(w [4]uint32) netip.Addr {
	var b [16]byte
	for i := range w {
		native.PutUint32(b[4*i:], w[i])
	}
	return netip.AddrFrom16(b).Unmap()
}

// big converts a port to network order, and back.
func big(port uint16) uint16 { return native.Uint16([]byte{byte(port >> 8), byte(port)}) }
