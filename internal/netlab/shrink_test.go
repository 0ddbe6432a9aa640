package netlab

import (
	"slices"
	"testing"
)

// shrink drops ingredients of a network as long as it shows the first of its
// faults, at most so many times.
func shrink(t *testing.T, r Result, bin string, attempts int) (*Network, Result) {
	want := r.Faults[0].Kind
	var dropped []string
	for _, ingredient := range r.Ingredients {
		if attempts--; attempts < 0 {
			break
		}
		less := append(slices.Clone(dropped), ingredient)
		n := draw(r.Seed, less...)
		if len(n.Ingredients) >= len(r.Ingredients) { // it is no ingredient of chance
			continue
		}
		var again Result
		t.Run("without="+ingredient, func(t *testing.T) { again = try(t, n, bin, nil) })
		if again.Error == "" && slices.Contains(again.kinds(), want) {
			dropped, r = less, again
		}
	}
	return draw(r.Seed, dropped...), r
}
