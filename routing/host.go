package routing

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
)

// Family is an address family. Its value is the number in its name.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families lists both, in the order in which everything is reported.
var Families = [...]Family{IPv4, IPv6}

// FamilyOf returns the family of a valid address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// Bits is the length of an address of the family in bits: 32 or 128.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// All is the prefix that holds every address of the family: the destination of
// a default route.
func (f Family) All() netip.Prefix {
	if f == IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// Host is what the kernel and the DHCP clients of one network namespace know.
// It is a value: host.Read makes it, and `lasthop capture` writes it. It refers
// to links by name; names are unique in a namespace.
type Host struct {
	Name, Kernel string // host name; kernel release as uname -r prints it
	Links        []Link
	Addrs        []Addr
	// of every table, with local and cloned entries left as the kernel
	// lists them
	Routes  []Route
	Rules   []Rule // of both families, each family in the kernel's order
	Neighs  []Neigh
	Leases  []Lease
	Sysctls map[string]string // below net/, with dots: "ipv4.conf.all.rp_filter"
	// links and their groups from before lasthop's first write, from the
	// run directory; nil if it has no record
	Grouped []LinkGroup
	// of the families that the host forwards; for other families they are
	// not read
	Rulesets []Ruleset
	// at the ingress of the links, in the kernel's order, and what
	// lasthop's programs learn for
	Filters []Filter
	Wanted  []Wanted
	LastHop LastHopSupport
}

// Ruleset is what the packet filter (nftables and iptables) does in one family
// with packets that the host forwards.
type Ruleset struct {
	Family Family
	// the first rule that makes the kernel look up a route with an address
	// of such packets as the source and `iif lo`, as for the host's own
	// packets: "inet fw prerouting handle 4: fib saddr"; "" if there is
	// none
	Lookup string
	Unread string // why that is not known: "operation not permitted"; else ""
}

// Forwards reports whether the host forwards packets of a family.
func (h Host) Forwards(f Family) bool {
	return slices.ContainsFunc(h.Links, func(l Link) bool {
		return !l.Loopback && h.forwards(l.Name, f)
	})
}

// ruleset returns what is known of the packet filter of a family. A capture
// without it leaves this unknown.
func (h Host) ruleset(f Family) Ruleset {
	i := slices.IndexFunc(h.Rulesets, func(r Ruleset) bool { return r.Family == f })
	switch {
	case i >= 0:
		return h.Rulesets[i]
	case h.Forwards(f):
		return Ruleset{Family: f, Unread: "the capture does not say"}
	}
	return Ruleset{Family: f}
}

// forwards reports whether the host forwards packets that come in by a link.
func (h Host) forwards(link string, f Family) bool {
	family, whole := "ipv4", "ipv4.ip_forward"
	if f == IPv6 {
		family, whole = "ipv6", "ipv6.conf.all.forwarding"
	}
	own, known := h.Sysctls[family+".conf."+link+".forwarding"]
	return own == "1" || !known && h.Sysctls[whole] == "1"
}

// conf returns the effective value of ipv4.conf on a link: the larger of the
// link's own value and that of all. known is false if neither was read.
func (h Host) conf(link, name string) (value int, known bool) {
	for _, l := range []string{"all", link} {
		if n, err := strconv.Atoi(h.Sysctls["ipv4.conf."+l+"."+name]); err == nil {
			value, known = max(value, n), true
		}
	}
	return value, known
}

// Link is one network interface.
type Link struct {
	Index int
	Name  string
	// rtnetlink's IFLA_INFO_KIND: "veth", "bridge", "vrf", "wireguard"; ""
	// for a NIC and for lo
	Kind         string
	Loopback     bool
	Up           bool   // administratively up (IFF_UP)
	Carrier      bool   // IFF_LOWER_UP
	Master       string // bridge, bond or VRF that the link is enslaved to
	Parent       string // link below a macvlan, ipvlan or VLAN, if it is in this namespace
	Group        int    // link group; 0 is the default group
	MTU          int
	PointToPoint bool
	Table        uint32 // the table of a VRF (Kind "vrf"); 0 otherwise
}

// HasParent reports whether links of this kind stand on another one, which
// Parent names.
func (l Link) HasParent() bool {
	return l.Kind == "macvlan" || l.Kind == "ipvlan" || l.Kind == "vlan"
}

// Addr is one address of one link. Prefix keeps the host bits: 10.0.1.10/24.
type Addr struct {
	Link   string
	Prefix netip.Prefix
	// valid for a point-to-point address only: the connected prefix is the
	// peer's
	Peer      netip.Prefix
	Scope     uint8 // rtnetlink scope: 0 global, 253 link, 254 host
	Temporary bool  // IPv6 privacy address
	NoPrefix  bool  // noprefixroute: no connected route came with the address
	Tentative bool  // IPv6, not usable yet (or never, after a failed DAD)
}

// Connected returns the prefix that the kernel takes to be on-link because of
// the address.
func (a Addr) Connected() netip.Prefix {
	if a.Peer.IsValid() {
		return a.Peer.Masked()
	}
	return a.Prefix.Masked()
}

// Neigh is one entry of the neighbour table.
type Neigh struct {
	Link   string
	Addr   netip.Addr
	Router bool // NTF_ROUTER: it announced itself as an IPv6 router
	MAC    string
	State  string // as `ip` prints it: REACHABLE, STALE, FAILED, PERMANENT …
}

// Lease is a default gateway that a DHCP client received for a link.
type Lease struct {
	Link    string
	Gateway netip.Addr
	Client  string // "systemd-networkd", "NetworkManager", "dhclient", "dhcpcd"
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return cmp.Compare(a.Bits(), b.Bits())
}

// prefixSet is a set of prefixes. Its zero value is empty.
type prefixSet struct {
	prefixes map[netip.Prefix]bool
	lengths  [129]bool // that occur
}

// add adds a prefix, without its host bits. The zero Prefix is none.
func (s *prefixSet) add(p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	if s.prefixes == nil {
		s.prefixes = map[netip.Prefix]bool{}
	}
	s.prefixes[p.Masked()], s.lengths[p.Bits()] = true, true
}

// clone returns a set of its own with the same prefixes.
func (s prefixSet) clone() prefixSet {
	s.prefixes = maps.Clone(s.prefixes)
	return s
}

// longest returns the longest of the prefixes that holds the address, the zero
// Prefix if there is none. Two addresses with the same result are in the same
// prefixes.
func (s *prefixSet) longest(a netip.Addr) netip.Prefix {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if !s.lengths[bits] {
			continue
		}
		if p, _ := a.Prefix(bits); s.prefixes[p] {
			return p
		}
	}
	return netip.Prefix{}
}
