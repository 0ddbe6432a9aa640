package daemon

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lasthop/nginxconf"
)

// names returns the addresses of host names in `listen`: immediately, from the
// last good answer, since the loop must not wait for a name server. Tasks of
// its own ask the system whenever a configuration is read; their answers come
// to the loop.
type names struct {
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	answers chan answerOf // to the loop
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	// Owned by the loop.
	known   map[string]nameState
	waiting []string // to ask, in this order
	asking  int      // tasks
	news    bool     // since the loop looked at the answers
}

// nameState is what the daemon knows of a name.
type nameState struct {
	addrs        []netip.Addr
	known, heard bool // there was an answer; there was one, or an error
	asking       bool
	asked        time.Time
}

// answerOf is what the system says about a name.
type answerOf struct {
	host  string
	addrs []netip.Addr
	err   error
}

const (
	lookupTime = 5 * time.Second
	lookupMost = 32          // names that are asked for at the same time
	lookupIn   = time.Second // a name is not asked for more often
	unknownIn  = 5 * time.Second
	answersIn  = 20 * time.Millisecond // many answers are handled together
)

var errUnknown = errors.New("no answer yet; lasthop asks again until there is one")

func newNames(ask func(ctx context.Context, host string) ([]netip.Addr, error)) *names {
	if ask == nil {
		ask = nginxconf.Lookup
	}
	n := &names{lookup: ask, answers: make(chan answerOf), known: map[string]nameState{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

func (n *names) close() {
	n.cancel()
	n.tasks.Wait()
}

// ask asks for the names that are used, except those that it has just asked
// for.
func (n *names) ask(used map[string][]netip.Addr) {
	now := time.Now()
	for host := range used {
		if s := n.known[host]; !s.asking && now.Sub(s.asked) > lookupIn {
			s.asking, s.asked = true, now
			n.known[host] = s
			n.waiting = append(n.waiting, host)
		}
	}
	n.next()
}

// next begins as many tasks as there may be.
func (n *names) next() {
	for len(n.waiting) > 0 && n.asking < lookupMost {
		host := n.waiting[0]
		n.waiting = n.waiting[1:]
		n.asking++
		n.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(n.ctx, lookupTime)
			defer cancel()
			addrs, err := n.lookup(ctx, host)
			select {
			case n.answers <- answerOf{host, addrs, err}:
			case <-n.ctx.Done():
			}
		})
	}
}

// forget drops the names that are not used any more.
func (n *names) forget(used func(host string) bool) {
	maps.DeleteFunc(n.known, func(host string, s nameState) bool {
		return !s.asking && !used(host)
	})
}

// answered records an answer, and returns the time until the answers should be
// read, 0 if that is not needed. A name that was known once keeps its addresses
// while the system has no answer.
func (n *names) answered(a answerOf) (in time.Duration) {
	n.asking--
	n.next()
	s := n.known[a.host]
	n.news = n.news || !s.heard
	s.asking, s.heard = false, true
	if a.err == nil {
		// a name server may rotate its answers
		slices.SortFunc(a.addrs, netip.Addr.Compare)
		n.news = n.news || !s.known || !slices.Equal(s.addrs, a.addrs)
		s.addrs, s.known = a.addrs, true
	}
	n.known[a.host] = s
	if n.news {
		return answersIn
	}
	return 0
}

// unknown reports whether a name has no addresses yet.
func (n *names) unknown() bool {
	for _, s := range n.known {
		if !s.known {
			return true
		}
	}
	return false
}

// unheard reports whether a name is being asked for the first time.
func (n *names) unheard() bool {
	for _, s := range n.known {
		if !s.heard {
			return true
		}
	}
	return false
}
