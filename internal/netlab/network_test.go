package netlab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Network is a host and all that is around it.
type Network struct {
	Seed        uint64
	Segments    []*Segment
	Routers     []*Router
	Clients     []*Client
	Listeners   []*Listener
	Requests    []Request
	Host        Host
	Stations    []*Station // all namespaces but the host's
	Wires       []Wire
	Ingredients map[string]bool
}

// Segment is a layer 2 network in which the host has a link.
type Segment struct {
	Name    string
	Link    string // of the host; it holds the addresses
	NIC     string // of the host; not the link if that is a bridge
	Subnets []*Subnet
}

// Subnet is a subnet of a segment. One of each family is usual.
type Subnet struct {
	Prefix  netip.Prefix
	Segment int
	Router  int   // that its hosts use, and that requests come in by; -1: none
	Style   Style // how the host's manager wrote it
	Table   int   // of that style
	Moved   bool  // connected and static routes are in it, and not in main
	Bare    bool  // the host's link there is up, without an address
	// Known reports whether the host has a default by the subnet's router
	// in any table, or a lease: its LAN is one with a default gateway.
	Known bool
}

// Addresses in a subnet, by their number. A subnet of two addresses has other
// numbers.
const (
	numRouter = 1
	numSecond = 2
	numStatic = 4
	numHost   = 10
	numPeer   = 60
	numLocal  = 50
	numVIP    = 100
)

// at returns the n-th address of a subnet.
func (s *Subnet) at(n int) netip.Addr {
	if s.pair() {
		n = map[int]int{numRouter: 0, numHost: 1}[n]
	}
	b := s.Prefix.Addr().AsSlice()
	b[len(b)-1] += byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// pair reports whether the subnet holds two addresses, a router and the host.
func (s *Subnet) pair() bool { return s.Prefix.Bits() >= s.Prefix.Addr().BitLen()-1 }

func (s *Subnet) is4() bool { return s.Prefix.Addr().Is4() }

// host returns the host's own address in the subnet, with the subnet's length.
func (s *Subnet) host() netip.Prefix { return netip.PrefixFrom(s.at(numHost), s.Prefix.Bits()) }

// Router forwards between the world and segments. A strict one drops a reply
// that comes back by another leg or through another router than the request
// went.
type Router struct {
	Name   string
	Number int
	Strict bool
	Legs   []Leg
	Only   *Subnet // only in this subnet it has an address; nil: in all of its own
	Dead   bool    // it has announced itself, and is gone now
	// Behind is a network behind the router that the host has a route for.
	// It is zero if the router is for the rest of the world.
	Behind     netip.Prefix
	Deliberate bool // that route is in a table of its own, by a rule `to`
}

// Leg is a router's link in a segment, with an address for each subnet.
type Leg struct {
	Segment int
	Num     int // of its addresses
}

func (r *Router) leg(segment int) (Leg, bool) {
	i := slices.IndexFunc(r.Legs, func(l Leg) bool { return l.Segment == segment })
	if i < 0 {
		return Leg{}, false
	}
	return r.Legs[i], true
}

// legLink returns the name of a router's link in a segment.
func legLink(segment int) string { return fmt.Sprintf("l%d", segment) }

// linkLocal returns the link-local address of a router, the same on all of its
// legs.
func linkLocal(number int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fe80::%x", number+1))
}

// The classes of clients.
const (
	offLink   = "off-link"
	onLink    = "on-link"
	otherLAN  = "other-lan"
	theRouter = "router"
	static    = "static-routed"
	container = "container"
	overlay   = "overlay"
	banned    = "banned"
	own       = "own" // the host itself asks a server elsewhere
)

// Client is a station that asks, and its address.
type Client struct {
	Station string
	Addr    netip.Addr
}

// Listener is an address that NGINX listens on.
type Listener struct {
	Addr   netip.Addr
	Place  string // how the host has it
	Subnet *Subnet
	Link   string // of the host, by which requests come in
	Router int    // whose clients ask
	Also   int    // another router whose clients ask, if not 0
	Rung   int    // the rung of the host's evidence for its gateway; 0: none
}

// The places of listeners.
const (
	placeOwn     = "own"     // the link's address
	placeVIP     = "vip"     // a further one, with the subnet's length
	placeVIP32   = "vip32"   // a host prefix on the link, as keepalived sets it
	placeVMAC    = "vmac"    // a host prefix on a macvlan, keepalived's use_vmac
	placeStandby = "standby" // of another host until after apply; then like vip32 or vmac
	placeLo      = "lo"      // on lo
	placeBridge  = "bridge"  // on a bridge without ports, for a dummy link
	placeLocal   = "local"   // a route of table local
	placeRouted  = "routed"  // routed to the host, in none of its subnets
	placeInside  = "inside"  // of a container bridge
	placeTunnel  = "tunnel"  // of a tunnel
	placeTwoWays = "twoways" // routed to the host by two uplinks
)

// Way is how a request comes in, and therefore how its reply must leave.
type Way struct {
	Link string
	Via  netip.Addr // zero: on-link
}

func (w Way) String() string {
	if w.Via.IsValid() {
		return w.Via.String() + " dev " + w.Link
	}
	return "dev " + w.Link
}

// Request is a request of a client to a listener. A request of the host itself
// goes the other way: Listener is nil, and the kernel chooses the source.
type Request struct {
	Client   *Client
	Listener *Listener
	Class    string
	Way      Way
	Router   *Router // that a request of the world comes in by; nil: of no router
	Mark     int     // of a request of the host's own
}

// asker returns the station that asks.
func (r Request) asker() string {
	if r.Listener == nil {
		return host
	}
	return r.Client.Station
}

func (r Request) String() string {
	if r.Listener == nil {
		return fmt.Sprintf("%s mark %#x -> %s", r.Class, r.Mark, r.Client.Addr)
	}
	return fmt.Sprintf("%s %s (%s) -> %s", r.Class, r.Client.Addr, r.Client.Station,
		r.Listener.Addr)
}

// Host is what the host's kernel and disk hold.
type Host struct {
	Lines   []string // of ip
	Lines6  []string // of ip -6
	Sysctls []string
	Nft     string
	Later   []string          // of ip, once lasthop has applied: a failover to this host
	Leases  map[string]string // text of networkd's lease by link
	Forward bool
	Conf    string // nginx.conf
}

// Station is a namespace that is not the host's.
type Station struct {
	Name    string
	Lines   []string
	Lines6  []string
	Sysctls []string
	Nft     string
	Adverts []Advert
	Dead    string // a link that goes down once the station has advertised
}

// add adds a line for ip, or for ip -6 if it has an IPv6 address.
func (s *Station) add(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if strings.Contains(line, "::") {
		s.Lines6 = append(s.Lines6, line)
	} else {
		s.Lines = append(s.Lines, line)
	}
}

// Advert is a router advertisement.
type Advert struct {
	Link       string
	From       netip.Addr
	Preference byte // RFC 4191: 0 medium, 1 high, 3 low
	Silent     bool // without the router's link-layer address
	Gone       bool // with a lifetime of 0: it is no longer a router
}

// Wire joins a station's link with a segment, or with another station's link.
type Wire struct {
	Station, Link string
	Segment       string // or the other end:
	Peer, Port    string
}

// station returns the station of a name, and makes it if it is new.
func (n *Network) station(name string) *Station {
	for _, s := range n.Stations {
		if s.Name == name {
			return s
		}
	}
	s := &Station{Name: name}
	n.Stations = append(n.Stations, s)
	return s
}

// subnets returns those of all segments.
func (n *Network) subnets() (list []*Subnet) {
	for _, s := range n.Segments {
		list = append(list, s.Subnets...)
	}
	return list
}

// String returns the network as text.
func (n *Network) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %s\n", n.Seed, strings.Join(sorted(n.Ingredients), ", "))
	for _, r := range n.Routers {
		fmt.Fprintf(&b, "router %s strict=%t legs=%v\n", r.Name, r.Strict, r.Legs)
	}
	for _, s := range n.subnets() {
		fmt.Fprintf(&b, "subnet %s by %s, router %d, written by %s (table %d)\n",
			s.Prefix, n.Segments[s.Segment].Link, s.Router, s.Style, s.Table)
	}
	for _, l := range n.Listeners {
		fmt.Fprintf(&b, "listener %s %s by %s, router %d, rung %d\n", l.Addr, l.Place,
			l.Link, l.Router, l.Rung)
	}
	b.WriteString(n.Host.String())
	return b.String()
}

// String returns the host as commands.
func (h Host) String() string {
	var b strings.Builder
	for _, s := range h.Sysctls {
		fmt.Fprintf(&b, "  sysctl -w %s\n", s)
	}
	for _, l := range h.Lines {
		fmt.Fprintf(&b, "  ip %s\n", l)
	}
	for _, l := range h.Lines6 {
		fmt.Fprintf(&b, "  ip -6 %s\n", l)
	}
	for _, l := range h.Later {
		fmt.Fprintf(&b, "  later: ip %s\n", l)
	}
	if h.Nft != "" {
		fmt.Fprintf(&b, "  nft %s\n", h.Nft)
	}
	for _, l := range sorted(h.Leases) {
		fmt.Fprintf(&b, "  lease of %s: %q\n", l, h.Leases[l])
	}
	return b.String()
}
