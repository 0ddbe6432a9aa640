package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// Explainer explains how replies leave, rule by rule: now, with whatever
// lasthop has installed, and after apply.
type Explainer struct {
	*topology
	neighs     []Neigh
	now, after *FIB
}

// NewExplainer takes the host as it was read, and the state that apply would
// make.
func NewExplainer(h Host, p Policy, want State) *Explainer {
	t := newTopology(h, p)
	return &Explainer{t, h.Neighs, NewFIB(h), NewFIB(With(t.host, want))}
}

// Explanation is how replies of one address to some clients leave. These
// clients' replies take the same rules and next hops.
type Explanation struct {
	Clients    []Client
	Now, After Trace // towards the first client
}

// Same reports whether apply changes neither the matching rules nor the answer.
func (e Explanation) Same() bool { return alike(e.Now, e.After) }

// Explain answers one query.
func (e *Explainer) Explain(q Query) Explanation {
	return Explanation{Now: e.now.Lookup(q), After: e.after.Lookup(q)}
}

// Link is the link that an address belongs to, whether it is a listener's
// address or not; "" if that is unknown.
func (e *Explainer) Link(addr netip.Addr) string {
	return newResolver(e.topology).resolveAddr(Listener{Addr: addr}).Link
}

// VRF is the VRF that an address is in; "" for none. A socket there asks the
// VRF's table first, which Lookup does not.
func (e *Explainer) VRF(addr netip.Addr) string {
	_, vrf := e.vrfOf(addr)
	return vrf
}

// ToAll explains the replies of an address to every class of client.
func (e *Explainer) ToAll(addr netip.Addr) []Explanation {
	return e.fold(addr, e.clientsOf(addr, e.Link(addr)))
}

// To explains the replies of an address to one client.
func (e *Explainer) To(addr, client netip.Addr) []Explanation {
	return e.fold(addr, []Client{e.named(client, e.Link(addr))})
}

// fold explains the replies to each client, and puts clients together whose
// explanations are alike.
func (e *Explainer) fold(addr netip.Addr, clients []Client) []Explanation {
	var out []Explanation
	for _, c := range clients {
		x := e.Explain(Query{Src: addr, Dst: c.Addr})
		i := slices.IndexFunc(out, func(y Explanation) bool {
			return alike(x.Now, y.Now) && alike(x.After, y.After)
		})
		if i < 0 {
			i, out = len(out), append(out, x)
		}
		out[i].Clients = append(out[i].Clients, c)
	}
	return out
}

// alike reports whether the same rules matched with the same effect and the
// same next hops were found, whatever the destinations.
func alike(a, b Trace) bool {
	matched := func(t Trace) []Step {
		return filter(t.Steps, Step.Matched)
	}
	return slices.EqualFunc(matched(a), matched(b), func(x, y Step) bool {
		return x.Rule == y.Rule && x.Effect == y.Effect &&
			(x.Route == nil) == (y.Route == nil) &&
			(x.Route == nil || x.Route.Type == y.Route.Type &&
				x.Route.Encap == y.Route.Encap &&
				slices.Equal(x.Route.Hops, y.Route.Hops))
	})
}

// Neighs returns what the host knows of the neighbours that may receive the
// packet: the gateways, or an on-link client itself. A neighbour without State
// is not known (yet). Links without neighbours (tunnels) give none.
func (e *Explainer) Neighs(t Trace) []Neigh {
	var out []Neigh
	for _, end := range t.Ends {
		if l := e.links[end.Link]; end.Type != Unicast || l.Loopback || l.PointToPoint {
			continue
		}
		n := Neigh{Link: end.Link, Addr: end.Via}
		if !end.Via.IsValid() {
			n.Addr = t.Query.Dst
		}
		if i := slices.IndexFunc(e.neighs, func(x Neigh) bool {
			return x.Link == n.Link && x.Addr == n.Addr
		}); i >= 0 {
			n = e.neighs[i]
		}
		out = appendOnce(out, n)
	}
	return out
}

// NotModelled returns the first tried rule with selectors that Lookup does not
// know: the kernel may answer otherwise. Rules of VRFs do not count, since they
// match no packet of an address outside a VRF.
func (t Trace) NotModelled() *Rule {
	for i := range t.Steps {
		if r := &t.Steps[i].Rule; !r.answerable(t.Query) && r.Opaque != l3mdev {
			return r
		}
	}
	return nil
}

// Choice describes how the kernel chooses between several ends; "" if there is
// only one.
func (t Trace) Choice() string {
	switch {
	case len(t.Ends) < 2:
		return ""
	case len(t.Route.Hops) > 1:
		return "by a hash of the flow"
	}
	return "by what is known of the gateways as neighbours"
}

// Why explains in a few words, with the values, the result of a rule: the
// property of the packet that did not match, or the answer of the rule's table.
func (s Step) Why(q Query) string {
	switch s.Effect {
	case NotMatched:
		return s.Rule.whyNot(q)
	case NoRoute:
		return "no route"
	case Thrown:
		return s.Route.brief() + ": back to the rules"
	case Suppressed:
		return s.Route.brief() + ": " + s.suppressed()
	case Jumped:
		return fmt.Sprintf("on to %d", s.Rule.Goto)
	case NoTarget:
		return "no such rule"
	case Idle:
		return "does nothing"
	}
	if s.Route == nil {
		return actionNames.print(s.Rule.Action)
	}
	return s.Route.brief()
}

func (s Step) suppressed() string {
	if bits := s.Route.Dst.Bits(); bits <= s.Rule.SuppressPrefix {
		return fmt.Sprintf("suppressed, /%d is not longer than /%d", bits,
			s.Rule.SuppressPrefix)
	}
	if len(s.Route.Hops) > 1 && s.Rule.Family == IPv6 {
		return fmt.Sprintf("suppressed where a next hop is in link group %d",
			s.Rule.SuppressGroup)
	}
	return fmt.Sprintf("suppressed, %s is in link group %d", s.Route.Hops[0].Link,
		s.Rule.SuppressGroup)
}

// whyNot names the property of the packet that the rule does not match.
func (r Rule) whyNot(q Query) string {
	switch mismatch(r, q) {
	case "":
		return "it matches, inverted"
	case "opaque":
		if r.Opaque == l3mdev {
			return "it is in no VRF"
		}
		return "not modelled"
	case "ports":
		return fmt.Sprintf("it is of protocol %d, from port %d to %d", q.Proto, q.Sport,
			q.Dport)
	case "iif":
		return "it is iif lo"
	case "oif":
		if q.OIF == "" {
			return "it has no oif"
		}
		return "it has oif " + q.OIF
	case "fwmark":
		return fmt.Sprintf("it has mark %#x", q.Mark)
	case "from":
		if !q.Src.IsValid() {
			return "it has no source yet"
		}
		return "it is from " + q.Src.String()
	}
	return "it is to " + q.Dst.String()
}
