package daemon

import (
	"time"

	"lasthop/watcher"
)

// pace says when to look at the host again after an event. What another program
// has deleted of ours goes back at once, and a link that comes up or a default
// route that comes is looked at at once. For the rest there is time to let a
// link come up as a whole, but not much: an address that comes every 20 ms must
// not keep a route waiting. Looks cost more where there is more to look at, and
// wait accordingly.
type pace struct {
	agenda agenda
	calm   watcher.Debounce
	urgent watcher.Debounce
	cost   time.Duration // of the last look
	whole  time.Time     // when an audit is to look at everything
}

const (
	calmQuiet   = 50 * time.Millisecond
	calmMost    = time.Second
	urgentQuiet = 2 * time.Millisecond
	urgentMost  = 20 * time.Millisecond
	// looks in a storm take at most a tenth of a processor, as long as that
	// keeps none waiting for more than calmMost; then a fifth, up to
	// dearMost; urgent ones half
	calmShare = 10
	dearShare = 5
	dearMost  = 5 * time.Second
)

// note takes in an event that counts.
func (p *pace) note(urgent bool, now time.Time) {
	if urgent {
		p.urgent.Quiet, p.urgent.Max = urgentQuiet, min(max(urgentMost, p.cost), calmMost)
		p.urgent.Note(now)
		p.agenda[doUrgent] = p.urgent.Due()
		return
	}
	p.calm.Quiet = calmQuiet
	p.calm.Max = min(max(2*calmQuiet, calmShare*p.cost),
		max(calmMost, min(dearShare*p.cost, dearMost)))
	p.calm.Note(now)
	p.agenda[doHost] = p.calm.Due()
}

// looked takes in that the host was read, and what that has cost: events before
// that are dealt with.
func (p *pace) looked(cost time.Duration) {
	p.cost = cost
	p.calm.Take()
	p.urgent.Take()
	delete(p.agenda, doHost)
	delete(p.agenda, doUrgent)
}

// deaf is the time between looks while no event can be heard.
func (p *pace) deaf() time.Duration { return max(time.Second, calmShare*p.cost) }
