package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"lasthop/internal/plus"
	"lasthop/nginxconf"
	"lasthop/routing"
)

// plusAPI compares the loads that NGINX Plus counts with those that the daemon
// saw. A task of its own asks, one request at a time; its answer comes to the
// loop, which waits for nothing. Everything else belongs to the loop.
type plusAPI struct {
	answers chan plusAnswer
	ctx     context.Context
	cancel  context.CancelFunc
	task    sync.WaitGroup
	agenda  agenda

	address string // of the last request
	asking  bool
	counts  plusCounts
	finding *routing.Finding
}

// plusAnswer is what the API at an address says.
type plusAnswer struct {
	address string
	plus.Answer
	err error
}

const plusEvery = 10 * time.Second

func newPlusAPI(a agenda) *plusAPI {
	p := &plusAPI{answers: make(chan plusAnswer), agenda: a}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func (p *plusAPI) close() {
	p.cancel()
	p.task.Wait()
}

// ask asks the API at an address, now and every plusEvery; "" stops it. While a
// request is open it begins no other.
func (p *plusAPI) ask(address string, now time.Time) {
	if address != p.address {
		p.address, p.counts, p.finding = address, plusCounts{}, nil
	}
	if address == "" {
		return
	}
	p.agenda.by(doPlus, now.Add(plusEvery))
	if p.asking {
		return
	}
	p.asking = true
	p.task.Go(func() {
		a, err := plus.Ask(p.ctx, address)
		select {
		case p.answers <- plusAnswer{address, a, err}:
		case <-p.ctx.Done():
		}
	})
}

// answered records an answer, and reports whether the finding has changed.
func (p *plusAPI) answered(a plusAnswer, instances []*instance) (changed bool) {
	p.asking = false
	if a.address != p.address {
		return false // the settings name another API now
	}
	before := p.findings()
	p.finding = nil
	i := instanceOf(instances, a.Master)
	runs := func(i *instance) bool { return len(i.masters) > 0 }
	switch {
	case a.err != nil && slices.ContainsFunc(instances, runs):
		p.warn("no answer of the API of NGINX Plus, so lasthop does not compare the "+
			"loads: %v", a.err)
	case a.err != nil: // without NGINX there is no answer
	case i == nil:
		p.warn("the API answers for NGINX %d, which lasthop does not follow", a.Master)
	default:
		if missed := p.counts.missed(a.Answer, i.generation); missed != 0 {
			f := differs(a, missed)
			p.finding = &f
		}
	}
	return !slices.Equal(before, p.findings())
}

func (p *plusAPI) warn(message string, args ...any) {
	f := routing.Warning.Finding("plus-api", p.address, message, args...)
	p.finding = &f
}

// instanceOf returns the instance that a master belongs to, or nil. An NGINX in
// a container reports another process id of its master: if there is only one
// instance, it is that one.
func instanceOf(instances []*instance, master int) *instance {
	for _, i := range instances {
		if slices.ContainsFunc(i.masters,
			func(m nginxconf.Master) bool { return m.PID == master }) ||
			len(instances) == 1 {
			return i
		}
	}
	return nil
}

// differs returns the finding. missed is how many loads of NGINX the daemon did
// not see; below 0, how many it saw that NGINX does not count.
func differs(a plusAnswer, missed int) routing.Finding {
	f := routing.Warning.Finding("generation-differs", a.address, "lasthop has not seen "+
		"all loads of NGINX %d: NGINX counts %d more, the last one at %s", a.Master, missed,
		a.Loaded.Local().Format(time.DateTime))
	if missed < 0 {
		f.Message = fmt.Sprintf("lasthop has seen more loads of NGINX %d than NGINX "+
			"counts: %d more", a.Master, -missed)
	}
	return f.Advise("see whether a listener is missing: lasthop check; after the next reload " +
		"lasthop compares from there")
}

// plusCounts is by how much NGINX's generation is ahead of the loads that the
// daemon saw. Two answers in a row must agree: NGINX may load between an answer
// and the look at it.
type plusCounts struct {
	master       int
	last, agreed int  // how far ahead: by the last answer, and when two agreed
	asked, known bool // there was an answer; two have agreed
	wrong, seen  int  // the missed loads, and how many loads the daemon had seen then
}

// missed records an answer, and returns how many loads the daemon has missed.
// The next load that both see ends this.
func (c *plusCounts) missed(a plus.Answer, seen int) int {
	if a.Master != c.master {
		*c = plusCounts{master: a.Master}
	}
	ahead := a.Generation - seen
	again := c.asked && ahead == c.last
	c.last, c.asked = ahead, true
	switch {
	case !again:
		return c.wrong
	case !c.known, c.wrong == ahead-c.agreed && seen > c.seen:
		c.agreed, c.known, c.wrong = ahead, true, 0
	default:
		if c.wrong = ahead - c.agreed; c.wrong != 0 {
			c.seen = seen
		}
	}
	return c.wrong
}

// findings returns the finding, if there is one.
func (p *plusAPI) findings() []routing.Finding {
	if p.finding == nil {
		return nil
	}
	return []routing.Finding{*p.finding}
}
