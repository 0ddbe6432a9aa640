package watcher

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// lookAt is what one look at the children finds. Children are named by id; each
// is born at the tick that born says.
type lookAt struct {
	now      uint64
	children []int
	holds    bool
	serving  []int // the children that take connections, where that is asked
	want     verdict
	current  []int
	old      []int
}

// born says at which tick each child was born.
var born = map[int]uint64{1: 100, 2: 100, 3: 101, 11: 1000, 12: 1001, 13: 1002, 21: 2000,
	22: 2001, 31: 1011, 41: 1008, 42: 1016, 51: 5000}

func processes(pids []int) (out []Process) {
	for _, pid := range pids {
		out = append(out, Process{pid, born[pid]})
	}
	return out
}

// generations begin with the workers 1, 2 and 3.
var generations = []struct {
	name  string
	looks []lookAt
}{
	{"nothing happens", []lookAt{
		{now: 200, children: []int{1, 2, 3}, current: []int{1, 2, 3}},
		{now: 300, children: []int{1, 2, 3}, current: []int{1, 2, 3}},
	}},
	{"a load, seen at its first fork", []lookAt{
		{now: 1000, children: []int{1, 2, 3, 11}, want: verdict{loads: 1}, current: []int{11}, old: []int{1, 2, 3}},
		{now: 1001, children: []int{1, 2, 3, 11, 12}, current: []int{11, 12}, old: []int{1, 2, 3}},
		{now: 1011, children: []int{11, 12}, want: verdict{drained: true}, current: []int{11, 12}},
	}},
	{"a load, seen when the old ones have gone", []lookAt{
		{now: 1050, children: []int{11, 12}, want: verdict{loads: 1}, current: []int{11, 12}},
	}},
	{"a load while old workers drain for long", []lookAt{
		{now: 1002, children: []int{1, 2, 3, 11, 12}, want: verdict{loads: 1}, current: []int{11, 12}, old: []int{1, 2, 3}},
		{now: 2001, children: []int{1, 11, 12, 21, 22}, want: verdict{loads: 1, drained: true}, current: []int{21, 22}, old: []int{1, 11, 12}},
		{now: 3000, children: []int{21, 22}, want: verdict{drained: true}, current: []int{21, 22}},
	}},
	{"a worker crashes", []lookAt{
		{now: 1000, children: []int{1, 2, 11}, want: verdict{respawned: true}, current: []int{1, 2, 11}},
		{now: 2000, children: []int{1, 2, 11}, current: []int{1, 2, 11}},
	}},
	{"a worker crashes, and a look falls between end and birth", []lookAt{
		{now: 999, children: []int{1, 2}, current: []int{1, 2}},
		{now: 1001, children: []int{1, 2, 11}, want: verdict{respawned: true}, current: []int{1, 2, 11}},
	}},
	{"a crash that is seen late: the other workers serve on", []lookAt{
		{now: 1050, children: []int{1, 2, 11}, serving: []int{1, 2, 11}, want: verdict{respawned: true}, current: []int{1, 2}},
		{now: 1060, children: []int{1, 2, 11}, serving: []int{1, 2, 11}, current: []int{1, 2}},
		{now: 1100, children: []int{1, 2, 11}, serving: []int{1, 2, 11}, current: []int{1, 2, 11}},
	}},
	{"a crash that is seen very late", []lookAt{
		{now: 4000, children: []int{1, 2, 11}, serving: []int{1, 2, 11}, want: verdict{respawned: true}, current: []int{1, 2, 11}},
	}},
	{"a load that is seen late: the old ones are told to end", []lookAt{
		{now: 1010, children: []int{1, 2, 3, 11, 12}, serving: []int{1, 2, 3, 11, 12}, want: verdict{respawned: true}, current: []int{1, 2, 3}},
		{now: 1012, children: []int{1, 2, 3, 11, 12}, serving: []int{11, 12}, want: verdict{loads: 1}, current: []int{11, 12}, old: []int{1, 2, 3}},
	}},
	{"a load that is seen very late: an old one drains", []lookAt{
		{now: 4000, children: []int{1, 11, 12}, serving: []int{11, 12}, want: verdict{loads: 1}, current: []int{11, 12}, old: []int{1}},
	}},
	{"all workers crash one after the other, seen late", []lookAt{
		{now: 2500, children: []int{3, 11, 21}, serving: []int{3, 11, 21}, want: verdict{respawned: true}, current: []int{3, 11, 21}},
	}},
	{"a worker crashes right before a load", []lookAt{
		{now: 999, children: []int{1, 2}, current: []int{1, 2}},
		{now: 1000, children: []int{1, 2, 11}, want: verdict{respawned: true}, current: []int{1, 2, 11}},
		{now: 1001, children: []int{1, 2, 11, 12}, want: verdict{loads: 1}, current: []int{12, 11}, old: []int{1, 2}},
	}},
	{"the cache loader ends, a load much later", []lookAt{
		{now: 700, children: []int{1, 2}, current: []int{1, 2}},
		{now: 1000, children: []int{1, 2, 11}, want: verdict{loads: 1}, current: []int{11}, old: []int{1, 2}},
	}},
	{"many workers are forked slowly", []lookAt{
		{now: 1000, children: []int{1, 2, 3, 11}, want: verdict{loads: 1}, current: []int{11}, old: []int{1, 2, 3}},
		{now: 1008, children: []int{1, 2, 3, 11, 41}, current: []int{11, 41}, old: []int{1, 2, 3}},
		{now: 1016, children: []int{1, 2, 3, 11, 41, 42}, current: []int{11, 41, 42}, old: []int{1, 2, 3}},
	}},
	{"two loads, one right after the other", []lookAt{
		{now: 1002, children: []int{1, 2, 3, 11, 12}, want: verdict{loads: 1}, current: []int{11, 12}, old: []int{1, 2, 3}},
		{now: 1012, children: []int{11, 12, 31}, want: verdict{loads: 1, drained: true}, current: []int{31}, old: []int{11, 12}},
	}},
	{"two loads in one late look", []lookAt{
		{now: 3000, children: []int{11, 12, 21, 22}, want: verdict{loads: 2}, current: []int{21, 22}, old: []int{11, 12}},
	}},
	{"a new binary is started by a master that keeps its configuration", []lookAt{
		{now: 1000, children: []int{1, 2, 3, 11}, holds: true, want: verdict{held: true}, current: []int{1, 2, 3, 11}},
		{now: 1050, children: []int{1, 2, 3}, current: []int{1, 2, 3}},
		{now: 2001, children: []int{1, 2, 3, 21}, want: verdict{loads: 1}, current: []int{21}, old: []int{1, 2, 3}},
	}},
}

func TestGeneration(t *testing.T) {
	for _, tt := range generations {
		t.Run(tt.name, func(t *testing.T) {
			var g generation
			g.begin(processes([]int{1, 2, 3}), nil)
			for i, l := range tt.looks {
				got := g.observe(l.now, processes(l.children),
					asked{holds: func() bool { return l.holds },
						serves: func(p Process) bool {
							return slices.Contains(l.serving, p.PID)
						}})
				if got != l.want {
					t.Errorf("look %d: got %+v, want %+v", i, got, l.want)
				}
				if d := cmp.Diff(processes(l.current), g.workers,
					cmpopts.EquateEmpty()); d != "" {
					t.Errorf("look %d: workers: -want +got\n%s", i, d)
				}
				if d := cmp.Diff(processes(l.old), g.old,
					cmpopts.EquateEmpty()); d != "" {
					t.Errorf("look %d: old workers: -want +got\n%s", i, d)
				}
			}
		})
	}
}

// TestBegin: what is shutting down already belongs to an earlier load.
func TestBegin(t *testing.T) {
	var g generation
	g.begin([]Process{{1, 10}, {2, 20}}, []Process{{1, 10}})
	if d := cmp.Diff(generation{workers: []Process{{2, 20}}, old: []Process{{1, 10}}}, g,
		cmp.AllowUnexported(generation{})); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
