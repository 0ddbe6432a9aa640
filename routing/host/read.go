package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reading is a picture of the host in the making. Links are read first: the
// other parts name them.
type reading struct {
	*conn
	names
	host routing.Host
}

// readRouting reads what decides where packets go: links, addresses, routes and
// rules. With an error it returns what it has read so far.
func readRouting(c *conn) (*reading, error) {
	r := &reading{conn: c}
	return r, r.read(part{"addresses", r.readAddrs}, part{"next hops", r.readNextHops},
		part{"routes", r.readRoutes}, part{"rules", r.readRules})
}

// part is a part of a host, and how it is read.
type part struct {
	name string
	read func() error
}

// read reads the links, then other parts.
func (r *reading) read(parts ...part) error {
	if err := r.readLinks(); err != nil {
		return err
	}
	for _, p := range parts {
		if err := p.read(); err != nil {
			return fmt.Errorf("read %s: %w", p.name, err)
		}
	}
	return nil
}

func (r *reading) readLinks() error {
	links, err := list(r.conn, unix.RTM_GETLINK, r.handle.LinkList)
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	r.names = names{map[int]string{}, map[string]int{}, map[uint32][]routing.Hop{}}
	for _, l := range links {
		r.links[l.Attrs().Index] = l.Attrs().Name
		r.index[l.Attrs().Name] = l.Attrs().Index
	}
	r.host.Links = nil
	for _, l := range links {
		r.host.Links = append(r.host.Links, linkOf(l, r.names))
	}
	slices.SortFunc(r.host.Links, func(a, b routing.Link) int { return a.Index - b.Index })
	return nil
}

// needLinks reads the links unless they were read.
func (r *reading) needLinks() error {
	if r.index != nil {
		return nil
	}
	return r.readLinks()
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
	if out.HasParent() && a.NetNsID < 0 { // otherwise the index is of another namespace
		out.Parent, _ = n.link(uint32(a.ParentIndex))
	}
	if vrf, ok := l.(*netlink.Vrf); ok {
		out.Table = vrf.Table
	}
	return out
}

func (r *reading) readAddrs() error {
	msgs, err := r.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, newMessage(unix.IfAddrmsg{}))
	if err != nil {
		return err
	}
	r.host.Addrs = slices.Grow(r.host.Addrs, len(msgs))
	for _, m := range msgs {
		a, ok, err := decodeAddr(m, r.names)
		if err != nil {
			return err
		}
		if ok {
			r.host.Addrs = append(r.host.Addrs, a)
		}
	}
	return nil
}

// addrsOf returns IFA_ADDRESS and IFA_LOCAL of an address's attributes.
func addrsOf(list []attr) (addr, local netip.Addr, err error) {
	for _, a := range list {
		switch a.kind {
		case unix.IFA_ADDRESS:
			addr, err = a.addr()
		case unix.IFA_LOCAL:
			local, err = a.addr()
		}
		if err != nil {
			return addr, local, err
		}
	}
	return addr, local, nil
}

// decodeAddr returns the address of a message; ok is false for a message of
// another family, or about a new link. IFA_LOCAL is the address if it is there,
// and IFA_ADDRESS is then its peer. A peer that equals the address is none, and
// then an IPv4 address has the prefix length of the message (inet_fill_ifaddr
// in net/ipv4/devinet.c, inet6_fill_ifaddr in net/ipv6/addrconf.c).
func decodeAddr(b []byte, n names) (a routing.Addr, ok bool, err error) {
	h, list, err := decode[unix.IfAddrmsg](b)
	if err != nil {
		return a, false, fmt.Errorf("decode address: %w", err)
	}
	f, unknown := familyOf(h.Family)
	link, hidden := n.link(h.Index)
	if unknown != nil || hidden != nil {
		return a, false, nil
	}
	addr, local, err := addrsOf(list)
	if err != nil {
		return a, false, fmt.Errorf("decode address: %w", err)
	}
	flags := find(list, unix.IFA_FLAGS).uint()
	// the same bit means secondary in IPv4
	a.Temporary = f == routing.IPv6 && flags&unix.IFA_F_TEMPORARY != 0
	a.NoPrefix = flags&unix.IFA_F_NOPREFIXROUTE != 0
	a.Tentative = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0
	a.Link, a.Scope = link, h.Scope
	a.Prefix = netip.PrefixFrom(addr, int(h.Prefixlen))
	if local.IsValid() && (local != addr || f == routing.IPv6) {
		if addr.IsValid() && local != addr {
			a.Peer = a.Prefix
		}
		a.Prefix = netip.PrefixFrom(local, local.BitLen())
	}
	return a, a.Prefix.IsValid(), nil
}

// readNextHops resolves next hop objects. A kernel before 5.3 knows none.
func (r *reading) readNextHops() error {
	msgs, err := r.dump(unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, newMessage(unix.Nhmsg{}))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	var groups []nextHop
	for _, m := range msgs {
		h, err := decodeNextHop(m, r.names)
		if err != nil {
			return err
		}
		if h.members != nil {
			groups = append(groups, h)
		} else if h.hop.Link != "" {
			r.hops[h.id] = []routing.Hop{h.hop}
		}
	}
	for _, g := range groups {
		r.hops[g.id] = r.group(g.members)
	}
	return nil
}

// group returns the hops of a next hop group; no hops if one of them is
// unknown.
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

func (r *reading) readRoutes() error {
	for _, f := range routing.Families {
		if err := r.dumpRoutes(f, 0); err != nil {
			return err
		}
	}
	return nil
}

// dumpRoutes adds the routes of a table, 0 for all. The kernel filters by
// table; kernels before 4.20 send all.
func (r *reading) dumpRoutes(f routing.Family, table uint32) error {
	m := newMessage(unix.RtMsg{Family: afOf(f)})
	m.putNumber(unix.RTA_TABLE, table)
	msgs, err := r.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, m)
	if table != 0 && errors.Is(err, unix.ENOENT) {
		return nil // no such table
	}
	if err != nil {
		return err
	}
	r.host.Routes = slices.Grow(r.host.Routes, len(msgs))
	for _, msg := range msgs {
		route, ok, err := decodeRoute(msg, r.names)
		if err != nil {
			return err
		}
		if ok && (table == 0 || route.Table == table) {
			r.host.Routes = append(r.host.Routes, route)
		}
	}
	return nil
}

func (r *reading) readRules() error {
	for _, f := range routing.Families {
		m := newMessage(ruleHeader{family: afOf(f)})
		msgs, err := r.dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, m)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			rule, err := decodeRule(m)
			if err != nil {
				return err
			}
			r.host.Rules = append(r.host.Rules, rule)
		}
	}
	return nil
}

// stateNames are the words of `ip neigh` for NUD_*.
var stateNames = map[int]string{1: "INCOMPLETE", 2: "REACHABLE", 4: "STALE", 8: "DELAY",
	16: "PROBE", 32: "FAILED", 64: "NOARP", 128: "PERMANENT"}

func (r *reading) readNeighs() error {
	neighs, err := list(r.conn, unix.RTM_GETNEIGH, func() ([]netlink.Neigh, error) {
		return r.handle.NeighListExecute(netlink.Ndmsg{})
	})
	if err != nil {
		return err
	}
	for _, x := range neighs {
		addr, ok := netip.AddrFromSlice(x.IP)
		link, err := r.link(uint32(x.LinkIndex))
		if err != nil || !ok || x.Family != unix.AF_INET && x.Family != unix.AF_INET6 ||
			x.State == 64 {
			continue
		}
		r.host.Neighs = append(r.host.Neighs, routing.Neigh{Link: link, Addr: addr.Unmap(),
			MAC:    x.HardwareAddr.String(),
			Router: x.Flags&netlink.NTF_ROUTER != 0, State: stateNames[x.State]})
	}
	slices.SortStableFunc(r.host.Neighs, func(a, b routing.Neigh) int {
		return strings.Compare(a.Link, b.Link)
	})
	return nil
}
