package routing

import "net/netip"

// Query is one packet that the host itself sends.
type Query struct {
	Src  netip.Addr // zero: not chosen yet
	Dst  netip.Addr
	OIF  string // the device that the socket is bound to
	Mark uint32
}

// Step is one rule that Lookup tried.
type Step struct {
	Rule    Rule
	Matched bool
	Route   *Route // what its table answered; nil if nothing
	Note    string // why it did not match, or why its answer was suppressed
}

// Trace is a lookup, step by step, and its end.
type Trace struct {
	Query Query
	Steps []Step
	Way   Way
	Route *Route // the answer; nil if there is none
	Hops  []Hop  // the next hops it may take: more than one for a multipath route
}
