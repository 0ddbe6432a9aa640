package routing

import (
	"net/netip"
	"slices"
)

// Replies makes the queries for replies of listeners.
type Replies struct {
	far   map[Family]netip.Addr
	ports map[Family]bool // some rule tells packets apart by protocol or port
}

// RepliesOn returns what makes the queries on a host.
func RepliesOn(h Host) Replies {
	r := Replies{map[Family]netip.Addr{}, map[Family]bool{}}
	for _, f := range Families {
		r.far[f] = OffLink(h, f)
	}
	for _, rule := range h.Rules {
		known, _ := rule.Selectors()
		r.ports[rule.Family] = r.ports[rule.Family] || slices.ContainsFunc(known,
			func(s [2]string) bool { return slices.Contains(portSelectors, s[0]) })
	}
	return r
}

// ephemeral is a port that a client may have.
const ephemeral = 40000

// To is the query for a listener's reply to a client, with protocol and ports
// if rules tell them apart.
func (r Replies) To(l Listener, client netip.Addr) Query {
	q := Query{Src: l.Addr, Dst: client}
	if r.ports[FamilyOf(l.Addr)] {
		q.Proto, q.Sport, q.Dport = ProtocolNumber(string(l.Transport)), l.Ports.First,
			ephemeral
	}
	return q
}

// ByPort reports whether rules of a family tell packets apart by protocol or
// port.
func (r Replies) ByPort(f Family) bool { return r.ports[f] }

// Far is To for an off-link client.
func (r Replies) Far(l Listener) Query { return r.To(l, r.far[FamilyOf(l.Addr)]) }

// ways returns a function that returns the ways of a listener's reply to an
// off-link client, one for each of at most three hosts. It looks up sources of
// one class once.
func (r Replies) ways(hosts ...*FIB) func(Listener) []Way {
	type class struct {
		sources [3]netip.Prefix
		reply   Query // without its source
	}
	known := map[class][]Way{}
	return func(l Listener) []Way {
		q := r.Far(l)
		c := class{reply: q}
		c.reply.Src = netip.Addr{}
		for i, f := range hosts {
			c.sources[i] = f.class(q.Src)
		}
		if known[c] == nil {
			known[c] = mapped(hosts, func(f *FIB) Way { return f.Way(q) })
		}
		return known[c]
	}
}
