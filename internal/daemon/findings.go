package daemon

import (
	"context"
	"log/slog"
	"time"

	"lasthop/internal/journal"
	"lasthop/routing"
)

// notices are the warnings and errors among the findings, for the log. Each is
// logged once when it has stayed for a while, since links, leases and NGINX
// come late when a host boots, and once more when it is gone. It belongs to the
// loop.
type notices struct {
	log    *slog.Logger
	agenda agenda
	known  map[notice]*told
}

// notice is what a finding is about: its message may count something.
type notice struct {
	code    routing.Code
	subject string
}

// told is since when there is a finding, and whether the log has it.
type told struct {
	since   time.Time
	is, log bool
}

const (
	settled  = 10 * time.Second // how long a finding stays before the log has it
	mostTold = 20               // in one go; `lasthop status` has them all
)

// note records the present findings.
func (n *notices) note(findings []routing.Finding, now time.Time) {
	for _, k := range n.known {
		k.is = false
	}
	more := 0
	for _, f := range findings {
		if f.Severity == routing.Info {
			continue
		}
		key := notice{f.Code, f.Subject}
		k := n.known[key]
		if k == nil {
			k = &told{since: now}
			n.known[key] = k
		}
		k.is = true
		due := k.since.Add(settled)
		switch {
		case k.log:
		case now.Before(due):
			n.agenda.by(doTell, due)
		default:
			k.log = true
			if more++; more <= mostTold {
				n.tell(f)
			}
		}
	}
	if more > mostTold {
		n.log.Warn("more findings, see: lasthop status", "more", more-mostTold,
			journal.EventKey, journal.Found)
	}
	for key, k := range n.known {
		if k.is {
			continue
		}
		delete(n.known, key)
		if k.log {
			n.log.Info("good again", "code", key.code, "subject", key.subject,
				journal.EventKey, journal.GoodAgain)
		}
	}
}

// tell logs one finding.
func (n *notices) tell(f routing.Finding) {
	level := slog.LevelWarn
	if f.Severity == routing.Error {
		level = slog.LevelError
	}
	attrs := []any{"code", f.Code, "subject", f.Subject, journal.EventKey, journal.Found}
	if f.Hint != "" {
		attrs = append(attrs, "hint", f.Hint)
	}
	n.log.Log(context.Background(), level, f.Message, attrs...)
}
