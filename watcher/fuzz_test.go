package watcher

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// history is what happens to the children of a master, two bytes a look: how
// much later it is, how many children are born and end, and whether they serve.
func history(data []byte, look func(now uint64, children []Process, ask asked)) {
	const most = 64 // children
	var children []Process
	now, pid := uint64(1000), 0
	for ; len(data) >= 2; data = data[2:] {
		now += uint64(data[0])
		gone := min(int(data[1]>>4&3), len(children))
		children = slices.Clone(children[gone:])
		for n := range min(uint64(data[1]&7), most-uint64(len(children))) {
			pid++
			// one tick apart, and the last at the time of the look
			children = append(children, Process{pid, now - min(n, now)})
		}
		serves, holds := data[1]>>6&1 == 1, data[1]>>7 == 1
		look(now, children, asked{holds: func() bool { return holds },
			serves: func(p Process) bool { return serves || p.PID%2 == 0 }})
	}
}

// FuzzGeneration: for any births and ends of children, each live child is of
// this load, of an earlier one, or not decided yet, and of only one; none that
// has ended is kept; there are no more loads than births; and a look takes no
// more than 200 µs, ten times what a busy machine takes.
func FuzzGeneration(f *testing.F) {
	for _, s := range []string{"\x01\x03\x64\x03\x05\x30", "\x00\x02\xff\x11\xff\x51\xff\x91",
		"\x01\x07\x01\x07\x01\x07\x09\x33\xc8\x03", "\x02\x02\x14\x12\x14\x12\x64\x42"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), 1<<12)]
		var g generation
		looks, loads, born := 0, 0, 0
		history(data, func(now uint64, children []Process, ask asked) {
			looks++
			v := g.observe(now, children, ask)
			loads += v.loads
			if len(children) > 0 {
				born = max(born, children[len(children)-1].PID)
			}
			of := map[Process]int{}
			for _, p := range slices.Concat(g.workers, g.old, g.open) {
				if of[p]++; !slices.Contains(children, p) {
					t.Fatalf("look %d keeps %v, which has ended", looks, p)
				}
			}
			for _, p := range children {
				if of[p] != 1 {
					t.Fatalf("look %d has %v %d times: %+v", looks, p, of[p], g)
				}
			}
			for _, p := range g.taken {
				if !slices.Contains(g.workers, p) {
					t.Fatalf("look %d: %v is a successor and no worker",
						looks, p)
				}
			}
		})
		if loads > born {
			t.Fatalf("%d loads, and %d were born", loads, born)
		}
		most := time.Duration(looks+1) * 200 * time.Microsecond
		nstest.Takes(t, most, fmt.Sprintf("%d looks", looks), func() {
			var g generation
			history(data, func(now uint64, children []Process, ask asked) {
				g.observe(now, children, ask)
			})
		})
	})
}

// FuzzForks: no message of the proc connector makes it panic or takes more than
// 10 µs.
func FuzzForks(f *testing.F) {
	event := make([]byte, offExitParent+8)
	for _, what := range []byte{procNone, procFork} {
		event[offWhat] = what
		f.Add(slices.Clone(event))
	}
	event[offWhat], event[offWhat+3] = 0, 0x80
	f.Add(slices.Clone(event))
	f.Add(event[:offExitParent]) // it is cut
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parse(b)
		if !ok && e != (fork{}) {
			t.Errorf("no event, and %+v", e)
		}
		nstest.Takes(t, 10*time.Microsecond, "a message", func() { parse(b) })
	})
}
