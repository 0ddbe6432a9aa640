package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// Return is how replies of an interface or address are routed.
type Return string

const (
	Strict    Return = "strict"     // main answers, but never through an uplink; else the path
	MainFirst Return = "main-first" // main's specific routes win, also through other uplinks
	NoReturn  Return = "off"        // not at all
	// to the router that the request came from, for each connection; as
	// Strict if that router is not known
	LastHop Return = "last-hop"
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
// for which the host shows neither.
type AddressPin struct {
	Addr    netip.Addr
	Link    string
	Gateway netip.Addr // zero: the link's
}

// Policy is what the user decided, and lasthop's numbers.
type Policy struct {
	Numbers    Numbers
	Gateways   []GatewayPin
	Returns    []ReturnPin
	Addresses  []AddressPin
	Direct     []netip.Prefix
	FailClosed []string // links; "*" is all
	// connections that mode last-hop remembers, of TCP and of all other
	// protocols; 0 is DefaultFlows
	Flows int
}

// DefaultFlows is how many connections the mode last-hop remembers: 78 MB.
const DefaultFlows = 262144

// Numbers are the kernel's numbers that lasthop uses.
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

// PolicyError is a contradiction within a Policy, or between it and the host.
type PolicyError struct{ Message, Remedy string }

func (e *PolicyError) Error() string { return e.Message }

// Hint returns the remedy.
func (e *PolicyError) Hint() string { return e.Remedy }

// Validate returns an error if the policy contradicts itself on this host. A
// link that is not there is no error: links may come later. Errors are of type
// *PolicyError.
func (p Policy) Validate(h Host) error {
	for i, a := range p.Gateways {
		if err := p.validateGateway(h, a, p.Gateways[:i]); err != nil {
			return err
		}
	}
	for i, a := range p.Returns {
		for _, b := range p.Returns[:i] {
			if a.Link == b.Link && a.Addr == b.Addr && a.Mode != b.Mode {
				return contradiction("return %s=%s and =%s", a.Subject(), b.Mode,
					a.Mode)
			}
		}
	}
	for i, a := range p.Addresses {
		for _, b := range p.Addresses[:i] {
			if a.Addr == b.Addr && a != b {
				return contradiction("address %s=%s and =%s", a.Addr, b, a)
			}
		}
	}
	return nil
}

func (p Policy) validateGateway(h Host, a GatewayPin, earlier []GatewayPin) error {
	if a.Addr.IsValid() {
		if a.Addr.IsUnspecified() || a.Addr.IsLoopback() || a.Addr.IsMulticast() {
			return &PolicyError{fmt.Sprintf("gateway %s=%s: not the address of a "+
				"router", a.Link, a.Addr),
				"give the router's address in the link's subnet"}
		}
		if slices.ContainsFunc(h.Addrs,
			func(x Addr) bool { return x.Prefix.Addr() == a.Addr }) {
			return &PolicyError{fmt.Sprintf("gateway %s=%s: this is an address of "+
				"the host itself", a.Link, a.Addr),
				"give the address of the router"}
		}
	}
	for _, b := range earlier {
		if a.Link != b.Link || a == b {
			continue
		}
		both := a.Addr.IsValid() && b.Addr.IsValid()
		if both && (FamilyOf(a.Addr) != FamilyOf(b.Addr) ||
			pinPrefix(h, a) != pinPrefix(h, b)) {
			continue
		}
		if a.None || b.None || both {
			return contradiction("gateway %s=%s and =%s", a.Link, b, a)
		}
	}
	return nil
}

// pinPrefix is the connected prefix that holds a pinned gateway, or the whole
// family. A link-local gateway serves the whole family.
func pinPrefix(h Host, pin GatewayPin) netip.Prefix {
	best := FamilyOf(pin.Addr).All()
	if pin.Addr.IsLinkLocalUnicast() {
		return best
	}
	for _, a := range h.Addrs {
		if c := a.Connected(); a.Link == pin.Link && c.Contains(pin.Addr) &&
			c.Bits() > best.Bits() && !c.IsSingleIP() {
			best = c
		}
	}
	return best
}

func contradiction(format string, args ...any) error {
	return &PolicyError{"contradiction: " + fmt.Sprintf(format, args...), "keep one of the two"}
}

func (p GatewayPin) String() string {
	switch {
	case p.None:
		return "none"
	case p.Static:
		return "static"
	}
	return p.Addr.String()
}

func (p AddressPin) String() string {
	if p.Gateway.IsValid() {
		return p.Link + "," + p.Gateway.String()
	}
	return p.Link
}

// Subject is what the pin is for: the address, else the link.
func (p ReturnPin) Subject() string {
	if p.Addr.IsValid() {
		return p.Addr.String()
	}
	return p.Link
}

// mode returns how replies of an address on a link are routed: by the setting
// of the address, else that of the link, else Strict.
func (p Policy) mode(addr netip.Addr, link string) Return {
	mode := Strict
	for _, r := range p.Returns {
		switch {
		case !r.Addr.IsValid() && r.Link == link:
			mode = r.Mode // all are the same: see Validate
		case r.Addr.IsValid() && r.Addr == addr:
			return r.Mode
		}
	}
	return mode
}

// address returns the pin of an address.
func (p Policy) address(addr netip.Addr) (pin AddressPin, ok bool) {
	i := slices.IndexFunc(p.Addresses, func(a AddressPin) bool { return a.Addr == addr })
	if i < 0 {
		return pin, false
	}
	return p.Addresses[i], true
}

// none reports whether the user said that the link has no gateway.
func (p Policy) none(link string) bool {
	return slices.ContainsFunc(p.pins(link), func(g GatewayPin) bool { return g.None })
}

func (p Policy) failClosed(link string) bool {
	return slices.Contains(p.FailClosed, link) || slices.Contains(p.FailClosed, "*")
}

// Connections returns how many connections the mode last-hop remembers: of TCP,
// and of all other protocols.
func (p Policy) Connections() int {
	if p.Flows == 0 {
		return DefaultFlows
	}
	return p.Flows
}

// AsksLastHop reports whether a path may have the mode last-hop.
func (p Policy) AsksLastHop() bool {
	return slices.ContainsFunc(p.Returns, func(r ReturnPin) bool { return r.Mode == LastHop })
}

// pins returns the gateways that the user pinned to a link.
func (p Policy) pins(link string) []GatewayPin {
	return filter(p.Gateways, func(g GatewayPin) bool { return g.Link == link })
}
