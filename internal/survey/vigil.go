package survey

import (
	"context"
	"time"

	"lasthop/routing"
	"lasthop/routing/flow"
)

// VigilWindow is how long packets are observed before a change, and how long
// each window after it is.
const VigilWindow = 3 * time.Second

// Vigil observes packets while a change waits for its confirmation. A nil Vigil
// does nothing.
type Vigil struct {
	observer *flow.Observer
	lookout  *routing.Lookout
	undoC    chan string
	cancel   context.CancelFunc
	doneC    chan struct{}
}

// NewVigil learns what works before the change: it observes for VigilWindow.
// The caller closes it, and not the observer.
func NewVigil(s *Survey, o *flow.Observer) (*Vigil, error) {
	before, err := o.Window(context.Background(), VigilWindow, nil)
	if err != nil {
		o.Close()
		return nil, err
	}
	h, err := s.Place.Read() // the kernel may have learned neighbours meanwhile
	if err != nil {
		o.Close()
		return nil, err
	}
	return &Vigil{observer: o, lookout: routing.NewLookout(h, before),
		undoC: make(chan string, 1)}, nil
}

// Begin starts to observe the effect of the change.
func (v *Vigil) Begin() {
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
			e, err := v.observer.Window(ctx, VigilWindow, v.look)
			if err != nil {
				return
			}
			v.lookout.Turn(e)
		}
	}()
}

// look ends the vigil when a listener is dark.
func (v *Vigil) look(p flow.Progress) bool {
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

// Undo returns the reason to go back.
func (v *Vigil) Undo() <-chan string {
	if v == nil {
		return nil
	}
	return v.undoC
}

// Close ends it, and waits for its end.
func (v *Vigil) Close() {
	if v == nil {
		return
	}
	if v.cancel != nil {
		v.cancel()
		<-v.doneC
	}
	v.observer.Close()
}
