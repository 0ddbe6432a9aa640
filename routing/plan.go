package routing

import (
	"fmt"
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
	Context   string   // "http", "stream", "mail", "rtmp"; "flag" for --listen
	Listen    string   // the listen argument as written: "*:80", "10.0.0.1:8000-8005"
	Origins   []string // file:line of each listen directive
	Servers   []string // server names
	// the number of names that the lists leave out: they are long if
	// thousands of virtual servers share a socket
	MoreOrigins, MoreServers int
}

// PortName returns "80", "8000-8005" or "53/udp".
func (l Listener) PortName() string {
	port := fmt.Sprint(l.Ports.First)
	if l.Ports.Last != l.Ports.First {
		port += fmt.Sprintf("-%d", l.Ports.Last)
	}
	if l.Transport != TCP {
		port += "/" + string(l.Transport)
	}
	return port
}

// Bind is one *_bind directive of NGINX: the source address of its own
// connections to upstreams.
type Bind struct {
	Addr        netip.Addr // the zero Addr if only known at run time ($remote_addr)
	Transparent bool
	Upstreams   []netip.Addr // the literal ones
	Origin      string
}

// GatewaySource says how lasthop knows a path's gateway. Its text is printed
// unchanged.
type GatewaySource string

const (
	FromPin    GatewaySource = "pinned"
	FromStatic GatewaySource = "only next hop of static routes" // pinned, too
	FromRule   GatewaySource = "rule for its addresses"
	FromMain   GatewaySource = "default route in main"
	FromTable  GatewaySource = "default route in another table"
	FromLease  GatewaySource = "DHCP lease"
	FromHeld   GatewaySource = "held from our own table"
)

// Assumed reports whether the source of the gateway was set up for another
// purpose: another address, DHCP, an earlier plan.
func (s GatewaySource) Assumed() bool { return s == FromTable || s == FromLease || s == FromHeld }

// Path is one way back: a link, a family, its gateway or gateways, and whether
// the mode is last-hop. It has one table.
type Path struct {
	Link     string
	Family   Family
	Hops     []Hop
	Standby  []Hop // each takes over when those before it are dead, as in main
	Source   GatewaySource
	Detail   string // "DHCP lease of systemd-networkd", "table 100"; for people
	Table    uint32
	Prefixes []netip.Prefix // the cover; empty if the plan installs nothing
	// each reply goes to the router that its request came from, for each
	// connection; the gateways are for connections that are not known
	LastHop bool
}

// name returns the link and the first gateway.
func (p Path) name() string { return Hop{Link: p.Link, Via: p.Hops[0].Via}.String() }

// Gateways returns all next hops of the path, those that stand by last.
func (p Path) Gateways() []Hop { return slices.Concat(p.Hops, p.Standby) }

// Status is what becomes of a listener's replies.
type Status string

const (
	Ready      Status = "ready"      // needs lasthop's path, installed or not
	Armed      Status = "armed"      // the same, but its address is not here now
	Unchanged  Status = "unchanged"  // replies leave right without lasthop
	LocalOnly  Status = "local"      // host-local: no gateway is involved
	Off        Status = "off"        // switched off, or isolated by a VRF
	Unresolved Status = "unresolved" // the way is unknown; Reason says why
)

// Statuses lists every status, as Status declares them.
var Statuses = []Status{Ready, Armed, Unchanged, LocalOnly, Off, Unresolved}

// Outcome is the result for one listener at one address. A wildcard has one for
// each global address.
type Outcome struct {
	Listener
	Link   string
	Status Status
	Reason Code
	Mode   Return // that is asked for; "" for an address of this host or link alone
	Path   int    // 1 + the index of its path in Plan.Paths, 0 for none: see PathOf
	// the way to an off-link client: without what lasthop owns, and with
	// Plan.State
	Before, After Way
}

// Asks reports whether only the user can name the way of the listener's
// replies.
func (o Outcome) Asks() bool { return o.Status == Unresolved || o.Reason == "beyond-tunnel" }

// Plan is all that Decide decides.
type Plan struct {
	Paths    []Path
	State    State
	Outcomes []Outcome // in the order of the listeners
	Moves    []Move
	Findings []Finding
}

// FellBack reports whether a listener should have the mode last-hop and has
// not.
func (p Plan) FellBack() bool {
	return slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Code == "no-bpf" })
}

// PathOf returns the path of an outcome, nil if it has none.
func (p Plan) PathOf(o Outcome) *Path {
	if o.Path == 0 {
		return nil
	}
	return &p.Paths[o.Path-1]
}
