// Package host reads and writes the machine: it reads links, addresses, routes,
// rules, neighbours, sysctls and DHCP leases of one network namespace as a
// routing.Host, and makes the writes that routing.Execute asks for.
//
// It speaks rtnetlink through vishvananda/netlink. It avoids what v1.3.1 of
// that library loses. So it dumps and writes rules itself: RuleList reads no
// action, no l3mdev and no selector that it does not know, and RuleAdd drops
// suppress_* for tables from 256 on. It also dumps and writes routes itself:
// router preference, next hops by id, every table in one dump. Decoding is
// pure: bytes in, values out. It uses several sockets: the strict check that
// makes the kernel filter route dumps makes it refuse the library's requests.
//
// Only this package normalises the kernel's habits: links by name, IPv6 metric
// 0 as 1024, no hops for reject routes, multipath with weights from 1. What it
// does not model goes into a field named Opaque, so that an unknown attribute
// is never treated as absent.
package host

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Kernel is the routing of one network namespace. It is not safe for concurrent
// use.
type Kernel struct {
	conn
	// the record of routing.Host.Grouped, in the run directory; "" for none
	GroupsFile string
	// the programs of last-hop; nil if there are none
	LastHop      LastHop
	AskedLastHop bool // by the settings a path may have the mode

	tables   map[uint32]bool // that were read or written, for ReadOwned
	nftables nftables        // as they were read last; a subscription reads them, too
	buffer   int             // bytes for events, 0 for eventBuffer
	// what GroupsFile held last, or should hold
	known []routing.LinkGroup
}

// Open opens a network namespace: "" is the process's own, else a NAME below
// /run/netns, a PID, or a PATH (with a slash).
func Open(name string) (*Kernel, error) {
	path := cmp.Or(NamespacePath(name), threadNS)
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	k := &Kernel{conn: conn{ns: ns}, tables: map[uint32]bool{}}
	if err := k.open(); err != nil {
		k.Close()
		return nil, fmt.Errorf("open rtnetlink in %s: %w", path, err)
	}
	return k, nil
}

// NamespacePath returns the file of a namespace as Open names it; "" stays "".
func NamespacePath(name string) string {
	if name == "" || strings.Contains(name, "/") {
		return name
	}
	if _, err := strconv.Atoi(name); err == nil {
		return "/proc/" + name + "/ns/net"
	}
	return "/run/netns/" + name
}

// Read reads the namespace. It dumps the parts one after the other, links
// first, so a change in between can give a picture that never was. A caller
// that acts on the picture must read back afterwards. Every link that another
// part names is listed. It reads leases only in the process's own namespace:
// elsewhere the files would be about another host. Errors name the part; if one
// part cannot be read, Read fails.
func (k *Kernel) Read() (routing.Host, error) {
	r, err := readRouting(&k.conn)
	if err != nil {
		return r.host, err
	}
	h := &r.host
	for _, route := range h.Routes {
		k.tables[route.Table] = true
	}
	h.Grouped = k.grouped()
	h.Name, _ = os.Hostname()
	h.Kernel = release()
	if err := r.readNeighs(); err != nil {
		return *h, fmt.Errorf("read neighbours: %w", err)
	}
	err = k.inside(func() error { return readSysctls(h) })
	if err != nil {
		return *h, fmt.Errorf("read sysctls: %w", err)
	}
	if err := k.readLastHop(r); err != nil {
		return *h, err
	}
	if h.Rulesets, err = k.Rulesets(*h); err != nil {
		return *h, fmt.Errorf("read rulesets: %w", err)
	}
	if k.own {
		h.Leases = Leases("/", h.Links, h.Addrs, time.Now())
	}
	return *h, nil
}

// ReadOwned reads only what lasthop owns: routing.Owned of what Read would
// return. It asks for the routes of those tables alone that lasthop's rules
// name or that this Kernel has seen or written before. A program that starts
// calls Read first.
func (k *Kernel) ReadOwned(numbers routing.Numbers) (routing.State, error) {
	r := &reading{conn: &k.conn}
	err := r.read(part{"next hops", r.readNextHops}, part{"rules", r.readRules})
	if err != nil {
		return routing.State{}, err
	}
	for _, rule := range r.host.Rules {
		k.tables[rule.Table] = true
	}
	for table := range k.tables {
		if !numbers.OwnsTable(table) {
			continue
		}
		for _, f := range routing.Families {
			if err := r.dumpRoutes(f, table); err != nil {
				return routing.State{},
					fmt.Errorf("read routes of table %d: %w", table, err)
			}
		}
	}
	if err := k.readLastHop(r); err != nil {
		return routing.State{}, err
	}
	r.host.Grouped = k.grouped()
	return routing.Owned(r.host, numbers), nil
}

// Neighs reads the neighbours, and the links that they are on.
func (k *Kernel) Neighs() ([]routing.Neigh, []routing.Link, error) {
	r := &reading{conn: &k.conn}
	err := r.read(part{"neighbours", r.readNeighs})
	return r.host.Neighs, r.host.Links, err
}

// Probe makes the kernel ask a neighbour whether it is there: by unicast if its
// MAC is known.
func (k *Kernel) Probe(n routing.Neigh) error {
	link, err := k.handle.LinkByName(n.Link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", n.Link, err)
	}
	h := unix.NdMsg{Family: afOf(routing.FamilyOf(n.Addr)), Ifindex: int32(link.Attrs().Index),
		State: unix.NUD_PROBE}
	if n.MAC == "" {
		h.State, h.Flags = 0, unix.NTF_USE
	}
	m := newMessage(h)
	m.putAddr(unix.NDA_DST, n.Addr)
	flags := unix.NLM_F_REPLACE
	if n.MAC == "" {
		flags |= unix.NLM_F_CREATE
	}
	return gone(k.write(unix.RTM_NEWNEIGH, flags, m.data), unix.ENOENT)
}

// grouped reads GroupsFile: a line for each link, in the words of
// routing.LinkGroup.
func (k *Kernel) grouped() []routing.LinkGroup {
	data, err := os.ReadFile(k.GroupsFile)
	if err != nil {
		return k.known
	}
	list := []routing.LinkGroup{}
	for line := range strings.Lines(string(data)) {
		var g routing.LinkGroup
		if n, _ := fmt.Sscanf(line, "%s group %d", &g.Link, &g.Group); n == 2 {
			list = append(list, g)
		}
	}
	k.known = list
	return list
}

// Remember stores what GroupsFile should hold, for use while the file cannot be
// read: its disk may be full, or another program may have removed it.
func (k *Kernel) Remember(groups []routing.LinkGroup) { k.known = groups }

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
