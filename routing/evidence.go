package routing

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Evidence is what packets showed in one window of time: the way in and the way
// out of each connection. It is a value without conclusions; Judge concludes. A
// way that was not seen is unknown.
type Evidence struct {
	Window   Window
	Sampling Sampling
	Clients  int       // of all ways, each counted once
	Ways     []SeenWay // in a fixed order
	Names    []MACName // which router has which MAC
}

// Window is the time of an Evidence.
type Window struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Seconds float64   `json:"seconds"`
}

// Sampling says how much of the traffic was looked at. Of each class one packet
// in so many was taken; 1 is all.
type Sampling struct {
	Handshakes int  `json:"handshakes"` // of flows, by a hash: both directions or neither
	Payload    int  `json:"payload"`    // of flows, of segments that leave with payload
	Requests   int  `json:"requests"`   // of flows, of segments that come in with payload
	Segments   int  `json:"segments"`   // of all other packets, at random
	Packets    int  `json:"packets"`    // that were taken
	Dropped    int  `json:"dropped"`    // that were wanted, but came too fast
	Evicted    int  `json:"evicted"`    // flows that were dropped from the table undecided
	SYNCookies bool `json:"syncookies"` // the kernel sent some during the window
}

// Lossy reports whether the observer lost so many packets that silence means
// nothing.
func (s Sampling) Lossy() bool { return s.Dropped*100 > s.Packets+s.Dropped }

// SeenClass is the class of client of a way: OnLinkClient or OffLinkClient.
type SeenClass string

const (
	OnLinkClient  SeenClass = "on-link"  // in a connected prefix of the wire it came by
	OffLinkClient SeenClass = "off-link" // behind a router of that wire
)

// ICMP is the transport of a SeenWay of ping. Its port is 0.
const ICMP Transport = "icmp"

// MaxExamples is how many clients of a way are named.
const MaxExamples = 2

// SeenWay is one way in and one way out of connections of one listener and one
// class of clients.
type SeenWay struct {
	Addr      netip.Addr `json:"-"`
	Port      uint16     `json:"-"`
	Transport Transport  `json:"-"`

	Class    SeenClass    `json:"class"`
	Clients  int          `json:"clients"`
	Examples []netip.Addr `json:"examples"`
	In       Crossing     `json:"in"`
	Out      Crossing     `json:"out"` // without a wire, no packet was seen to leave
	Count    Connections  `json:"connections"`
	Reached  int          `json:"-"` // clients of confirmed connections
	// clients that have no confirmed connection, and an unconfirmed or
	// unanswered one
	Lost []netip.Addr `json:"-"`

	// Set by Judge.
	Verdict WayVerdict `json:"verdict"`
	Outcome WayOutcome `json:"outcome"`
}

// Crossing is where packets crossed the edge of this host.
type Crossing struct {
	Link string `json:"interface,omitempty"`
	// the link that carried the packets outside of this host: of a macvlan
	// its parent, of a port its bridge or bond
	Wire string `json:"wire,omitempty"`
	MAC  MAC    `json:"mac,omitzero"` // of the other end; zero on links without MACs
	// the next hop that did not answer the host's ARP or ND, if no packet
	// left
	Asked netip.Addr `json:"asked,omitzero"`

	// Set by Judge.
	Router netip.Addr `json:"router,omitzero"` // an address of the MAC
	Source string     `json:"source,omitempty"`
}

// Connections counts the connections of a way. A connection is in one of the
// last five, or in none while it is undecided.
type Connections struct {
	Seen int `json:"seen"`
	// this host's payload left, or the exact acknowledgement came in
	Confirmed   int `json:"confirmed"`
	Inferred    int `json:"inferred"`    // the answer was not repeated
	Unconfirmed int `json:"unconfirmed"` // the answer was repeated, and not acknowledged
	Unanswered  int `json:"unanswered"`  // the request was repeated, and no packet left
	Refused     int `json:"refused"`     // answered by a reset
}

// MACName is an address that the owner of a MAC on a wire has, and the protocol
// that revealed it.
type MACName struct {
	Wire   string
	MAC    MAC
	Addr   netip.Addr
	Source string // "ARP", "ND", "RA", "VRRP", "probe"
}

// MAC is an Ethernet address. The zero MAC means no address.
type MAC [6]byte

// String returns the MAC as `ip` prints it; "" for the zero MAC.
func (m MAC) String() string {
	if m == (MAC{}) {
		return ""
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText writes what String returns.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), ":", ""))
	if err != nil || len(b) != len(m) || len(text) != 3*len(m)-1 {
		return fmt.Errorf("%q is not an Ethernet address", text)
	}
	copy(m[:], b)
	return nil
}

// redundancy are the first bytes of MACs that several routers share: VRRP and
// CARP, HSRP, GLBP, and those of firewall pairs.
var redundancy = [][]byte{
	{0x00, 0x00, 0x5e, 0x00, 0x01}, {0x00, 0x00, 0x5e, 0x00, 0x02}, // VRRP, CARP
	{0x00, 0x00, 0x0c, 0x07, 0xac}, {0x00, 0x05, 0x73, 0xa0}, // HSRP
	{0x00, 0x07, 0xb4},       // GLBP
	{0x00, 0x09, 0x0f, 0x09}, // Fortinet
	{0x00, 0x1b, 0x17, 0x00}, // Palo Alto
	{0x00, 0x10, 0xdb, 0xff}, // Junos
}

// Redundant reports whether the MAC is one that routers of a redundant group
// share.
func (m MAC) Redundant() bool {
	if m[0] == 0 && m[1] == 0 && m[2] == 0x0c && m[3] == 0x9f && m[4]>>4 == 0xf {
		return true // HSRP version 2
	}
	for _, first := range redundancy {
		if string(m[:len(first)]) == string(first) {
			return true
		}
	}
	return false
}
