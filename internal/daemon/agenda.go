package daemon

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// agenda is what to do when.
type agenda map[string]time.Time

// What is on the agenda.
const (
	doAudit   = "audit"   // compare with the kernel, whatever events say
	doRetry   = "retry"   // a sync that failed
	doHeal    = "heal"    // what was held back in a fight
	doLeave   = "leave"   // look whether old workers have ended
	doForget  = "forget"  // remove a path that has not been needed for a while
	doTrim    = "trim"    // give memory back
	doAlive   = "alive"   // the watchdog
	doMasters = "masters" // look for masters
	doNames   = "names"   // look up host names that are not known
	doUrgent  = "urgent"  // put back what was deleted, and sync, after events of the host
	doPlus    = "plus"    // ask the API of NGINX Plus
	doRouters = "routers" // look which routers are dead
	doTell    = "tell"    // log the findings that have stayed
	doTend    = "tend"    // check that the run directory is there
	doHost    = "host"    // sync after other changes of the host
)

// next returns when something is due, and false if nothing is on the agenda.
func (a agenda) next() (time.Time, bool) {
	var first time.Time
	for _, t := range a {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first, !first.IsZero()
}

// take returns what is due, sorted, and removes it.
func (a agenda) take(now time.Time) []string {
	var due []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if !a[name].After(now) {
			due = append(due, name)
			delete(a, name)
		}
	}
	return due
}

// by puts something on the agenda unless it is there for earlier.
func (a agenda) by(name string, t time.Time) {
	if old, ok := a[name]; !ok || t.Before(old) {
		a[name] = t
	}
}

// jitter spreads what many hosts do at the same time.
func jitter(d time.Duration) time.Duration { return d - d/8 + rand.N(d/4) }
