package routing

import "net/netip"

// Question asks the neighbours on a link for the owner of an address.
type Question struct {
	Link string
	Addr netip.Addr
}

// Asked holds the answers of the neighbours.
type Asked struct {
	Question
	Unasked string   // why they could not be asked; "" if they were
	Answers []Answer // of other machines, each once, by MAC
}

// Answer is a machine that claims an address.
type Answer struct {
	MAC MAC
	// The machine answers for another one: by proxy ARP or proxy NDP. A
	// machine that ignores probes for duplicate addresses looks the same in
	// IPv4.
	Proxy bool
}
