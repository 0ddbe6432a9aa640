package survey

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// A look leaves the pace of garbage collection as it was, and stops affecting
// it at the first collection. If the user sets GOGC, that counts.
func TestCollectLate(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	pace := func() uint64 { // without writing it, which could undo the cleanup's write
		gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(gogc)
		return gogc[0].Value.Uint64()
	}
	end := collectLate()
	if got := pace(); got <= 100 {
		t.Errorf("collected at %d %%, want later", got)
	}
	runtime.GC()
	for begun := time.Now(); pace() != 77 && time.Since(begun) < 10*time.Second; {
		runtime.Gosched() // cleanups run a moment later
	}
	if got := pace(); got != 77 {
		t.Errorf("%d %% after the first collection, want 77", got)
	}
	end()
	collectLate()()
	t.Setenv("GOGC", "300")
	end = collectLate()
	if got := pace(); got != 77 {
		t.Errorf("%d %% with GOGC, want 77", got)
	}
	end()
	if got := pace(); got != 77 {
		t.Errorf("%d %% after looks, want 77", got)
	}
}

// A look is done by one processor, and restores the former number, also if
// looks overlap. If the user sets GOMAXPROCS, that counts.
func TestAlone(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	runtime.SetDefaultGOMAXPROCS()
	all := runtime.GOMAXPROCS(0)
	first, second := alone(), alone()
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("%d processors in a look, want 1", got)
	}
	first()
	second()
	if got := runtime.GOMAXPROCS(0); got != all {
		t.Errorf("%d processors after looks, want %d", got, all)
	}
	t.Setenv("GOMAXPROCS", "5")
	defer alone()()
	if got := runtime.GOMAXPROCS(0); got != all {
		t.Errorf("%d processors with GOMAXPROCS, want them left at %d", got, all)
	}
}
