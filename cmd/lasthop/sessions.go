package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"lasthop/routing"
	"lasthop/routing/host"
)

// addEstablished adds the finding `moves-established`: how many TCP sessions the changes put on another way with their next
// packet, and whether the user's own is one. A host that does not let us list sessions gets no such finding.
func (v *view) addEstablished(k *host.Kernel) {
	sessions, err := k.Sessions()
	if err != nil || v.diff.Empty() {
		return
	}
	without := routing.Without(v.host, v.policy.Numbers)
	now, then := routing.NewFIB(v.host), routing.NewFIB(routing.With(without, v.plan.State))
	own, mine := ownSession(), false
	moved := 0
	for _, s := range sessions {
		q := routing.Query{Src: s.Local.Addr(), Dst: s.Remote.Addr()}
		before, after := now.Way(q), then.Way(q)
		before.Table, after.Table = 0, 0
		if before != after {
			moved++
			mine = mine || s == own
		}
	}
	if moved == 0 {
		return
	}
	f := routing.Finding{Code: "moves-established", Severity: routing.Info, Subject: "TCP sessions",
		Message: fmt.Sprintf("%d of %d established TCP sessions take another way from their next packet on", moved, len(sessions))}
	if mine {
		f.Severity = routing.Warning
		f.Message += "; your own SSH session is one of them"
		f.Hint = "go back by itself if the session breaks: lasthop apply --confirm 90s"
	}
	v.plan.Findings = append(v.plan.Findings, f)
}

// ownSession is the user's SSH session, from $SSH_CONNECTION: client address, port, server address, port.
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
