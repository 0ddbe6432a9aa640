package routing

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
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

// Host is what the kernel and the DHCP clients of one network namespace know: a
// value, as host.Read takes it and `lasthop capture` writes it. Links are
// referred to by name; names are unique in a namespace.
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
	Group        int    // link group; 0 is the default group
	MTU          int
	PointToPoint bool
	Table        uint32 // the table of a VRF (Kind "vrf"); 0 otherwise
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

// RouteType is the kernel's rtm_type (RTN_*).
type RouteType uint8

const (
	Unicast     RouteType = 1
	Local       RouteType = 2
	Broadcast   RouteType = 3
	Anycast     RouteType = 4
	Multicast   RouteType = 5
	Blackhole   RouteType = 6
	Unreachable RouteType = 7
	Prohibit    RouteType = 8
	Throw       RouteType = 9
)

// Rejects says whether a lookup that finds such a route ends with an error.
func (t RouteType) Rejects() bool { return t == Blackhole || t == Unreachable || t == Prohibit }

// Scopes and tables by the kernel's numbers.
const (
	ScopeGlobal uint8 = 0
	ScopeLink   uint8 = 253
	ScopeHost   uint8 = 254

	protocolKernel uint8 = 2

	TableDefault uint32 = 253
	TableMain    uint32 = 254
	TableLocal   uint32 = 255
)

// RouteKey is what the kernel's REPLACE matches a route by. Dst is masked and
// always valid (a default route has 0.0.0.0/0 or ::/0) and gives the family. An
// IPv6 metric is never 0: the kernel makes it 1024.
type RouteKey struct {
	Table  uint32
	Dst    netip.Prefix
	Metric uint32
}

// Hop is one next hop. A Hop without Via is on-link. Dead and LinkDown are
// volatile and never written.
type Hop struct {
	Link     string
	Via      netip.Addr
	Weight   int // 1 for a single next hop, as `ip` prints it for several
	OnLink   bool
	Dead     bool
	LinkDown bool
}

// Route is one route. Reject routes have no hops (the kernel's `dev lo` of IPv6
// ones is dropped when they are read).
type Route struct {
	RouteKey
	Type     RouteType
	Scope    uint8 // IPv4 only; IPv6 routes have 0
	Protocol uint8
	Src      netip.Addr // prefsrc
	Hops     []Hop
	MTU      uint32
	AdvMSS   uint32
	Pref     int8 // IPv6 router preference: -1 low, 0 medium, 1 high
	// what is not modelled, in `ip` syntax: "tos 0x10", "from
	// 2001:db8::/64", "encap …"; such a route is never copied
	Opaque string
}

// opaqueHas says whether one of the keys is among what is not modelled of the
// route.
func (r Route) opaqueHas(keys ...string) bool {
	return r.Opaque != "" && slices.ContainsFunc(strings.Fields(r.Opaque),
		func(w string) bool { return slices.Contains(keys, w) })
}

// steers says whether what is not modelled decides where packets go, or what
// becomes of them: such a route is never copied. All else (hoplimit, initcwnd
// and other metrics) only tunes a transport.
func (r Route) steers() bool { return r.opaqueHas("tos", "from", "encap", "nhid", "attr") }

// Family returns the family of the destination.
func (r Route) Family() Family { return FamilyOf(r.Dst.Addr()) }

// IsDefault says whether the route is a default route of its table.
func (r Route) IsDefault() bool { return r.Dst.Bits() == 0 }

// Action is what a matching rule does: the kernel's FR_ACT_*.
type Action uint8

const (
	ToTable           Action = 1
	Goto              Action = 2
	Nop               Action = 3
	RejectBlackhole   Action = 6
	RejectUnreachable Action = 7
	RejectProhibit    Action = 8
)

// None is the value of SuppressPrefix and SuppressGroup that suppresses
// nothing, as in the kernel.
const None = -1

// Rule is one policy routing rule. It is comparable: two rules are the same if
// all fields are. Use NewRule for a rule that suppresses nothing: the zero
// values of SuppressPrefix and SuppressGroup do suppress, as in the kernel.
type Rule struct {
	Priority       int
	Family         Family
	Not            bool
	From, To       netip.Prefix // masked; the zero Prefix is `all`
	IIF, OIF       string
	Mark, Mask     uint32
	Table          uint32
	SuppressPrefix int // None, or: a route of this length or shorter is no answer
	SuppressGroup  int // None, or: a route whose first hop's link is in this group is no answer
	Goto           int // with Action Goto: the priority to go on at
	Action         Action
	Protocol       uint8
	// selectors that are not modelled, in `ip` syntax: "l3mdev", "ipproto
	// tcp dport 80", "uidrange 0-99"
	Opaque string
}

// NewRule returns a rule `priority: from all lookup table` of the family that
// suppresses nothing.
func NewRule(f Family, priority int, table uint32) Rule {
	return Rule{Priority: priority, Family: f, Table: table, SuppressPrefix: None,
		SuppressGroup: None, Action: ToTable}
}

// Neigh is one entry of the neighbour table.
type Neigh struct {
	Link   string
	Addr   netip.Addr
	Router bool // NTF_ROUTER: it announced itself as an IPv6 router
	MAC    string
	State  string // as `ip` prints it: REACHABLE, STALE, FAILED, PERMANENT …
}

// Lease is a default gateway that a DHCP client was given for a link.
type Lease struct {
	Link    string
	Gateway netip.Addr
	Client  string // "systemd-networkd", "NetworkManager", "dhclient", "dhcpcd"
}

// LinkGroup says that a link is in a group.
type LinkGroup struct {
	Link  string
	Group int
}

// State is what lasthop owns, or wants to own, in the kernel. Sorted by Sort it
// is canonical.
type State struct {
	Routes []Route
	Rules  []Rule
	Groups []LinkGroup
}

// Diff is the way from one State to another. The order of its fields is the
// order in which it is carried out.
type Diff struct {
	SetRoutes   []Route
	SetGroups   []LinkGroup
	AddRules    []Rule
	DelRules    []Rule
	DelRoutes   []Route
	UnsetGroups []LinkGroup
}

// Additions returns what adds and replaces, and leaves out what deletes.
func (d Diff) Additions() Diff {
	return Diff{SetRoutes: d.SetRoutes, SetGroups: d.SetGroups, AddRules: d.AddRules}
}

// Empty says whether there is nothing to do.
func (d Diff) Empty() bool {
	return len(d.SetRoutes)+len(d.SetGroups)+len(d.AddRules)+len(d.DelRules)+len(d.DelRoutes)+
		len(d.UnsetGroups) == 0
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return cmp.Compare(a.Bits(), b.Bits())
}
