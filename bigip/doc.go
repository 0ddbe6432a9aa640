// Package bigip finds what a BIG-IP listened on and how it sent replies back,
// from its own configuration.
//
// Load reads the files of an engineer before a migration: bigip.conf and
// bigip_base.conf, a partition tree, an SCF, a UCS archive, the output of `tmsh
// list`, BigDB.dat, answers of iControl REST; any number of them, taken
// together. A file is a sequence of stanzas, `ltm virtual /Common/web { … }`.
// Braces alone do not mark their ends: iRules and scripts are Tcl, with braces
// in comments and regular expressions, strings hold whole HTML pages, and
// hand-edited files lack one here and there. So Load reads a stanza of
// properties as tokens that know quotes, and a script as raw lines to the next
// header. A header in column 0 always ends what is open before it: a bad stanza
// costs only itself, never the following ones. Stanzas counts them: each is
// read whole, or named in a warning. An item of iControl REST becomes such a
// stanza, so that the further steps are the same for both.
//
// What matters for replies is then typed, with names in full (/Common/web) and
// route domains as numbers: virtual servers and their destinations, virtual
// addresses, self IPs, VLANs, routes, pools, SNATs. Ingresses combines them:
// for a virtual server and each VLAN that clients come in by, whether
// Auto-Last-Hop was on there and which level decided it:
//
//	iRule (lasthop, nexthop) > last-hop-pool > virtual server >
//	VLAN, VLAN group or tunnel > connection.autolasthop
//
// Auto-Last-Hop sends a reply to the MAC address that the connection came from.
// So a BIG-IP needs no route back, and the configuration often names no gateway
// at all; lasthop must not invent one. The last level is in neither bigip.conf
// nor an SCF. If the input lacks it, F5's default holds and the result says so.
//
// Package bigip/migrate joins that with a decision about the host that replaces
// the BIG-IP.
//
// The package keeps nothing else. These files hold private keys and password
// hashes: no body of a stanza is in a Config, a warning or an error.
package bigip

import (
	"cmp"
	"net/netip"
	"path"
	"slices"

	"go4.org/netipx"

	"lasthop/routing"
)

// Config is the contents of one BIG-IP's files. Names are full paths. Every
// Origin is file:line, in an archive archive:member:line, of iControl REST
// "file: name".
type Config struct {
	// What clients connect to, in the order of the files, as all else.
	Virtuals  []Virtual
	Addresses []VirtualAddress

	// How packets go.
	Selfs        []Self
	VLANs        []VLAN
	Routes       []Route
	Domains      []RouteDomain
	Pools        []Pool
	SNATs        []SNAT
	SNATPools    []SNATPool
	NATs         []NAT
	Translations []Translation
	Devices      []Device
	DeviceGroups []DeviceGroup

	// Global is connection.autolasthop; a caller that knows the true value
	// overwrites it.
	Global Setting

	// What was read.
	Hostname string
	Version  string // of TMOS, "15.1.8.2"
	Files    []File
	Stanzas  Count
	Warnings []Warning
}

// File is one input.
type File struct{ Name, SHA256 string }

// Count accounts for the stanzas of all files: Found is Parsed + Named.
type Count struct {
	Found  int // headers
	Parsed int // read to their end
	// not read whole, of an unknown kind, or replaced by a later stanza:
	// each has a warning of its own
	Named int
}

// Warning is something in the files that does not stop lasthop, but that an
// operator should know. The codes are stable. Of a stanza that counts as Named:
// unclosed, truncated, unknown-module, duplicate. Of lines outside of stanzas:
// stray, imish. Of a file: nothing-used, not-expanded. Of the contents of a
// stanza: bad-address, bad-destination, bad-mask, bad-route, bad-value,
// conflict, no-destination, no-id, too-many-entries, undefined-list,
// undefined-pool, undefined-rule, unknown-service, unresolved-list,
// vlans-unclear.
type Warning struct {
	Code    string
	Subject string // the stanza's type and name, or the file; "" if it is about none
	Message string
	Hint    string
	Origin  string
}

// AutoLastHop is a setting of Auto-Last-Hop. Default leaves the decision to the
// next level.
type AutoLastHop string

const (
	Default  AutoLastHop = "default"
	Enabled  AutoLastHop = "enabled"
	Disabled AutoLastHop = "disabled"
)

// Setting is a global setting. The zero Setting is in none of the files.
type Setting struct {
	Value  AutoLastHop
	Origin string
}

// Type is what a virtual server does with a connection.
type Type string

const (
	Standard  Type = "standard"
	IPForward Type = "ip-forward" // routes the packets on
	L2Forward Type = "l2-forward"
	Reject    Type = "reject"
	Internal  Type = "internal" // has no destination
	Stateless Type = "stateless"
	DHCPRelay Type = "dhcp-relay"
)

// Virtual is one virtual server, or one DNS listener (gtm listener).
type Virtual struct {
	Name string
	Kind string // "ltm virtual" or "gtm listener"
	Type Type
	// one, or one for each entry of an address list; none with a warning,
	// or for Internal
	Destinations []Destination
	Service
	Source netip.Prefix // the clients that it serves; zero: all
	// what switched it off: the stanza's type and name; "" if it serves
	Disabled    string
	VLANs       Scope
	AutoLastHop AutoLastHop
	LastHopPool string // "" for none
	LastHops    []Member
	Rules       []Rule // in order
	Servers     Servers
	Damaged     bool // its stanza was not read whole: settings may be missing
	Origin      string
}

// Service is what a virtual server speaks with its clients.
type Service struct {
	Protocol string // "tcp", "udp", …; "any" if none is named
	// HTTP and TLS report whether one of its profiles parses HTTP, or ends
	// TLS: a profile that the files have, or one of F5's own.
	HTTP, TLS bool
}

// Servers is how a virtual server reaches its servers.
type Servers struct {
	Pool string // "" for none
	// the source of its connections to them: "automap", an SNAT pool,
	// "lsn"; "" for the client's own address
	SNAT          string
	NoTranslation bool // packets keep the virtual server's address as destination
	// properties of the virtual server and of its criteria that decide
	// which clients are answered, and that are not in a Config
	Unjudged []string
}

// Destination is where clients connect to.
type Destination struct {
	Text    string // as written: "/Common/10.0.0.1%2:443", or the entry of an address list
	Address string // the virtual address that it names; "" if the files have none
	// one address, a network, or a range; not valid if the text cannot be
	// resolved
	Addrs  netipx.IPRange
	Domain int // route domain
	Ports  []routing.PortRange
	// the names of unknown ports: a service of no table, or a port list;
	// Ports is without them
	Service string
	Origin  string
}

// Host returns the address of a destination that is one address.
func (d Destination) Host() (netip.Addr, bool) {
	return d.Addrs.From(), d.Addrs.IsValid() && d.Addrs.From() == d.Addrs.To()
}

// AnyPort reports whether the destination takes every port.
func (d Destination) AnyPort() bool { return len(d.Ports) == 1 && d.Ports[0] == anyPort }

// Scope says which VLANs a virtual server serves. The zero Scope is all.
type Scope struct {
	Only    []string // only these
	Except  []string // all except these
	Unclear bool     // `vlans-enabled` without a list: no source says what it means
}

// VirtualAddress is an `ltm virtual-address`.
type VirtualAddress struct {
	Name         string
	Addrs        netipx.IPRange
	Domain       int
	Disabled     bool
	NoARP        bool // it answers no neighbours: routers have a route for it
	Advertised   bool // a routing protocol announces it
	TrafficGroup string
	Origin       string
}

// Self is an address of the BIG-IP itself on a VLAN.
type Self struct {
	Name     string
	Prefix   netip.Prefix // with its host bits
	Domain   int
	VLAN     string
	Floating bool // moves with its traffic group
	Origin   string
}

// VLAN is what packets come in by: a VLAN, a VLAN group or a tunnel.
type VLAN struct {
	Name        string
	Kind        string   // "vlan", "vlan-group" or "tunnel"
	Members     []string // the VLANs of a VLAN group
	Domain      int
	AutoLastHop AutoLastHop
	// the strict rp_filter of a BIG-IP; without effect if Auto-Last-Hop is
	// on
	SourceChecking bool
	// a tunnel of an explicit proxy, such as http-tunnel, which no wire
	// leads to
	Proxy bool
	// units of a pair talk to each other on it, and the files name no other
	// host there
	HA     bool
	Origin string
}

// Route is a `net route`. It has one of Gateway, Pool and Interface, or none if
// it drops packets (blackhole).
type Route struct {
	Name      string
	Network   netip.Prefix
	Domain    int
	Gateway   netip.Addr
	Pool      string
	Interface string
	Origin    string
}

// RouteDomain is a routing instance: the number after % in addresses.
type RouteDomain struct {
	Name string
	ID   int
	// BGP, OSPF and the like, which learn and announce routes
	Protocols []string
	Origin    string
}

// Pool is a pool of servers, or of gateways.
type Pool struct {
	Name    string
	Members []Member
	Origin  string
}

// Member is a member of a pool; its port does not matter here.
type Member struct {
	Name     string
	Addr     netip.Addr // not valid for a host name, or if no stanza gives it
	Domain   int
	Disabled bool
}

// SNAT is an `ltm snat`.
type SNAT struct{ Name, Origin string }

// SNATPool is an `ltm snatpool`.
type SNATPool struct {
	Name    string
	Members []string // names of translations
}

// NAT is an `ltm nat`.
type NAT struct{ Name, Origin string }

// Translation is an address that a BIG-IP translates to: an `ltm
// snat-translation`, a member of an `ltm snatpool` or the translation of an
// `ltm snat` without a stanza of its own, or the translation of an `ltm nat`.
type Translation struct {
	Kind   string // "ltm snat-translation" or "ltm nat"
	Name   string
	Addr   netip.Addr
	Domain int
	NoARP  bool // it answers no neighbours
	Origin string
}

// Device is a unit of a pair or cluster.
type Device struct {
	Name     string
	Hostname string
	Self     bool // the one that the files are of
	// its addresses for the other units: configsync-ip, mirror-ip,
	// mirror-secondary-ip, unicast-address
	HA     []netip.Addr
	Origin string
}

// DeviceGroup is a set of units that share configuration.
type DeviceGroup struct {
	Name       string
	Failover   bool // one takes over addresses of another: type sync-failover
	AutoSync   bool // what is changed on one unit is changed on all
	SaveOnSync bool // and saved there
	Devices    []string
	Origin     string
}

// Pair returns the device group whose units take over from each other, with the
// hostnames of these, that of the files last. Without one it returns no units.
func (c Config) Pair() (g DeviceGroup, units []string) {
	i := slices.IndexFunc(c.DeviceGroups,
		func(g DeviceGroup) bool { return g.Failover && len(g.Devices) > 1 })
	if i < 0 {
		return g, nil
	}
	self := ""
	for _, name := range c.DeviceGroups[i].Devices {
		at := slices.IndexFunc(c.Devices, func(d Device) bool { return d.Name == name })
		unit := path.Base(name)
		if at >= 0 {
			unit = cmp.Or(c.Devices[at].Hostname, unit)
		}
		if at >= 0 && c.Devices[at].Self {
			self = unit
			continue
		}
		units = append(units, unit)
	}
	if self != "" {
		units = append(units, self)
	}
	return c.DeviceGroups[i], units
}

// Rule is an iRule of a virtual server.
type Rule struct {
	Name     string
	Commands []string // of "lasthop" and "nexthop", those that it uses
	Origin   string   // "" if its stanza is not in the files: F5's own rules are not
}
