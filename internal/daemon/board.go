package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"lasthop/report"
	"lasthop/routing"

	"github.com/prometheus/client_golang/prometheus"
)

// board publishes the daemon's status to its clients, and takes their requests.
// Its methods are safe for concurrent use.
type board struct {
	started  time.Time
	requests chan request // to the loop
	times    prometheus.Histogram
	loads    func(load) // of benchmarks
	parked   []request  // of the loop, while a configuration is being read

	published atomic.Pointer[publication]
	lastHop   atomic.Pointer[report.LastHop] // what the mode does; nil: no path has it
}

// load is how the daemon followed a load of NGINX.
type load struct {
	ready           bool          // the decision was prepared
	written, synced time.Duration // since the fork
}

func newBoard() *board {
	b := &board{started: time.Now(), requests: make(chan request), times: newReloadTimes(),
		loads: func(load) {}}
	b.published.Store(newPublication(report.Status{Started: b.started,
		Wrong: []string{"the first look is not done yet"}}))
	return b
}

// renewed is the age limit, in an answer, of what the mode last-hop does: it
// changes all the time, and collecting it costs time.
const renewed = 2 * time.Second

// latest returns what is published. It adds what the mode last-hop does when a
// client asks.
func (b *board) latest() *publication {
	p, seen := b.published.Load(), b.lastHop.Load()
	old := p.status.LastHop
	if seen == nil || old != nil && seen.Time.Sub(old.Time) < renewed {
		return p
	}
	s := p.status
	s.LastHop = seen
	b.published.CompareAndSwap(p, newPublication(s))
	return b.published.Load()
}

// steers records what the mode last-hop does; nil: no path has it. It reports
// whether that has begun or ended.
func (b *board) steers(l *report.LastHop) bool {
	return (b.lastHop.Swap(l) == nil) != (l == nil)
}

// status returns what is published, all of it.
func (b *board) status() report.Status { return b.latest().status }

// publish replaces what is published. `systemctl status` shows it, too.
func (b *board) publish(s report.Status) {
	s.Started, s.LastHop = b.started, b.lastHop.Load()
	b.published.Store(newPublication(s))
	if len(s.Wrong) > 0 {
		s = report.Status{Wrong: s.Wrong[:1], Masters: s.Masters}.Public(newReaders().may)
	}
	notify("STATUS=" + statusLine(s))
}

// loaded records that the kernel has what a load needs.
func (b *board) loaded(l load) {
	b.times.Observe(l.synced.Seconds())
	b.loads(l)
}

// request asks the loop for something, and waits for its answer.
func (b *board) request(ctx context.Context, r request) (report.Apply, error) {
	c := make(chan reply, 1)
	r.reply = c
	select {
	case b.requests <- r:
	case <-ctx.Done():
		return report.Apply{}, ctx.Err()
	}
	select {
	case r := <-c:
		return r.apply, r.err
	case <-ctx.Done():
		return report.Apply{}, ctx.Err()
	}
}

// answer does what is asked for, or postpones it while a configuration is being
// read.
func (b *board) answer(r request, do func(request) (report.Apply, error)) {
	a, err := do(r)
	if errors.Is(err, errReading) {
		b.parked = append(b.parked, r)
		return
	}
	r.reply <- reply{a, err}
}

// unpark answers the postponed requests.
func (b *board) unpark(do func(request) (report.Apply, error)) {
	parked := b.parked
	b.parked = nil
	for _, r := range parked {
		r.read = true
		b.answer(r, do)
	}
}

// statusLine returns the status in one line, for `systemctl status`.
func statusLine(s report.Status) string {
	if len(s.Wrong) > 0 {
		return strings.ReplaceAll(report.Escape(s.Wrong[0]), "\n", " ")
	}
	ready, unresolved := 0, 0
	for _, o := range s.Plan.Outcomes {
		switch {
		case o.Status == routing.Ready || o.Status == routing.Armed:
			ready++
		case o.Asks():
			unresolved++
		}
	}
	return fmt.Sprintf("in sync: %d listeners, %d with a path, %d unresolved, %d "+
		"paths", len(s.Plan.Outcomes), ready, unresolved, len(s.Plan.Paths))
}
