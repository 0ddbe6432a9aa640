package survey

import (
	"cmp"
	"net/netip"
	"slices"

	"lasthop/report"
	"lasthop/routing"
)

// mostAsked is how many replies the kernel is asked about; all further replies
// are looked up in what was read of it.
const mostAsked = 10000

// CheckClasses is Check. It also asks for every other class of client of each
// listener that Check finds right: replies to clients behind the gateways may
// be right while those to a LAN, a container or the router itself are not.
func (s *Survey) CheckClasses() ([]report.Checked, error) {
	now := presentOf(s.Inputs.Host)
	checks, err := s.check(now)
	if err != nil || s.Judged == nil {
		return checks, err
	}
	if s.Place.halfOpen != nil {
		s.HalfOpen = s.Place.halfOpen()
	}
	c := s.classes(checks, now)
	ways, err := c.ask(s.Place.Machine)
	if err != nil {
		return nil, err
	}
	wrong := map[routing.Query]*report.WrongClient{}
	for i := range checks {
		for _, r := range c.of[i] {
			w, known := wrong[r.Query]
			if !known {
				want, bad := s.Judged.Wrong(checks[i].Outcome, r.Query,
					ways[r.Query])
				// a redirect by the router is no fault
				redirected := r.Class == routing.ClassHalfOpen &&
					want.Link == ways[r.Query].Link
				if bad && !redirected {
					w = &report.WrongClient{Client: r.Client, Want: want,
						Now: ways[r.Query]}
				}
				wrong[r.Query] = w
			}
			if w != nil {
				checks[i].Wrong = append(checks[i].Wrong, *w)
			}
		}
		switch {
		case len(checks[i].Wrong) == 0:
		case checks[i].Verdict == report.NotHere:
			checks[i].Verdict = report.NotHereWrong
		default:
			checks[i].Verdict = report.Asymmetric
		}
	}
	return checks, nil
}

// reply is a reply to a class of clients.
type reply struct {
	routing.Client
	routing.Query
}

// classes are the replies to ask about.
type classes struct {
	present
	of map[int][]reply // by index of the check
}

// classes finds the replies of all listeners. Of addresses that all rules match
// alike the first stands for all.
func (s *Survey) classes(checks []report.Checked, now present) classes {
	c := classes{now, map[int][]reply{}}
	replies := routing.RepliesOn(s.Inputs.Host)
	asked := func(x report.Checked) bool {
		return x.Verdict == report.Symmetric || x.Verdict == report.NotHere
	}
	var sources []netip.Addr
	for _, x := range checks {
		if asked(x) {
			sources = append(sources, x.Addr)
		}
	}
	class, waiting := c.fib.Classes(sources), s.waiting()
	type key struct {
		src       netip.Addr
		path      int
		ports     routing.PortRange // zero if no rule asks for them
		transport routing.Transport
	}
	known := map[key][]reply{}
	for i, x := range checks {
		if !asked(x) {
			continue
		}
		k := key{src: class[x.Addr], path: x.Path}
		if replies.ByPort(routing.FamilyOf(x.Addr)) {
			k.ports, k.transport = x.Ports, x.Transport
		}
		if _, ok := known[k]; !ok {
			first := x.Listener
			first.Addr = k.src
			for _, client := range s.Judged.Clients(x.Outcome) {
				known[k] = append(known[k],
					reply{client, replies.To(first, client.Addr)})
			}
		}
		c.of[i] = slices.Clip(known[k])
		for _, client := range waiting[x.Addr] {
			c.of[i] = append(c.of[i], reply{routing.Client{Addr: client,
				Class: routing.ClassHalfOpen}, replies.To(x.Listener, client)})
		}
	}
	return c
}

// mostWaiting is how many half-open sessions of an address are asked about: a
// flood may have made them.
const mostWaiting = 8

// waiting returns clients that wait for an answer now, by the address that they
// connect to.
func (s *Survey) waiting() map[netip.Addr][]netip.Addr {
	out := map[netip.Addr][]netip.Addr{}
	for _, h := range s.HalfOpen {
		at, client := h.Local.Addr(), h.Remote.Addr().WithZone("")
		if len(out[at]) < mostWaiting && !slices.Contains(out[at], client) {
			out[at] = append(out[at], client)
		}
	}
	return out
}

// ask returns the ways that the replies take now.
func (c classes) ask(m Machine) (map[routing.Query]routing.Way, error) {
	ways := map[routing.Query]routing.Way{}
	for _, list := range c.of {
		for _, r := range list {
			ways[r.Query] = routing.Way{}
		}
	}
	queries := make([]routing.Query, 0, len(ways))
	for q := range ways {
		if c.here(q.Src) {
			queries = append(queries, q)
		} else {
			ways[q] = c.fib.Way(q)
		}
	}
	slices.SortFunc(queries, func(a, b routing.Query) int {
		return cmp.Or(a.Src.Compare(b.Src), a.Dst.Compare(b.Dst))
	})
	most := min(len(queries), mostAsked)
	answers, err := m.Ask(queries[:most])
	if err != nil {
		return nil, err
	}
	for i, w := range answers {
		ways[queries[i]] = w
	}
	for _, q := range queries[most:] {
		ways[q] = c.fib.Way(q)
	}
	return ways, nil
}
