package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// This file holds what a plan reports besides its decisions: established
// sessions and warnings about NGINX's configuration. No decision depends on it.

// Session is one established TCP session of the host.
type Session struct{ Local, Remote netip.AddrPort }

// HalfOpen is a TCP session whose SYN-ACK the client has not answered, and how
// often it was sent again.
type HalfOpen struct {
	Session
	Repeats int
}

// SessionGroup is a number of sessions that are routed alike: those of one
// local address with remote addresses that no route and no rule distinguishes.
// Remote is one of these addresses.
type SessionGroup struct {
	Local  netip.Addr `json:"local"`
	Remote netip.Addr `json:"remote"`
	Count  int        `json:"count"`
	Own    bool       `json:"own,omitempty"` // the user's own is one of them
}

// NginxWarning returns a finding about NGINX's configuration.
func NginxWarning(code, message, hint, origin string) Finding {
	return Finding{Code(code), Warning, "nginx.conf", message, hint, origin}
}

// MovesEstablished returns the finding `moves-established`: how many TCP
// sessions the changes put on another way with their next packet, and whether
// the user's own session is one of them. It returns nothing if no session
// moves.
func MovesEstablished(in Inputs, d Decision, groups []SessionGroup) []Finding {
	if d.Diff.Empty() || len(groups) == 0 {
		return nil
	}
	without := Without(in.Host, in.Policy.Numbers)
	now, then := NewFIB(in.Host), NewFIB(With(without, d.Plan.State))
	moved, all, mine := 0, 0, false
	for _, s := range groups {
		all += s.Count
		q := Query{Src: s.Local, Dst: s.Remote}
		// with the mode last-hop until the client's next segment
		if !sameWay(now.Way(q).fallback(), then.Way(q).fallback()) {
			moved += s.Count
			mine = mine || s.Own
		}
	}
	if moved == 0 {
		return nil
	}
	f := Info.Finding("moves-established", "TCP sessions",
		"%d of %d established TCP sessions leave by another interface or gateway from "+
			"their next packet on",
		moved, all)
	if mine {
		f.Severity = Warning
		f.Message += "; your own SSH session is one of them"
		f.Hint = "let lasthop undo the change if the session breaks: lasthop apply " +
			"--confirm 90s"
	}
	return []Finding{f}
}

// GroupSessions groups the sessions that are routed alike, whatever is planned:
// they have one local address, and remote addresses in the same prefixes of the
// host's routes and rules and of --direct. So a capture names one client for
// each way, and not all of them. own is the user's own session.
func GroupSessions(h Host, direct []netip.Prefix, sessions []Session, own Session) []SessionGroup {
	if len(sessions) == 0 {
		return []SessionGroup{}
	}
	known := prefixesOf(h, direct)
	type key struct {
		local  netip.Addr
		inside netip.Prefix
	}
	index, out := map[key]int{}, []SessionGroup{}
	for _, s := range sessions {
		g := SessionGroup{Local: s.Local.Addr(), Remote: s.Remote.Addr(), Count: 1,
			Own: s == own}
		k := key{g.Local, known.longest(g.Remote)}
		i, ok := index[k]
		if !ok {
			index[k] = len(out)
			out = append(out, g)
			continue
		}
		if g.Remote.Less(out[i].Remote) {
			out[i].Remote = g.Remote
		}
		out[i].Count++
		out[i].Own = out[i].Own || g.Own
	}
	slices.SortFunc(out, func(a, b SessionGroup) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote))
	})
	return out
}

// prefixesOf returns all prefixes by which a lookup could distinguish
// destinations.
func prefixesOf(h Host, direct []netip.Prefix) *prefixSet {
	var known prefixSet
	for _, r := range h.Routes {
		known.add(r.Dst)
	}
	for _, r := range h.Rules {
		known.add(r.To)
	}
	for _, p := range direct {
		known.add(p)
	}
	return &known
}
