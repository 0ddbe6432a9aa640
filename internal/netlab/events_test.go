package netlab

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	duration = flag.Duration("events-for", 0, "have a daemon guard networks for so long")
	guardedN = flag.Int("guarded", 3, "or a number of networks")
	racy     = flag.Bool("racy", false, "build lasthop with the race detector")
	eventsN  = flag.Int("events", 0, "number of events of each; default: 5, with "+
		"-events-for 20")
)

// TestEvents: a daemon guards random networks while events happen.
func TestEvents(t *testing.T) { testEvents(t, *guardedN, sabotage{}) }

// testEvents makes a daemon guard a number of networks, or for a time.
func testEvents(t *testing.T, networks int, s sabotage) {
	bin := lasthopBinary(t)
	events, end := *eventsN, time.Now().Add(*duration)
	if events == 0 {
		events = 5
		if *duration > 0 {
			events = 20
		}
	}
	t.Logf("seeds from %d, %d events each", *firstSeed, events)
	var mu sync.Mutex
	var results []Result
	var tally Tally
	next := *firstSeed
	seed := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		n := next
		next++
		if *duration > 0 {
			return n, time.Now().Before(end)
		}
		return n, n < *firstSeed+uint64(networks)
	}
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			for n, ok := seed(); ok; n, ok = seed() {
				t.Run(fmt.Sprint("seed=", n), func(t *testing.T) {
					r, seen := guardedTwice(t, n, bin, events, s)
					mu.Lock()
					defer mu.Unlock()
					results, tally = append(results, r), tally.plus(seen)
				})
			}
		})
	}
	workers.Wait()
	reportEvents(t, results, tally)
}

// guardedTwice guards a network, and again if there is a fault: the fault
// counts if it comes again.
func guardedTwice(t *testing.T, seed uint64, bin string, events int,
	s sabotage) (Result, Tally) {
	r, seen := guarded(t, draw(seed), bin, events, s)
	if r.String() == "" {
		return r, seen
	}
	t.Logf("again:\n%s", r)
	again, more := guarded(t, draw(seed), bin, events, s)
	first := r
	again.Faults = slices.DeleteFunc(again.Faults, func(f Fault) bool {
		return !slices.ContainsFunc(first.Faults, func(g Fault) bool {
			return f.Kind == g.Kind && f.Subject == g.Subject && f.Cause == g.Cause
		})
	})
	return again, seen.plus(more)
}

// plus adds the numbers of another daemon.
func (a Tally) plus(b Tally) Tally {
	sum := Tally{a.Events + b.Events, a.Asked + b.Asked, a.Sent + b.Sent,
		a.Unsettled + b.Unsettled, a.Named + b.Named, map[string]time.Duration{}}
	for _, t := range []Tally{a, b} {
		for k, d := range t.Gaps {
			sum.Gaps[k] = max(sum.Gaps[k], d)
		}
	}
	return sum
}

// reportEvents prints the results, and fails for faults.
func reportEvents(t *testing.T, results []Result, seen Tally) {
	t.Logf("%d networks, %d events; %d requests after them, over TCP, UDP and ping each; %d "+
		"messages during events that are not about them", len(results), seen.Events,
		seen.Asked, seen.Sent)
	t.Logf("not in sync after %s: %d events; lost, and named by the plan: %d requests",
		settleIn, seen.Unsettled, seen.Named)
	for _, k := range sorted(seen.Gaps) {
		if !strings.Contains(k, "with it") {
			t.Logf("%6s at most until what it is about is answered again: %s",
				seen.Gaps[k].Round(beat), k)
		}
	}
	slices.SortFunc(results, func(a, b Result) int { return int(a.Seed) - int(b.Seed) })
	lost := 0
	for _, r := range results {
		lost += len(r.Faults)
		if text := r.String(); text != "" {
			t.Errorf("%sreplay: go test ./internal/netlab -run %s -v -args "+
				"-details -guarded 1 -seed %d -events N", text, t.Name(), r.Seed)
		}
	}
	t.Logf("replies lost of rows that stay ready: %d", lost)
}
