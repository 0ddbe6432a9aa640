package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"lasthop/routing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Read reads the namespace. Its parts are dumped one after the other, links
// first, so a change in between can give a picture that never was; who acts on
// it reads back afterwards. Every link that is named is listed. Leases are read
// in the process's own namespace only: elsewhere the files would speak of
// another host. Errors name the part; a part that cannot be read fails the
// whole.
func (k *Kernel) Read() (routing.Host, error) {
	h, n, err := k.readRouting()
	if err != nil {
		return h, err
	}
	h.Name, _ = os.Hostname()
	h.Kernel = release()
	if err := k.readNeighs(&h, n); err != nil {
		return h, fmt.Errorf("read neighbours: %w", err)
	}
	h.Sysctls, err = k.readSysctls(h.Links)
	if err != nil {
		return h, fmt.Errorf("read sysctls: %w", err)
	}
	if k.Own() {
		h.Leases = Leases("/", h.Links, h.Addrs, time.Now())
	}
	return h, nil
}

// readRouting reads what decides where packets go: links, addresses, routes and
// rules.
func (k *Kernel) readRouting() (h routing.Host, n names, err error) {
	if n, err = k.readLinks(&h); err != nil {
		return h, n, err
	}
	for _, part := range []struct {
		name string
		read func(*routing.Host, names) error
	}{{"addresses", k.readAddrs}, {"next hops", k.readNextHops}, {"routes", k.readRoutes},
		{"rules", k.readRules}} {
		if err := part.read(&h, n); err != nil {
			return h, n, fmt.Errorf("read %s: %w", part.name, err)
		}
	}
	return h, n, nil
}

// ReadOwned reads what is ours, without the rest of the host: routing.Owned of
// what Read would return. It asks for the routes of those tables alone that our
// rules name or that this Kernel has seen or written before; a program that
// starts calls Read first.
func (k *Kernel) ReadOwned(numbers routing.Numbers) (routing.State, error) {
	var h routing.Host
	n, err := k.readLinks(&h)
	if err != nil {
		return routing.State{}, err
	}
	if err := k.readNextHops(&h, n); err != nil {
		return routing.State{}, fmt.Errorf("read next hops: %w", err)
	}
	if err := k.readRules(&h, n); err != nil {
		return routing.State{}, fmt.Errorf("read rules: %w", err)
	}
	for _, r := range h.Rules {
		k.tables[r.Table] = true
	}
	for table := range k.tables {
		if !numbers.OwnsTable(table) {
			continue
		}
		for _, f := range routing.Families {
			if err := k.dumpRoutes(&h, n, f, table); err != nil {
				return routing.State{},
					fmt.Errorf("read routes of table %d: %w", table, err)
			}
		}
	}
	return routing.Owned(h, numbers), nil
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (k *Kernel) readLinks(h *routing.Host) (names, error) {
	links, err := list(k, unix.RTM_GETLINK, k.handle.LinkList)
	if err != nil {
		return names{}, fmt.Errorf("read links: %w", err)
	}
	n := names{links: map[int]string{}, hops: map[uint32][]routing.Hop{}}
	for _, l := range links {
		n.links[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		h.Links = append(h.Links, linkOf(l, n))
	}
	sort.Slice(h.Links, func(i, j int) bool { return h.Links[i].Index < h.Links[j].Index })
	return n, nil
}

func linkOf(l netlink.Link, n names) routing.Link {
	a := l.Attrs()
	out := routing.Link{Index: a.Index, Name: a.Name, Kind: l.Type(),
		Group: int(a.Group), MTU: a.MTU,
		Loopback:     a.Flags&net.FlagLoopback != 0,
		PointToPoint: a.Flags&net.FlagPointToPoint != 0,
		Up:           a.RawFlags&unix.IFF_UP != 0,
		Carrier:      a.RawFlags&unix.IFF_LOWER_UP != 0}
	if out.Kind == "device" {
		out.Kind = "" // the library's word for a link without a kind
	}
	if out.Kind == "tuntap" {
		out.Kind = "tun" // the kernel's word
	}
	if a.MasterIndex != 0 {
		out.Master, _ = n.link(uint32(a.MasterIndex))
	}
	if vrf, ok := l.(*netlink.Vrf); ok {
		out.Table = vrf.Table
	}
	return out
}

func (k *Kernel) readAddrs(h *routing.Host, n names) error {
	addrs, err := list(k, unix.RTM_GETADDR, func() ([]netlink.Addr, error) {
		return k.handle.AddrList(nil, netlink.FAMILY_ALL)
	})
	if err != nil {
		return err
	}
	h.Addrs = slices.Grow(h.Addrs, len(addrs))
	for _, a := range addrs {
		p, ok := prefixOf(a.IPNet)
		link, err := n.link(uint32(a.LinkIndex))
		if !ok || err != nil {
			continue
		}
		out := routing.Addr{Link: link, Prefix: p, Scope: uint8(a.Scope),
			// the same bit means secondary in IPv4
			Temporary: p.Addr().Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0,
			NoPrefix:  a.Flags&unix.IFA_F_NOPREFIXROUTE != 0,
			Tentative: a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0}
		if peer, ok := prefixOf(a.Peer); ok && peer.Addr() != p.Addr() {
			out.Peer = peer
		}
		h.Addrs = append(h.Addrs, out)
	}
	return nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if addr.Is4In6() && size == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits), ok && size > 0
}

// readNextHops resolves next hop objects. A kernel before 5.3 knows none.
func (k *Kernel) readNextHops(_ *routing.Host, n names) error {
	msgs, err := k.dump(unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, make([]byte, 8))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	var groups []nextHop
	for _, m := range msgs {
		h, err := decodeNextHop(m, n)
		if err != nil {
			return err
		}
		if h.members != nil {
			groups = append(groups, h)
		} else if h.hop.Link != "" {
			n.hops[h.id] = []routing.Hop{h.hop}
		}
	}
	for _, g := range groups {
		n.hops[g.id] = n.group(g.members)
	}
	return nil
}

// group returns the hops of a next hop group, or none if one of them is not
// known.
func (n names) group(members []member) (hops []routing.Hop) {
	for _, m := range members {
		if len(n.hops[m.id]) != 1 {
			return nil
		}
		hop := n.hops[m.id][0]
		hop.Weight = m.weight
		hops = append(hops, hop)
	}
	return hops
}

func (k *Kernel) readRoutes(h *routing.Host, n names) error {
	for _, f := range routing.Families {
		if err := k.dumpRoutes(h, n, f, 0); err != nil {
			return err
		}
	}
	return nil
}

// dumpRoutes adds the routes of a table, 0 for all. The kernel filters by
// table; kernels before 4.20 send all.
func (k *Kernel) dumpRoutes(h *routing.Host, n names, f routing.Family, table uint32) error {
	m := message{make([]byte, routeHeader)}
	m.data[0] = afOf(f)
	if table != 0 {
		m.putUint32(unix.RTA_TABLE, table)
	}
	msgs, err := k.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, m.data)
	if table != 0 && errors.Is(err, unix.ENOENT) {
		return nil // no such table
	}
	if err != nil {
		return err
	}
	h.Routes = slices.Grow(h.Routes, len(msgs))
	for _, msg := range msgs {
		r, ok, err := decodeRoute(msg, n)
		if err != nil {
			return err
		}
		if ok && (table == 0 || r.Table == table) {
			h.Routes = append(h.Routes, r)
			k.tables[r.Table] = true
		}
	}
	return nil
}

func (k *Kernel) readRules(h *routing.Host, _ names) error {
	for _, f := range routing.Families {
		header := make([]byte, ruleHeader)
		header[0] = afOf(f)
		msgs, err := k.dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, header)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			r, err := decodeRule(m)
			if err != nil {
				return err
			}
			h.Rules = append(h.Rules, r)
		}
	}
	return nil
}

// stateNames are the words of `ip neigh` for NUD_*.
var stateNames = map[int]string{1: "INCOMPLETE", 2: "REACHABLE", 4: "STALE", 8: "DELAY",
	16: "PROBE", 32: "FAILED", 64: "NOARP", 128: "PERMANENT"}

func (k *Kernel) readNeighs(h *routing.Host, n names) error {
	neighs, err := list(k, unix.RTM_GETNEIGH, func() ([]netlink.Neigh, error) {
		return k.handle.NeighListExecute(netlink.Ndmsg{})
	})
	if err != nil {
		return err
	}
	for _, x := range neighs {
		addr, ok := netip.AddrFromSlice(x.IP)
		link, err := n.link(uint32(x.LinkIndex))
		if err != nil || !ok || x.Family != unix.AF_INET && x.Family != unix.AF_INET6 ||
			x.State == 64 {
			continue
		}
		h.Neighs = append(h.Neighs, routing.Neigh{Link: link, Addr: addr.Unmap(),
			MAC:    x.HardwareAddr.String(),
			Router: x.Flags&netlink.NTF_ROUTER != 0, State: stateNames[x.State]})
	}
	sort.SliceStable(h.Neighs, func(i, j int) bool {
		return strings.Compare(h.Neighs[i].Link, h.Neighs[j].Link) < 0
	})
	return nil
}
