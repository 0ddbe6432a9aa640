package routing

import (
	"slices"
	"testing"
)

// A look that finds the host unchanged allocates what it copies, and nothing
// for a listener: as often with 20,000 listeners as with 20.
func TestRenewAllocations(t *testing.T) {
	for _, n := range []int{20, 20000} {
		h := manyUplinks(8)
		in := Inputs{Host: h, Listeners: listenersIn(h, n, true),
			Policy: Policy{Numbers: DefaultNumbers}}
		d, err := Decide(in)
		if err != nil {
			t.Fatal(err)
		}
		in.Host = With(h, d.Plan.State)
		again := in
		again.Host.Addrs = slices.Clone(in.Host.Addrs)
		again.Host.Routes = slices.Clone(in.Host.Routes)
		got := testing.AllocsPerRun(10, func() {
			if d, err := d.Renew(again); err != nil || !d.Diff.Empty() {
				t.Fatalf("%v, %v", d.Diff, err)
			}
		})
		if got != 363 {
			t.Errorf("%d listeners: %v allocations, want 363", n, got)
		}
	}
}
