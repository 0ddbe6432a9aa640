package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// Action is what a matching rule does: the kernel's FR_ACT_*.
type Action uint8

const (
	ToTable           Action = 1
	Goto              Action = 2
	Nop               Action = 3
	RejectBlackhole   Action = 6
	RejectUnreachable Action = 7
	RejectProhibit    Action = 8
)

// None is the value of SuppressPrefix and SuppressGroup that suppresses
// nothing, as in the kernel.
const None = -1

// Rule is one policy routing rule. It is comparable: two rules are the same if
// all fields are. Use NewRule for a rule that suppresses nothing: the zero
// values of SuppressPrefix and SuppressGroup do suppress, as in the kernel.
type Rule struct {
	Priority       int
	Family         Family
	Not            bool
	From, To       netip.Prefix // masked; the zero Prefix is `all`
	IIF, OIF       string
	Mark, Mask     uint32
	Table          uint32
	SuppressPrefix int // None, or: a route of this length or shorter is no answer
	SuppressGroup  int // None, or: a route whose first hop's link is in this group is no answer
	Goto           int // with Action Goto: the priority to go on at
	Action         Action
	Protocol       uint8
	// selectors that are not modelled, in `ip` syntax: "l3mdev", "ipproto
	// tcp dport 80", "uidrange 0-99"
	Opaque string
}

// NewRule returns a rule `priority: from all lookup table` of the family that
// suppresses nothing.
func NewRule(f Family, priority int, table uint32) Rule {
	return Rule{Priority: priority, Family: f, Table: table, SuppressPrefix: None,
		SuppressGroup: None, Action: ToTable}
}

// standardRules are those that a new network namespace has.
var standardRules = []Rule{NewRule(IPv4, 0, TableLocal), NewRule(IPv4, 32766, TableMain),
	NewRule(IPv4, 32767, TableDefault),
	NewRule(IPv6, 0, TableLocal), NewRule(IPv6, 32766, TableMain)}

// standard reports whether the rule is `from all lookup` local, main or
// default.
func standard(r Rule) bool {
	r.Priority, r.Protocol = 0, 0
	return r == NewRule(r.Family, 0, r.Table) && TableDefault <= r.Table &&
		r.Table <= TableLocal
}

// deliberate reports whether the rule was written for these sources or
// destinations.
func deliberate(r Rule) bool {
	return r.From.Bits() > 0 || r.To.Bits() > 0 || r.Mark != 0 && !r.Not
}

// byHand reports whether a rule sends the replies of some addresses to a table
// of their own and asks for nothing else: the recipe that administrators use.
func (r Rule) byHand() bool {
	plain := NewRule(r.Family, r.Priority, r.Table)
	plain.From, plain.Protocol = r.From, r.Protocol
	if r.IIF == "lo" {
		plain.IIF = r.IIF
	}
	return r == plain && r.From.Bits() > 0 && (r.Table < TableDefault || r.Table > TableLocal)
}

// goesFirst reports whether rules of lasthop must stand behind this one:
// `lookup local`, or that of VRFs.
func (r Rule) goesFirst() bool {
	return r.Opaque == l3mdev || r.Action == ToTable && r.Table == TableLocal
}

// catchesAll reports whether a rule without selectors matches every reply.
func catchesAll(r Rule) bool {
	if r.From.Bits() > 0 || r.To.Bits() > 0 {
		return false
	}
	some := r.Family.All().Addr().Next()
	return matches(r, Query{Src: some, Dst: some})
}

// matches reports whether the rule's selectors match.
func matches(r Rule, q Query) bool {
	what := mismatch(r, q)
	return what != "opaque" && (what == "") != r.Not
}

// answerable reports whether the model knows if a rule matches. Realms are no
// selector: they are for tc.
func (r Rule) answerable(q Query) bool {
	known, rest := r.Selectors()
	return rest == "" && !slices.ContainsFunc(known, func(s [2]string) bool {
		return s[0] != "realms" && (q.Proto == 0 || !slices.Contains(portSelectors, s[0]))
	})
}

// mismatch names the first selector that does not match; it is empty if all
// match. The caller handles inversion.
func mismatch(r Rule, q Query) string {
	switch {
	case !r.answerable(q):
		return "opaque"
	case !r.allows(q):
		return "ports"
	case r.IIF != "" && r.IIF != "lo":
		return "iif"
	case r.OIF != "" && r.OIF != q.OIF:
		return "oif"
	case (r.Mark^q.Mark)&r.Mask != 0:
		return "fwmark"
	case r.From.IsValid() && r.From.Bits() > 0 && !r.From.Contains(q.Src):
		return "from"
	case r.To.IsValid() && !r.To.Contains(q.Dst):
		return "to"
	}
	return ""
}

func compareRule(a, b Rule) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority),
		comparePrefix(a.From, b.From), comparePrefix(a.To, b.To), cmp.Compare(a.OIF, b.OIF),
		cmp.Compare(a.Table, b.Table))
}
