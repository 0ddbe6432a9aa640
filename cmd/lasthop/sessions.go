package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"lasthop/routing"
	"lasthop/routing/host"
)

// addEstablished adds the finding `moves-established`: how many TCP sessions
// the changes put on another way with their next packet, and whether the user's
// own is one. A host that does not let us list sessions gets no such finding.
func (v *view) addEstablished() {
	if v.diff.Empty() {
		return
	}
	without := routing.Without(v.host, v.policy.Numbers)
	now, then := routing.NewFIB(v.host), routing.NewFIB(routing.With(without, v.plan.State))
	moved, all, mine := 0, 0, false
	for _, s := range v.beside.sessions {
		all += s.Count
		q := routing.Query{Src: s.Local, Dst: s.Remote}
		before, after := now.Way(q), then.Way(q)
		before.Table, after.Table = 0, 0
		if before != after {
			moved += s.Count
			mine = mine || s.Own
		}
	}
	if moved == 0 {
		return
	}
	f := routing.Finding{Code: "moves-established", Severity: routing.Info,
		Subject: "TCP sessions",
		Message: fmt.Sprintf("%d of %d established TCP sessions take another way "+
			"from their next packet on", moved, all)}
	if mine {
		f.Severity = routing.Warning
		f.Message += "; your own SSH session is one of them"
		f.Hint = "go back by itself if the session breaks: lasthop apply --confirm 90s"
	}
	v.plan.Findings = append(v.plan.Findings, f)
}

// grouped puts sessions together that are routed alike, whatever is planned:
// with one local address, and with remote addresses that are in the same
// prefixes of the host's routes and rules and of --direct. So a capture names
// one client for each way, and not all.
func grouped(h routing.Host, direct []netip.Prefix, sessions []host.Session,
	own host.Session) []host.SessionGroup {
	known := prefixesOf(h, direct)
	type key struct {
		local  netip.Addr
		inside netip.Prefix
	}
	index, out := map[key]int{}, []host.SessionGroup{}
	for _, s := range sessions {
		g := host.SessionGroup{Local: s.Local.Addr(), Remote: s.Remote.Addr(), Count: 1,
			Own: s == own}
		k := key{g.Local, longest(known, g.Remote)}
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
	slices.SortFunc(out, func(a, b host.SessionGroup) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote))
	})
	return out
}

// prefixesOf are all prefixes by which a lookup could tell destinations apart.
func prefixesOf(h routing.Host, direct []netip.Prefix) map[netip.Prefix]bool {
	known := map[netip.Prefix]bool{}
	for _, r := range h.Routes {
		known[r.Dst] = true
	}
	for _, r := range h.Rules {
		known[r.To.Masked()] = true
	}
	for _, p := range direct {
		known[p.Masked()] = true
	}
	return known
}

// longest returns the longest of the prefixes that holds the address: two
// addresses with the same one are in the same prefixes.
func longest(known map[netip.Prefix]bool, a netip.Addr) netip.Prefix {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if p, err := a.Prefix(bits); err == nil && known[p] {
			return p
		}
	}
	return netip.Prefix{}
}

// ownSession is the user's SSH session, from $SSH_CONNECTION: client address,
// port, server address, port.
func ownSession() host.Session {
	w := strings.Fields(os.Getenv("SSH_CONNECTION"))
	if len(w) != 4 {
		return host.Session{}
	}
	remote, err1 := netip.ParseAddrPort(joinPort(w[0], w[1]))
	local, err2 := netip.ParseAddrPort(joinPort(w[2], w[3]))
	if err1 != nil || err2 != nil {
		return host.Session{}
	}
	return host.Session{Local: local, Remote: remote}
}

func joinPort(addr, port string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + port
	}
	return addr + ":" + port
}
