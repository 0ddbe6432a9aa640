package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// names answers the host names of `listen`: at once, with the last good answer,
// since the loop must not wait for a name server. Tasks of its own ask the
// system, whenever a name is used; what they hear comes to the loop.
type names struct {
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	answers chan answerOf // to the loop
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	// Owned by the loop.
	known map[string]nameState
}

// nameState is what is known of a name.
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
	lookupIn   = time.Second // a name is not asked for more often
	unknownIn  = 5 * time.Second
)

var errUnknown = errors.New("no answer yet; lasthop asks again until there is one")

func newNames(ask func(ctx context.Context, host string) ([]netip.Addr, error)) *names {
	if ask == nil {
		ask = lookup
	}
	n := &names{lookup: ask, answers: make(chan answerOf), known: map[string]nameState{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// lookup asks the system. NGINX asks getaddrinfo(3) for both families and uses
// every answer.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		err = errors.New(dns.Err)
	}
	return addrs, err
}

func (n *names) close() {
	n.cancel()
	n.tasks.Wait()
}

// resolve returns the last good answer, and asks for another one.
func (n *names) resolve(host string) ([]netip.Addr, error) {
	s := n.known[host]
	if now := time.Now(); !s.asking && now.Sub(s.asked) > lookupIn {
		s.asking, s.asked = true, now
		n.tasks.Go(func() { n.ask(host) })
	}
	n.known[host] = s
	if !s.known {
		return nil, errUnknown
	}
	return s.addrs, nil
}

func (n *names) ask(host string) {
	ctx, cancel := context.WithTimeout(n.ctx, lookupTime)
	defer cancel()
	addrs, err := n.lookup(ctx, host)
	select {
	case n.answers <- answerOf{host, addrs, err}:
	case <-n.ctx.Done():
	}
}

// answered takes an answer in, and reports whether it is another one. A name
// that was known once keeps its addresses while the system has no answer.
func (n *names) answered(a answerOf) (changed bool) {
	s := n.known[a.host]
	s.asking, s.heard = false, true
	if a.err == nil {
		// a name server may turn its answers round
		slices.SortFunc(a.addrs, netip.Addr.Compare)
		changed = !s.known || !slices.Equal(s.addrs, a.addrs)
		s.addrs, s.known = a.addrs, true
	}
	n.known[a.host] = s
	return changed
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
