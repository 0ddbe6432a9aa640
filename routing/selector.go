package routing

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// repeatedSelectors are selectors that Rule does not model, but that a rule of
// ours may have as the rule that it repeats has them.
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

// Selectors takes apart what is not modelled of a rule: selectors that a rule
// of ours may have, too, each a key and its value ("dport", "80-90"), and the
// rest.
func (r Rule) Selectors() (known [][2]string, rest string) {
	if r.Opaque == "" {
		return nil, "" // most of them
	}
	words := strings.Fields(r.Opaque)
	var others []string
	for len(words) > 0 {
		if len(words) > 1 && slices.Contains(repeatedSelectors, words[0]) {
			known, words = append(known, [2]string{words[0], words[1]}), words[2:]
			continue
		}
		others, words = append(others, words[0]), words[1:]
	}
	return known, strings.Join(others, " ")
}

// forReplies reports whether a rule may match a reply of the host's own: not
// what comes in by a link, nor what a tunnel has unwrapped. An inverted one
// with `iif lo` matches what fails another of its selectors.
func (r Rule) forReplies() bool {
	lo := r.IIF == "" || r.IIF == "lo"
	if r.Not {
		lo = r.IIF != "lo" || r.From.Bits() > 0 || r.To.Bits() > 0 || r.OIF != "" ||
			r.Mask != 0 || r.Opaque != ""
	}
	return lo && !strings.Contains(r.Opaque, "tun_id")
}

// repeatable reports whether a rule of ours can do the same for a narrower
// prefix of sources. An inverted one matches what fails any of its selectors,
// the prefix too.
func (r Rule) repeatable() bool {
	_, rest := r.Selectors()
	return !r.Not && rest == ""
}

// mayMatch reports whether a rule's `from` lets replies of an address pass.
func (r Rule) mayMatch(a netip.Addr) bool {
	if !r.Not {
		return r.From.Bits() <= 0 || r.From.Contains(a)
	}
	only := Rule{Priority: r.Priority, Family: r.Family, Not: true, From: r.From,
		Table: r.Table, SuppressPrefix: r.SuppressPrefix, SuppressGroup: r.SuppressGroup,
		Goto: r.Goto, Action: r.Action, Protocol: r.Protocol}
	return r != only || !r.From.Contains(a) // with others it may fail one of them
}

// ProtocolNumber is the number of a protocol as `ip rule` names it, by a word
// or a number; 0 for none.
func ProtocolNumber(s string) uint8 {
	for number, name := range ipProtocols {
		if name == s {
			return number
		}
	}
	n, _ := strconv.ParseUint(s, 10, 8)
	return uint8(n)
}

// Span reads a range of ports or users: "80-90", or "80" alone. What is none is
// 0.
func Span(s string) (first, last uint32) {
	low, high, both := strings.Cut(s, "-")
	if !both {
		high = low
	}
	a, _ := strconv.ParseUint(low, 10, 32)
	b, _ := strconv.ParseUint(high, 10, 32)
	return uint32(a), uint32(b)
}
