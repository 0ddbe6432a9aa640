package main

import (
	"fmt"

	"lasthop/internal/hint"
	"lasthop/internal/survey"
)

// vigil learns what works before the change. Without the right to observe
// packets it warns, and returns nil.
func (u ui) vigil(s *survey.Survey) *survey.Vigil {
	o, err := s.Watch(false)
	if err != nil {
		u.warn("packets will not be looked at: %v", err)
		if remedy := hint.Of(err); remedy != "" {
			u.hint(remedy)
		}
		return nil
	}
	fmt.Fprintf(u.stderr, "lasthop: looking at packets for %s before the change\n",
		survey.VigilWindow)
	v, err := survey.NewVigil(s, o)
	if err != nil {
		u.warn("packets will not be looked at: %v", err)
	}
	return v
}
