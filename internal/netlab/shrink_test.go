package netlab

import (
	"slices"
	"testing"
)

// shrink drops ingredients of a network while it shows a fault of the same kind
// and cause, with at most so many attempts.
func shrink(t *testing.T, r Result, want Fault, bin string, attempts int) (*Network, Result) {
	var dropped []string
	for _, ingredient := range r.Ingredients {
		if attempts--; attempts < 0 {
			break
		}
		less := append(slices.Clone(dropped), ingredient)
		n := draw(r.Seed, less...)
		if len(n.Ingredients) >= len(r.Ingredients) { // it is no random ingredient
			continue
		}
		var again Result
		t.Run("without="+ingredient, func(t *testing.T) { again = try(t, n, bin, nil) })
		if again.Error == "" && slices.ContainsFunc(again.Faults, want.like) {
			dropped, r = less, again
		}
	}
	return draw(r.Seed, dropped...), r
}

// like reports whether a fault is of the same kind and cause.
func (f Fault) like(g Fault) bool { return f.Kind == g.Kind && f.Cause == g.Cause }
