package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Claim is what a kernel can prove: that on this host the plan's changes lead
// to what the plan says.
type Claim struct {
	Host    Host
	Plan    Plan
	Numbers Numbers
}

// Fallback returns the claim of a plan without the programs of the mode
// last-hop, which a throw-away namespace does not have: replies of unknown
// connections leave as the plan says.
func (c Claim) Fallback() Claim {
	bare := func(r Route) Route {
		r.Encap = ""
		return r
	}
	c.Host.Filters, c.Host.Wanted = nil, nil
	c.Host.Routes = mapped(c.Host.Routes, bare)
	s := &c.Plan.State
	s.Filters, s.Wanted, s.Routes = nil, nil, mapped(s.Routes, bare)
	c.Plan.Outcomes = mapped(c.Plan.Outcomes, func(o Outcome) Outcome {
		o.Before, o.After = o.Before.fallback(), o.After.fallback()
		return o
	})
	c.Plan.Moves = mapped(c.Plan.Moves, func(m Move) Move {
		m.Before, m.After = m.Before.fallback(), m.After.fallback()
		return m
	})
	return c
}

// Proof is a kernel's answer to a Claim, on a host that was rebuilt for it.
type Proof struct {
	Kernel    string `json:"kernel,omitempty"` // its release
	Addresses int    `json:"addresses"`        // of listeners
	// addresses that stand for the groups of clients, of both families
	Clients int `json:"clients"`
	// each address with each client of its family, before and after
	Asked       int          `json:"asked"`
	Differences []Difference `json:"differences"`
	// what of the host could not be rebuilt, a line each
	NotRebuilt []string `json:"not_rebuilt"`

	before map[Query]Way // what the kernel has confirmed
}

// Difference is one thing in which the kernel differs from the plan.
type Difference struct {
	When    When   `json:"when"`
	Subject string `json:"subject"` // "10.0.1.100 to 198.51.100.1", or a change as a command
	Want    string `json:"want"`    // what the plan says
	Got     string `json:"got"`     // what the kernel does
}

// When is the moment of a proof at which something was seen.
type When string

const (
	BeforeApply When = "before" // without anything that lasthop owns
	WhileApply  When = "apply"
	AfterApply  When = "after"
)

// Agrees reports whether a kernel's answer is one that the trace leads to. A
// rule `unreachable` returns ENETUNREACH, as a missing route does; a route
// `unreachable` returns EHOSTUNREACH (fib4_rule_action). For rejected and
// host-local packets it compares only the type.
func (t Trace) Agrees(w Way) bool {
	if len(t.Ends) == 0 {
		return w.Type == 0
	}
	return slices.ContainsFunc(t.Ends, func(end Way) bool {
		end, w := end.fallback(), w.fallback() // the routes decide about the program
		switch {
		case end.Type == Unreachable && end.Table == 0:
			return w.Type == 0
		case end.Type != Unicast:
			return w.Type == end.Type
		}
		return w == end
	})
}

// Verify asks the kernel, by calling ask, for the way from every listener's
// address to every group of clients, before the plan is carried out (without
// anything that lasthop owns) or after. It adds to the proof how much it asked,
// and what differs from the plan. Addresses that are not on the host come last,
// all questions of one address in a row. If an answer after the change differs
// from the one before, the plan must name that move. An error of ask ends it.
func (c Claim) Verify(p *Proof, when When, ask func(Query) (Way, error)) error {
	h := Without(c.Host, c.Numbers)
	clients := map[Family][]netip.Addr{IPv4: Clients(h, IPv4), IPv6: Clients(h, IPv6)}
	if when == AfterApply {
		h = With(h, c.Plan.State)
	}
	fib, families, replies := NewFIB(h), map[Family]bool{}, RepliesOn(c.Host)
	outcomes := c.askable()
	if when == BeforeApply {
		p.before = map[Query]Way{}
	}
	for _, o := range outcomes {
		f := FamilyOf(o.Addr)
		families[f] = true
		for i, dst := range clients[f] {
			q := replies.To(o.Listener, dst)
			if q.Src == q.Dst {
				continue
			}
			got, err := ask(q)
			if err != nil {
				return fmt.Errorf("%s to %s: %w", q.Src, q.Dst, err)
			}
			p.Asked++
			trace := fib.Lookup(q)
			want := trace.Way
			if i == 0 { // the off-link client, whose way the plan names
				want = map[When]Way{BeforeApply: o.Before,
					AfterApply: o.After}[when]
			}
			if want != trace.Way || !trace.Agrees(got) {
				p.Differences = append(p.Differences, Difference{when,
					fmt.Sprintf("%s to %s", q.Src, q.Dst), inTable(want),
					inTable(got)})
			} else if was, ok := p.before[q]; when == BeforeApply {
				p.before[q] = trace.Way
			} else if ok && !trace.alike(was, trace.Way) &&
				!c.names(q, was, trace.Way) {
				p.Differences = append(p.Differences, Difference{when,
					fmt.Sprintf("%s to %s", q.Src, q.Dst),
					"as before: " + inTable(was), inTable(got)})
			}
		}
	}
	p.Addresses, p.Clients = len(outcomes), 0
	for f := range families {
		p.Clients += len(clients[f])
	}
	return nil
}

// names reports whether the plan names a move of replies from one way to
// another. If there are many uplinks, it names a few of their LANs for all.
func (c Claim) names(q Query, before, after Way) bool {
	return slices.ContainsFunc(c.Plan.Moves, func(m Move) bool {
		in := func(a netip.Addr, list []netip.Prefix) bool {
			return slices.ContainsFunc(list,
				func(p netip.Prefix) bool { return p.Contains(a) })
		}
		return in(q.Src, m.Listeners) && sameWay(m.After, after) &&
			(m.Class == ClassOtherLAN ||
				sameWay(m.Before, before) && in(q.Dst, m.Clients))
	})
}

// askable returns an outcome for each address that a kernel can be asked about,
// those on the host first. It leaves out addresses in a VRF, whose rules Lookup
// does not model, and link-local addresses, which are ambiguous without their
// link.
func (c Claim) askable() []Outcome {
	present := Present(c.Host)
	outcomes := without(c.Plan.Outcomes, func(o Outcome) bool {
		return !o.Addr.IsGlobalUnicast() || o.Reason == "vrf"
	})
	rank := func(o Outcome) int {
		if present(o.Addr) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(outcomes, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Addr.Compare(b.Addr))
	})
	return slices.CompactFunc(outcomes, func(a, b Outcome) bool { return a.Addr == b.Addr })
}

func inTable(w Way) string {
	if w.Type != Unicast {
		return w.String()
	}
	return fmt.Sprintf("%s, table %s", w, tableNames.print(w.Table))
}

// Rebuildable reports whether a rule can be made again in a throw-away
// namespace: the namespace knows no users of the host, and selectors that were
// not understood cannot be written. The rule of VRFs comes with the first VRF.
func (r Rule) Rebuildable() bool {
	known, rest := r.Selectors()
	return r.Opaque == l3mdev || rest == "" && !slices.ContainsFunc(known,
		func(s [2]string) bool { return s[0] == "uidrange" })
}

// Rebuildable returns the host as far as it can be made again from the model,
// and what that leaves out, a line each. The kernel makes multicast and anycast
// routes itself. Attributes that merely tune a transport (hoplimit, initcwnd)
// are left out without a line: they decide no way.
func Rebuildable(h Host) (Host, []string) {
	var lost []string
	lose := func(format string, args ...any) {
		lost = append(lost, fmt.Sprintf(format, args...))
	}
	out := h
	out.Addrs, out.Routes, out.Rules = nil, nil, nil
	for _, a := range h.Addrs {
		if a.Tentative {
			lose("address %s of %s: tentative", a.Prefix, a.Link)
		} else {
			out.Addrs = append(out.Addrs, a)
		}
	}
	for _, r := range h.Routes {
		switch full := (Op{Route: &r}).String(); {
		case r.Type == Multicast || r.Type == Anycast:
			continue
		case r.opaqueHas("tos", "nhid"):
			lose("%s", full)
			continue
		case r.opaqueHas("encap", "attr"):
			plain := r
			plain.Opaque = ""
			lose("%s: without %s", Op{Route: &plain}, r.Opaque)
		}
		from := r.Source()
		if r.Opaque = ""; from.IsValid() {
			r.Opaque = "from " + destination(from)
		}
		out.Routes = append(out.Routes, r)
	}
	for _, r := range h.Rules {
		if !r.Rebuildable() {
			lose("%s", Op{Rule: &r})
		} else {
			out.Rules = append(out.Rules, r)
		}
	}
	return out, lost
}
