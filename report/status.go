package report

import (
	"slices"
	"time"

	"lasthop/routing"
)

// Status is what the daemon last did, and what is wrong now: the result of
// `lasthop status`.
type Status struct {
	Head
	Started   time.Time // of the daemon
	InSync    bool      // the kernel holds what the plan wants, and nothing is wrong
	Detector  string    // what notices reloads: "proc connector", "polling …"
	Masters   []Master
	Plan      routing.Plan
	Diff      routing.Diff // what the kernel lacks of the plan now
	Digest    string
	Installed routing.State // what lasthop owns in the kernel now
	Last      Change        // the last sync that wrote something, or tried to
	Synced    time.Time     // when the kernel was last compared with the plan
	Wrong     []string      // what is wrong now, a sentence each, the oldest first
	Counts    Counts
	LastHop   *LastHop // nil while no path has that mode
}

// Asks reports whether the user has to name the way of some listener, or
// whether a listener lacks a way that the user asked for.
func (s Status) Asks() bool {
	return slices.ContainsFunc(s.Plan.Outcomes, routing.Outcome.Asks) || s.Plan.FellBack()
}

// Master is one NGINX that the daemon follows.
type Master struct {
	PID        int // 0: configured, but not running
	Conf       string
	Root       string    // of its files: "/proc/PID/root" in a container, "" on this host
	Generation int       // successful loads seen, the one at the start included
	Loaded     time.Time // when the last of them was seen
	Workers    int       // of the current generation
	Draining   int       // old workers that still serve connections
	Pending    bool      // what is on disk waits for a reload
}

// Change is one sync that wrote something.
type Change struct {
	Time  time.Time
	Cause string // "reload of NGINX 4711", "rule deleted by another program", "start"
	Done  []routing.Op
	Error string // what failed, "" if nothing did
}

// Counts are the numbers of events since the start.
type Counts struct {
	Syncs   int `json:"syncs"`   // comparisons of the kernel with the plan
	Changes int `json:"changes"` // writes made
	Heals   int `json:"heals"`   // objects put back that another program had deleted or changed
	Fights  int `json:"fights"`  // times that lasthop backed off from another program
	Errors  int `json:"errors"`  // failed syncs, in whole or in part
	Reloads int `json:"reloads"` // successful loads of NGINX
}
