// Package migrate decides what becomes of a BIG-IP's virtual servers on the
// host that replaces the BIG-IP.
//
// Join takes the contents of the BIG-IP's files (package bigip) and the inputs
// of a decision about this host (package routing). It adds the addresses of the
// virtual servers to NGINX's listeners and decides, so that this host's own
// rules determine the way back of each address. It then makes one row for each
// destination of a virtual server and each VLAN that clients come in by: what
// the BIG-IP did, what this host does, and what is missing for the same.
//
//   - selection.go takes the virtual servers of a wave, or of the route domain
//     that this host is for, and waves.go finds what the remaining ones still
//     need.
//   - place.go finds the interface of each VLAN, by the subnets of its self
//     IPs, and the routers that the BIG-IP's files name on it.
//   - site.go gathers what serves an address, and what else answers for it: an
//     address has one owner and one way.
//   - listen.go finds the listener of NGINX that takes a destination's ports.
//   - way.go compares the way back here with the BIG-IP's way, and routes.go
//     this host's routes with the BIG-IP's.
//   - properties.go judges what else decides which server answers which client.
//   - merge.go makes one row of VLANs that are alike.
//   - needs.go collects what is missing for lasthop, as flags, and settings.go
//     writes it as lasthop.yaml. What is known becomes a proposal; what only
//     the user can decide becomes a question.
//   - summary.go adds what concerns the BIG-IP as a whole.
//   - steps.go leads through the cut-over and back, pair.go on each unit.
//   - skeleton.go writes an nginx.conf that listens where the BIG-IP did.
//   - verify.go judges after the move what neighbours say of the addresses.
//
// Following the steps converges: Join decides again with its proposals, so that
// the next run asks nothing new. The user's answer stays on the row, with the
// clients that lose by it.
//
// Join asks for what neither the files nor this host tell, and never guesses
// it.
package migrate

import (
	"slices"

	"lasthop/routing"
)

// Result is what becomes of a BIG-IP's virtual servers on a host.
type Result struct {
	// Plan is the plan of the decision. Its Outcomes are those of the
	// virtual servers' addresses only.
	Plan routing.Plan
	// Selection are the flags that left virtual servers out: "--only %2".
	Selection []string
	Rows      []Row // of each virtual server those of its destinations and VLANs
	// A warning is something that a row needs or that the user has decided,
	// an error something that only the user can decide; sorted.
	Findings []routing.Finding
	Flags    []string // for lasthop; IPv4-ADDR stands for what only the user knows
	Settings string   // the same as lasthop.yaml, with what was decided before
	Steps    []Step   // the cut-over, in order
}

// The statuses of a Row.
const (
	Ready         = "ready"          // replies will leave the way their requests come in
	NeedsInput    = "needs-input"    // Remedy says what is missing
	Manual        = "manual"         // the user must read and decide
	NotApplicable = "not-applicable" // nothing here replies to its clients
)

// Row is one destination of a virtual server and one VLAN that its clients come
// in by. It can be printed as it is; what is absent is "".
type Row struct {
	// What the BIG-IP served.
	Virtual     string `json:"virtual"`
	Origin      string `json:"origin"`                // file:line
	Destination string `json:"destination,omitempty"` // as written
	Address     string `json:"address,omitempty"`     // "10.0.0.1", a network or a range
	Port        string `json:"port"`                  // "443", "8000-8005", "any"
	Protocol    string `json:"protocol"`
	Source      string `json:"source,omitempty"` // the clients' network, if not all
	VLAN        string `json:"vlan,omitempty"`   // "other VLANs (29)" for several

	VLANs []string `json:"vlans,omitempty"` // those of several

	// The BIG-IP's way of replies, a bigip.Return, and what decided it.
	Return      string `json:"last_hop,omitempty"`
	Level       string `json:"decided_by,omitempty"`
	Value       string `json:"decided_value,omitempty"`
	LevelOrigin string `json:"decided_at,omitempty"`

	// NGINX's listener. Match is "exact", "wildcard", "other-port",
	// "other-transport" or "none".
	Match        string `json:"listener,omitempty"`
	Listen       string `json:"listen,omitempty"`
	ListenOrigin string `json:"listen_origin,omitempty"`

	// This host.
	Interface     string `json:"interface,omitempty"` // that of the VLAN
	Gateway       string `json:"gateway,omitempty"`
	GatewaySource string `json:"gateway_source,omitempty"`
	Present       bool   `json:"present"` // whether the address is on the host

	// What is missing. Also holds the codes of further findings.
	Status string   `json:"status"`
	Reason string   `json:"reason,omitempty"`
	Remedy string   `json:"remedy,omitempty"`
	Also   []string `json:"also"`

	// What the user decided, in the words of the question, and the clients
	// that since then are not answered the way they came.
	Decided string `json:"decided,omitempty"`
	Loses   string `json:"loses,omitempty"`

	// The way of replies: the BIG-IP's, and this host's.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Blocked reports whether the row needs input or is manual.
func (r Row) Blocked() bool { return r.Status == NeedsInput || r.Status == Manual }

// Blocked reports whether one of the rows is blocked, or a file was not used.
func (r Result) Blocked() bool {
	return slices.ContainsFunc(r.Rows, Row.Blocked) ||
		slices.ContainsFunc(r.Findings, func(f routing.Finding) bool {
			return f.Code == "nothing-used"
		})
}

// Step is one step of the cut-over.
type Step struct {
	Phase string `json:"phase"` // "prepare", "cut-over", "roll-back"
	// Where is "nginx.conf", "lasthop.yaml", "host", "big-ip", or "" for
	// something to find out.
	Where string   `json:"where,omitempty"`
	Units []string `json:"units,omitempty"` // of a pair, the units to do it on
	Title string   `json:"title"`           // what to do
	Lines []string `json:"lines"`           // exactly this: commands, or lines of the file
	Notes []string `json:"notes"`
}
