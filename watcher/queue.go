package watcher

import (
	"slices"
	"time"
)

// queue holds the events that no reader has taken yet, and what is wrong now.
type queue struct {
	events   []Event
	later    []time.Time       // when to report Masters again
	troubles map[string]string // by About: the last report of each that is not over
}

// say queues an event. Equal events that wait are queued once; a load is never
// left out.
func (q *queue) say(e Event) {
	if !slices.ContainsFunc(q.events, func(o Event) bool {
		return o.Kind == e.Kind && o.PID == e.PID && o.About == e.About
	}) {
		q.events = append(q.events, e)
	}
}

// trouble reports what is wrong about a subject, or with nil that nothing is
// any more. It reports each once, and withdraws what no reader has taken yet.
func (q *queue) trouble(about string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == q.troubles[about] {
		return
	}
	if q.troubles[about] = text; err == nil {
		delete(q.troubles, about)
	}
	q.events = slices.DeleteFunc(q.events, func(e Event) bool { return e.About == about })
	q.say(Event{Kind: Trouble, About: about, At: time.Now(), Err: err})
}

// reminders are when to look for masters after a pid file has changed: NGINX
// writes it before it has its title and its workers.
var reminders = []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond, time.Second}

// mastersChanged reports Masters now and again a little later.
func (q *queue) mastersChanged(now time.Time) {
	q.later = nil
	for _, d := range reminders {
		q.later = append(q.later, now.Add(d))
	}
	q.remind(time.Now())
}

func (q *queue) remind(now time.Time) {
	for len(q.later) > 0 && !q.later[0].After(now) {
		q.later = q.later[1:]
		q.say(Event{Kind: Masters, At: now})
	}
}
