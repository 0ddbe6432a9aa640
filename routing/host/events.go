package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"lasthop/routing"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Event is one change of the namespace by another program or by the kernel
// itself.
//
// Events say when to read the host again, not what is there: when a link or an
// address goes, the kernel flushes its IPv4 routes and reports only the link or
// the address.
type Event struct {
	// "link", "address", "route", "rule", "filter", "forwarding" or
	// "ruleset"; "lost" if events were lost: anything may have changed;
	// "deaf" while no event can be received, until the next "lost"
	Kind string
	// in `ip` syntax with a verb: "rule deleted: 5102: from 10.0.1.0/24 iif
	// lo lookup 20337 proto 76", "link eth1 down"
	Text   string
	Rule   *routing.Rule   // the deleted rule, if it was lasthop's
	Route  *routing.Route  // the deleted route, if it was lasthop's
	Filter *routing.Filter // the deleted filter, if it was lasthop's

	// What it is about.
	Links   []string       // that have changed, or whose master has; of an address the link
	Came    bool           // a link that is new or came up; a route that is there now
	Went    bool           // a link that is gone, went down or has another name
	Prefix  netip.Prefix   // of an address
	Changed *routing.Route // of a route that can be read: as it is now, or was
}

const (
	// bytes, which the kernel doubles: bursts wait here while events are
	// decoded
	eventBuffer  = 4 << 20
	eventQueue   = 1024 // events that may wait for the reader
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 5 * time.Second
	groupsMost   = 256 // writes of link groups that may wait for their echo
	skipStats    = 8   // RTEXT_FILTER_SKIP_STATS: no counters in a dump of links
)

// eventGroups are the multicast groups of the routing socket that the
// subscription joins (RTNLGRP_*). It does not join that of neighbours: they
// come and go with traffic.
var eventGroups = []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE,
	unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_TC}

// Subscribe reports changes from now on, until ctx ends; then it closes the
// channel. Call it before the first Read, so that no change is missed in
// between. It does not report this Kernel's own writes of objects that lasthop
// owns by numbers. If the reader is too slow, one "lost" replaces all waiting
// events. Subscribe reopens a socket that breaks, and reports "lost". It does
// the same with a socket that cannot be opened, unless this user has no right
// to it.
//
// Have one subscription at a time. It runs concurrently with the Kernel's other
// calls and outlives Close.
func (k *Kernel) Subscribe(ctx context.Context, n routing.Numbers) (<-chan Event, error) {
	s, err := k.subscription(n)
	if err != nil {
		return nil, err
	}
	go s.run(ctx)
	return s.out, nil
}

// subscription belongs to the goroutine of its run.
type subscription struct {
	numbers routing.Numbers
	echoes  *echoes
	ns      netns.NsHandle // its own copy, or none if the namespace need not be entered
	buffer  int
	out     chan Event
	putting sync.Mutex
	// of nf_tables; nil if it is not available
	rules    *nl.NetlinkSocket
	nftables *nftables // as the Kernel or the subscription has read it last
	socket   *nl.NetlinkSocket
	port     uint32
	links    map[int]linkState
	names    map[int]string // of links
	dumping  bool           // the answer to askLinks is under way
	again    bool           // and must be asked for once more
}

func (k *Kernel) subscription(n routing.Numbers) (*subscription, error) {
	s := &subscription{numbers: n, echoes: &k.echoes, nftables: &k.nftables, ns: netns.None(),
		buffer: k.buffer, out: make(chan Event, eventQueue)}
	if s.buffer == 0 {
		s.buffer = eventBuffer
	}
	if !k.own {
		fd, err := unix.FcntlInt(uintptr(k.ns), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("subscribe to events: %w", err)
		}
		s.ns = netns.NsHandle(fd)
	}
	if err := s.connect(); errors.Is(err, unix.EPERM) {
		s.close()
		return nil, fmt.Errorf("subscribe to events: %w", err)
	}
	s.listenToRules()
	return s, nil
}

// connect opens the socket and asks for the links on it, so that later messages
// can be compared with what is known.
func (s *subscription) connect() error {
	socket, err := nl.SubscribeAt(s.ns, netns.None(), unix.NETLINK_ROUTE, eventGroups...)
	if err != nil {
		return err
	}
	// beyond net.core.rmem_max needs CAP_NET_ADMIN
	if socket.SetReceiveBufferSize(s.buffer, true) != nil {
		err = socket.SetReceiveBufferSize(s.buffer, false)
	}
	s.socket, s.dumping, s.again = socket, false, false
	s.links, s.names = map[int]linkState{}, map[int]string{}
	port, portErr := socket.GetPid()
	s.port = port
	if err = errors.Join(err, portErr, s.askLinks()); err != nil {
		socket.Close()
	}
	return err
}

func (s *subscription) close() {
	if s.ns.IsOpen() {
		s.ns.Close()
	}
}

// run follows the socket, and opens it again when it breaks.
func (s *subscription) run(ctx context.Context) {
	defer s.close()
	defer close(s.out)
	defer s.followRules(ctx)()
	for {
		err := s.follow(ctx)
		for delay := backoffFirst; ; delay = min(2*delay, backoffMost) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
			again := s.connect()
			if again == nil {
				break
			}
			s.put(Event{Kind: "deaf",
				Text: fmt.Sprintf("lasthop cannot read events of the host: "+
					"%v", again)})
		}
		s.lost(fmt.Sprintf("events lost: lasthop opened the socket again after: %v", err))
	}
}

// follow reads until the socket breaks or ctx ends, which closes it. It always
// returns an error.
func (s *subscription) follow(ctx context.Context) error {
	if s.socket == nil {
		return errors.New("it could not be opened")
	}
	defer s.socket.Close()
	defer context.AfterFunc(ctx, s.socket.Close)()
	for {
		messages, from, err := s.socket.Receive()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			s.lost("events lost: the kernel's queue was full")
			err = s.askLinks()
		case err == nil && from.Pid == nl.PidKernel:
			err = s.read(messages)
		}
		if err != nil {
			return err
		}
	}
}

// read reports the changes in messages.
func (s *subscription) read(messages []syscall.NetlinkMessage) error {
	for _, m := range messages {
		switch {
		case m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR:
			s.dumping = false
			if s.again {
				if err := s.askLinks(); err != nil {
					return err
				}
			}
		case m.Header.Flags&unix.NLM_F_MULTI != 0 && m.Header.Pid == s.port:
			if index, l, ok := decodeLink(m.Data); ok {
				s.learn(index, l)
			}
		default:
			if e, ok := s.event(m); ok {
				s.put(e)
			}
		}
	}
	return nil
}

// put queues an event. If the reader is too slow, one "lost" replaces all
// waiting events; the socket must not fill up instead.
func (s *subscription) put(e Event) {
	s.putting.Lock()
	defer s.putting.Unlock()
	select {
	case s.out <- e:
		return
	default:
	}
	for len(s.out) > 0 {
		select {
		case <-s.out:
		default: // the reader was faster
		}
	}
	s.out <- Event{Kind: "lost",
		Text: fmt.Sprintf("events lost: more than %d waited", cap(s.out))}
}

func (s *subscription) lost(text string) { s.put(Event{Kind: "lost", Text: text}) }

// askLinks asks for all links; the answer comes between events. The kernel
// refuses a second dump during the first.
func (s *subscription) askLinks() error {
	if s.again = s.dumping; s.again {
		return nil
	}
	m := newMessage(unix.IfInfomsg{})
	m.putUint32(unix.IFLA_EXT_MASK, skipStats)
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddRawData(m.data)
	s.dumping = true
	return s.socket.Send(req)
}

// echoes is what a Kernel sent, so that a subscription recognises the notices
// of it. The notice of a rule or route names the port of the socket that asked
// for it; that of a link names no sender.
type echoes struct {
	mu     sync.Mutex
	ports  []uint32
	groups []routing.LinkGroup
}

// sender records the port of a new socket. It keeps the port of the previous
// one: some of its messages may not have been read.
func (e *echoes) sender(port uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ports = append([]uint32{port}, e.ports[:min(len(e.ports), 1)]...)
}

func (e *echoes) sent(port uint32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.ports, port)
}

// expectGroup records a group that is about to be written. Without a
// subscription no reader removes them, so the oldest go.
func (e *echoes) expectGroup(link string, group int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups = append(e.groups[max(0, len(e.groups)-groupsMost):],
		routing.LinkGroup{Link: link, Group: group})
}

// cameGroup reports whether the group was expected. It removes that group and
// what was expected of the link before it: echoes keep their order.
func (e *echoes) cameGroup(link string, group int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.groups, routing.LinkGroup{Link: link, Group: group})
	if i < 0 {
		return false
	}
	earlier := slices.DeleteFunc(slices.Clone(e.groups[:i]), func(g routing.LinkGroup) bool {
		return g.Link == link
	})
	e.groups = append(earlier, e.groups[i+1:]...)
	return true
}
