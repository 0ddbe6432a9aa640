package routing

import (
	"net/netip"
	"slices"
)

// Transport is "tcp" or "udp" (QUIC is udp).
type Transport string

const (
	TCP Transport = "tcp"
	UDP Transport = "udp"
)

// PortRange is First to Last, both included; one port has First == Last.
type PortRange struct{ First, Last uint16 }

// Listener is an address, or a wildcard (0.0.0.0 or ::), that NGINX listens on.
// A wildcard of both families is two listeners.
type Listener struct {
	Addr      netip.Addr
	Ports     PortRange
	Transport Transport
	Context   string   // "http", "stream", "mail"; "flag" for --listen
	Listen    string   // the listen argument as written: "*:80", "10.0.0.1:8000-8005"
	Origins   []string // file:line of each listen directive
	Servers   []string // server names
}

// Bind is one *_bind directive of NGINX: the source address of its own
// connections to upstreams.
type Bind struct {
	Addr        netip.Addr // the zero Addr if only known at run time ($remote_addr)
	Transparent bool
	Upstreams   []netip.Addr // the literal ones
	Origin      string
}

// GatewaySource says where a path's gateway is known from; it is printed as it
// stands.
type GatewaySource string

const (
	FromPin    GatewaySource = "pinned"
	FromMain   GatewaySource = "default route in main"
	FromTable  GatewaySource = "default route in another table"
	FromLease  GatewaySource = "DHCP lease"
	FromRouter GatewaySource = "IPv6 router neighbour"
	FromStatic GatewaySource = "only next hop of static routes"
	FromHeld   GatewaySource = "held from our own table"
)

// Path is one way back: a link, a family and its gateway or gateways. It has
// one table.
type Path struct {
	Link     string
	Family   Family
	Hops     []Hop
	Source   GatewaySource
	Detail   string // "DHCP lease of systemd-networkd", "table 100"; for people
	Table    uint32
	Prefixes []netip.Prefix // the cover; empty where nothing is needed
}

// Status says what becomes of a listener's replies.
type Status string

const (
	Ready      Status = "ready"      // needs our path, installed or not
	Armed      Status = "armed"      // the same, but its address is not here now
	Unchanged  Status = "unchanged"  // replies leave right without us
	LocalOnly  Status = "local"      // host-local: no gateway is involved
	Off        Status = "off"        // switched off, or isolated by a VRF
	Unresolved Status = "unresolved" // nobody knows the way; Reason says why
)

// Code is the stable name of a reason or a finding: "no-gateway".
type Code string

// Way is where the kernel sends a packet: the end of a Trace. The zero Way
// means that no route was found.
type Way struct {
	Type  RouteType // Unicast, Local, or the reject type that ended the lookup; 0: no route
	Table uint32
	Link  string
	Via   netip.Addr // zero: on-link
	// further next hops of a multipath route, "eth2 via 10.0.2.1, …"; the
	// kernel chooses by hash
	More string
}

// Outcome is what becomes of one listener at one address. A wildcard gives one
// for each global address.
type Outcome struct {
	Listener
	Link   string
	Status Status
	Reason Code
	Path   int // 1 + the index of its path in Plan.Paths, 0 for none: see PathOf
	// towards an off-link client: with everything of ours taken out, and
	// with Plan.State put in
	Before, After Way
}

// Severity orders findings.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Rank orders severities, the gravest first: 0 error, 1 warning, 2 info.
func (s Severity) Rank() int { return slices.Index([]Severity{Error, Warning, Info}, s) }

// Finding is something that an operator must know and that stops nothing.
type Finding struct {
	Code     Code
	Severity Severity
	Subject  string // what it is about: an address, link or rule
	Message  string
	Hint     string // what to do, a command or flag where there is one
	Origin   string // file:line or an `ip` line
}

// Plan is all that Build decides.
type Plan struct {
	Paths    []Path
	State    State
	Outcomes []Outcome
	Findings []Finding
}

// Return is how replies of an interface or address are routed.
type Return string

const (
	Strict    Return = "strict"     // main answers, but never through an uplink; else the path
	MainFirst Return = "main-first" // main's specific routes win, also through other uplinks
	NoReturn  Return = "off"        // not at all
)

// GatewayPin is one --gateway: a gateway (Addr), or None (the link is no
// uplink), or Static (the only next hop of its static routes).
type GatewayPin struct {
	Link         string
	Addr         netip.Addr
	None, Static bool
}

// ReturnPin is one --return. Addr is zero for a whole link.
type ReturnPin struct {
	Link string
	Addr netip.Addr
	Mode Return
}

// AddressPin is one --address: the link, and perhaps the gateway, of an address
// where nothing can be seen.
type AddressPin struct {
	Addr    netip.Addr
	Link    string
	Gateway netip.Addr // zero: the link's
}

// Policy is what the user decided, and our numbers.
type Policy struct {
	Numbers    Numbers
	Gateways   []GatewayPin
	Returns    []ReturnPin
	Addresses  []AddressPin
	Direct     []netip.Prefix
	FailClosed []string // links; "*" is all
}

// Numbers are the kernel's numbers that are ours.
type Numbers struct {
	Protocol   uint8  // of every route and rule
	Group      int    // of every uplink
	TableFirst uint32 // range of tables
	TableLast  uint32
	Base       int // highest priority the block of rules may start at
	Block      int // priorities in the block
}

// DefaultNumbers keeps clear of the numbers of twenty other systems.
var DefaultNumbers = Numbers{
	Protocol: 76, // free between GCP's 66 and Calico's 80
	Group:    76, // link groups are hardly used; the same number is easy to remember
	// above FRR (10000-11000) and ec2-net-utils (10000+), below SUSE
	// (30000+) and wg-quick (51820)
	TableFirst: 20000,
	TableLast:  20999,
	// in front of Tailscale (5200+), OVN-Kubernetes (5999) and
	// ec2-net-utils (10000+); behind mwan3's wiped 1000-3999
	Base:  5100,
	Block: 100,
}
