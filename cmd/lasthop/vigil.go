package main

import (
	"context"
	"fmt"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/survey"
	"lasthop/routing"
	"lasthop/routing/flow"
)

// vigilWindow is how long packets are looked at before a change, and how long
// each window after it is.
const vigilWindow = 3 * time.Second

// vigil looks at packets while a change waits to be confirmed. A nil vigil does
// nothing.
type vigil struct {
	observer *flow.Observer
	lookout  *routing.Lookout
	undoC    chan string
	cancel   context.CancelFunc
	doneC    chan struct{}
}

// vigil sees what works before the change. Without the right to look at packets
// it warns, and returns nil.
func (u ui) vigil(s *survey.Survey) *vigil {
	o, err := s.Watch(false)
	if err != nil {
		u.warn("packets will not be looked at: %v", err)
		if remedy := hint.Of(err); remedy != "" {
			u.hint(remedy)
		}
		return nil
	}
	fmt.Fprintf(u.stderr, "lasthop: looking at packets for %s before the change\n", vigilWindow)
	before, err := o.Window(context.Background(), vigilWindow, nil)
	if err != nil {
		u.warn("packets will not be looked at: %v", err)
		o.Close()
		return nil
	}
	return &vigil{observer: o, lookout: routing.NewLookout(s.Inputs.Host, before),
		undoC: make(chan string, 1)}
}

// begin begins to look at what the change has done.
func (v *vigil) begin() {
	if v == nil {
		return
	}
	var ctx context.Context
	ctx, v.cancel = context.WithCancel(context.Background())
	v.doneC = make(chan struct{})
	v.observer.Forget()
	go func() {
		defer close(v.doneC)
		for ctx.Err() == nil {
			e, err := v.observer.Window(ctx, vigilWindow, v.look)
			if err != nil {
				return
			}
			v.lookout.Turn(e)
		}
	}()
}

// look ends the vigil once something is dark.
func (v *vigil) look(p flow.Progress) bool {
	why := v.lookout.Dark(p.Look())
	if why == "" {
		return false
	}
	select {
	case v.undoC <- why:
	default: // it was said
	}
	return true
}

// undo tells why to go back.
func (v *vigil) undo() <-chan string {
	if v == nil {
		return nil
	}
	return v.undoC
}

// close ends it, and waits for it.
func (v *vigil) close() {
	if v == nil {
		return
	}
	if v.cancel != nil {
		v.cancel()
		<-v.doneC
	}
	v.observer.Close()
}
