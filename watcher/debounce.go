package watcher

import "time"

// Debounce turns many events into one: it is due when no event has come for
// Quiet, and at the latest Max after the first.
type Debounce struct {
	Quiet, Max  time.Duration
	first, last time.Time // zero: nothing is waiting
}

// Note records an event.
func (d *Debounce) Note(now time.Time) {
	if d.first.IsZero() {
		d.first = now
	}
	d.last = now
}

// Waiting reports whether an event is waiting.
func (d *Debounce) Waiting() bool { return !d.first.IsZero() }

// Due returns when the waiting events are due; it is meaningful while Waiting.
func (d *Debounce) Due() time.Time {
	due := d.last.Add(d.Quiet)
	if limit := d.first.Add(d.Max); limit.Before(due) {
		return limit
	}
	return due
}

// Take ends the waiting.
func (d *Debounce) Take() { d.first, d.last = time.Time{}, time.Time{} }
