package report

import (
	"testing"
	"time"

	"lasthop/routing"
)

// TestDiffers: what moves on by itself is no news.
func TestDiffers(t *testing.T) {
	now := time.Unix(1, 0)
	hop := func(state HopState) *LastHop {
		return &LastHop{Hops: []Hop{{Link: "eth1", MAC: "02:00:00:00:00:01", State: state, Noted: now}}}
	}
	base := Status{InSync: true, LastHop: hop(HopAlive)}
	for name, tt := range map[string]struct {
		change func(*Status)
		want   bool
	}{
		"nothing":          {func(*Status) {}, false},
		"another look":     {func(s *Status) { s.Time, s.Synced, s.Counts.Syncs = now, now, 7 }, false},
		"packets":          {func(s *Status) { s.LastHop = hop(HopAlive); s.LastHop.Counts.Learned = 9 }, false},
		"a quiet router":   {func(s *Status) { s.LastHop = hop(HopQuiet) }, false},
		"a dead router":    {func(s *Status) { s.LastHop = hop(HopDead) }, true},
		"no mode":          {func(s *Status) { s.LastHop = nil }, true},
		"not in sync":      {func(s *Status) { s.InSync = false }, true},
		"a heal":           {func(s *Status) { s.Counts.Heals = 1 }, true},
		"another start":    {func(s *Status) { s.Started = now }, true},
		"another listener": {func(s *Status) { s.Plan.Outcomes = []routing.Outcome{{}} }, true},
	} {
		s := base
		tt.change(&s)
		if got := s.Differs(base); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}
