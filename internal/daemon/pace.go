package daemon

import (
	"time"

	"lasthop/watcher"
)

// pace decides when to read the host again after an event. The daemon
// immediately puts back what another program has deleted of lasthop, and
// immediately reads the host when a link comes up or a default route comes.
// Other events can wait until a link has come up as a whole, but not long: an
// address that comes every 20 ms must not delay a route. Looks cost more if
// there is more to read, and wait accordingly.
type pace struct {
	agenda agenda
	calm   watcher.Debounce
	urgent watcher.Debounce
	cost   time.Duration // of the last look
	whole  time.Time     // when an audit reads everything
}

const (
	calmQuiet   = 50 * time.Millisecond
	calmMost    = time.Second
	urgentQuiet = 2 * time.Millisecond
	urgentMost  = 20 * time.Millisecond
	// looks in a storm take at most a tenth of a processor, unless that
	// delays one by more than calmMost; then a fifth, up to dearMost;
	// urgent ones half
	calmShare = 10
	dearShare = 5
	dearMost  = 5 * time.Second
)

// note records an event that counts.
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

// looked records that the host was read, and the cost of that: events before it
// are handled.
func (p *pace) looked(cost time.Duration) {
	p.cost = cost
	p.calm.Take()
	p.urgent.Take()
	delete(p.agenda, doHost)
	delete(p.agenda, doUrgent)
}

// deaf is the time between looks while no event can be received.
func (p *pace) deaf() time.Duration { return max(time.Second, calmShare*p.cost) }
