package survey

import (
	"context"
	"fmt"
	"time"

	"lasthop/internal/hint"
	"lasthop/routing"
	"lasthop/routing/flow"
)

// Watch opens an observer of the packets of the survey's listeners. The caller
// closes it.
func (s *Survey) Watch(probe bool) (*flow.Observer, error) {
	o, err := flow.Open(flow.Options{Host: s.Inputs.Host, Probe: probe,
		Listeners: flow.Listeners(s.Decision.Plan.Outcomes), Inside: s.Place.inside})
	if flow.NotAllowed(err) {
		return nil, hint.New(fmt.Errorf("look at packets: %w", err),
			"run as root, or with CAP_NET_RAW: "+
				"setpriv --ambient-caps +net_raw --inh-caps +net_raw lasthop …")
	}
	if err != nil {
		return nil, fmt.Errorf("look at packets: %w", err)
	}
	return o, nil
}

// Observe looks at packets for a time, or until ctx is done, and says what they
// mean. Four times a second it calls progress, which may be nil.
func (s *Survey) Observe(ctx context.Context, d time.Duration, probe bool,
	progress func(flow.Progress) bool) (routing.Seen, error) {
	o, err := s.Watch(probe)
	if err != nil {
		return routing.Seen{}, err
	}
	defer o.Close()
	e, err := o.Window(ctx, d, progress)
	if err != nil {
		return routing.Seen{}, err
	}
	// Neighbours may have become known since the host was read.
	if h, err := s.Place.Read(); err == nil {
		e.Names = append(e.Names, routing.NeighbourNames(h)...)
	}
	return routing.Judge(s.Decision, e), nil
}
