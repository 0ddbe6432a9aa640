package routing

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// repeatedSelectors are selectors that Rule does not model, but that a lasthop
// rule takes over from the rule that it repeats.
var repeatedSelectors = []string{"tos", "uidrange", "ipproto", "sport", "dport",
	"realms"}

// portSelectors are those of them that a Query may answer.
var portSelectors = []string{"ipproto", "sport", "dport"}

// allows reports whether a rule's protocol and ports are those of a query.
func (r Rule) allows(q Query) bool {
	known, _ := r.Selectors()
	for _, s := range known {
		switch s[0] {
		case "ipproto":
			if ProtocolNumber(s[1]) != q.Proto {
				return false
			}
		case "sport", "dport":
			first, last := Span(s[1])
			port := map[string]uint16{"sport": q.Sport, "dport": q.Dport}[s[0]]
			if uint32(port) < first || last < uint32(port) {
				return false
			}
		}
	}
	return true
}

// Selectors splits the part of a rule that is not modelled: the selectors that
// a lasthop rule may have, too, each a key and its value ("dport", "80-90"),
// and the other words.
func (r Rule) Selectors() (known [][2]string, rest string) {
	if r.Opaque == "" {
		return nil, "" // most of them
	}
	words := strings.Fields(r.Opaque)
	var left []string
	for len(words) > 0 {
		if len(words) > 1 && slices.Contains(repeatedSelectors, words[0]) {
			known, words = append(known, [2]string{words[0], words[1]}), words[2:]
			continue
		}
		left, words = append(left, words[0]), words[1:]
	}
	return known, strings.Join(left, " ")
}

// forReplies reports whether a rule may match a reply of the host itself: it is
// not for packets that come in by a link, nor for packets that a tunnel has
// unwrapped. An inverted rule with `iif lo` matches packets that fail another
// of its selectors.
func (r Rule) forReplies() bool {
	lo := r.IIF == "" || r.IIF == "lo"
	if r.Not {
		lo = r.IIF != "lo" || r.From.Bits() > 0 || r.To.Bits() > 0 || r.OIF != "" ||
			r.Mask != 0 || r.Opaque != ""
	}
	return lo && !strings.Contains(r.Opaque, "tun_id")
}

// repeatable reports whether a lasthop rule can do the same for a narrower
// prefix of sources. An inverted rule matches packets that fail any of its
// selectors, the prefix included.
func (r Rule) repeatable() bool {
	_, rest := r.Selectors()
	return !r.Not && rest == ""
}

// mayMatch reports whether a rule's `from` matches replies of an address.
func (r Rule) mayMatch(a netip.Addr) bool {
	if !r.Not {
		return r.From.Bits() <= 0 || r.From.Contains(a)
	}
	only := Rule{Priority: r.Priority, Family: r.Family, Not: true, From: r.From,
		Table: r.Table, SuppressPrefix: r.SuppressPrefix, SuppressGroup: r.SuppressGroup,
		Goto: r.Goto, Action: r.Action, Protocol: r.Protocol}
	return r != only || !r.From.Contains(a) // with other selectors it may fail one of them
}

// ProtocolNumber returns the number of a protocol that `ip rule` names by a
// word or a number; 0 for none.
func ProtocolNumber(s string) uint8 {
	for number, name := range ipProtocols {
		if name == s {
			return number
		}
	}
	n, _ := strconv.ParseUint(s, 10, 8)
	return uint8(n)
}

// Span reads a range of ports or users: "80-90", or "80" alone. It returns 0
// for text that is no range.
func Span(s string) (first, last uint32) {
	low, high, both := strings.Cut(s, "-")
	if !both {
		high = low
	}
	a, _ := strconv.ParseUint(low, 10, 32)
	b, _ := strconv.ParseUint(high, 10, 32)
	return uint32(a), uint32(b)
}
