package survey

import (
	"net/netip"
	"strings"

	"lasthop/report"
	"lasthop/routing"
)

// Check asks, for each listener, which way its replies to a client behind a
// router take now, and compares it with the gateways of the listener's own
// path. It asks the machine once for each class of addresses that are routed
// alike. For addresses that are not here it uses routing.Lookup: the kernel
// refuses an IPv4 source that is not assigned.
func (s *Survey) Check() ([]report.Checked, error) {
	return s.check(presentOf(s.Inputs.Host))
}

// present is the host as it is now, for lookups.
type present struct {
	fib  *routing.FIB
	here func(netip.Addr) bool
}

func presentOf(h routing.Host) present {
	return present{routing.NewFIB(h), routing.Present(h)}
}

func (s *Survey) check(now present) ([]report.Checked, error) {
	questions := s.questions()
	ways, err := now.ways(s, questions)
	if err != nil {
		return nil, err
	}
	var out []report.Checked
	for i, o := range s.Decision.Plan.Outcomes {
		c := report.Checked{Outcome: o, Question: questions[i], Now: ways[questions[i]]}
		c.Want, c.Verdict = s.verdict(o, c.Now)
		out = append(out, c)
	}
	return out, nil
}

// questions are the replies of each outcome's address to an off-link client.
func (s *Survey) questions() []routing.Query {
	replies := routing.RepliesOn(s.Inputs.Host)
	var out []routing.Query
	for _, o := range s.Decision.Plan.Outcomes {
		out = append(out, replies.Far(o.Listener))
	}
	return out
}

// ways answers the questions of outcomes whose replies leave by a gateway.
func (p present) ways(s *Survey,
	questions []routing.Query) (map[routing.Query]routing.Way, error) {
	ways := map[routing.Query]routing.Way{}
	var sources []netip.Addr
	var asked []routing.Query
	for i, o := range s.Decision.Plan.Outcomes {
		q := questions[i]
		_, known := ways[q]
		switch {
		case known || o.Status == routing.LocalOnly || o.Status == routing.Off:
		case p.here(o.Addr):
			ways[q] = routing.Way{}
			sources, asked = append(sources, o.Addr), append(asked, q)
		default:
			ways[q] = p.fib.Way(q)
		}
	}
	class := p.fib.Classes(sources)
	like := func(q routing.Query) routing.Query {
		q.Src = class[q.Src]
		return q
	}
	var ask []routing.Query
	index := map[routing.Query]int{}
	for _, q := range asked {
		if _, known := index[like(q)]; !known {
			index[like(q)], ask = len(ask), append(ask, like(q))
		}
	}
	answers, err := s.Place.Ask(ask)
	if err != nil {
		return nil, err
	}
	for _, q := range asked {
		ways[q] = answers[index[like(q)]]
	}
	return ways, nil
}

// verdict compares the way that replies take with the gateways of the
// listener's own path.
func (s *Survey) verdict(o routing.Outcome, now routing.Way) (want string, _ report.Verdict) {
	switch {
	case o.Status == routing.LocalOnly && o.Asks():
		return "", report.NotKnown
	case o.Status == routing.LocalOnly:
		return "", report.NoGateway
	case o.Status == routing.Off:
		return "", report.NotAsked
	}
	var ways []string
	right := false
	if p := s.Decision.Plan.PathOf(o); p != nil {
		// by any candidate: its program answers each connection
		right = p.LastHop && now.LastHop
		for _, h := range p.Gateways() {
			ways = append(ways, h.String())
			right = right ||
				now.Type == routing.Unicast && now.Link == h.Link &&
					now.Via == h.Via
		}
	}
	want = strings.Join(ways, " or ")
	switch {
	case len(ways) == 0 || right && o.Status == routing.Unresolved: // right only off-link
		return want, report.NotKnown
	case right && o.Status == routing.Armed:
		return want, report.NotHere
	case right:
		return want, report.Symmetric
	case o.Status == routing.Armed:
		return want, report.NotHereWrong
	}
	return want, report.Asymmetric
}
