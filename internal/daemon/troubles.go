package daemon

import (
	"errors"
	"log/slog"
	"slices"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/report"
)

// troubles are what is wrong now. Each is logged once when it begins or
// changes, is kept for the status and the metrics, and is logged once more when
// it ends. It belongs to the loop.
type troubles struct {
	log  *slog.Logger
	list []trouble // the oldest first
}

// trouble is one thing that is wrong, and its remedy, "" if none is known.
// There is one for each subject.
type trouble struct{ about, message, remedy string }

// The subjects of troubles, besides each configuration and what the watcher
// reports.
const (
	aboutSync     = "sync"
	aboutNetlink  = "netlink"
	aboutMasters  = "masters"
	aboutSockets  = "sockets"
	aboutSettings = "settings"
	aboutNames    = "names of tables"
	aboutAudit    = "audit"
	aboutFight    = "fight"
	aboutRunDir   = "run directory"
	aboutSocket   = "socket"
	aboutMetrics  = "metrics"
	aboutEvents   = "events"
	aboutMemory   = "memory"
	aboutRouters  = "routers"
)

// note records a result: an error begins its trouble, and nil ends it. It
// reports whether there is none.
func (t *troubles) note(about string, err error) bool {
	if err == nil {
		t.keep(about, "", "")
		return true
	}
	message, remedy := report.Line(err.Error()), hint.Of(err)
	if !t.keep(about, message, remedy) {
		return false
	}
	event := journal.Wrong
	if about == aboutSettings {
		event = journal.Refused
	}
	attrs := []any{journal.EventKey, event}
	if remedy != "" {
		attrs = append(attrs, "hint", remedy)
	}
	t.log.Error(message, attrs...)
	return false
}

// keep replaces the message of a trouble; "" ends it. It reports whether the
// message differs from the one before. The caller logs it.
func (t *troubles) keep(about, message, remedy string) bool {
	i := slices.IndexFunc(t.list, func(t trouble) bool { return t.about == about })
	switch {
	case i < 0 && message == "" || i >= 0 && t.list[i].message == message:
		return false
	case i < 0:
		t.list = append(t.list, trouble{about, message, remedy})
	case message == "":
		t.log.Info("good again", "was", t.list[i].message, journal.EventKey,
			journal.GoodAgain)
		t.list = slices.Delete(t.list, i, i+1)
	default:
		t.list[i] = trouble{about, message, remedy}
	}
	return true
}

// of returns the trouble of a subject as an error, nil if there is none.
func (t *troubles) of(about string) error {
	for _, x := range t.list {
		if x.about == about {
			return hint.New(errors.New(x.message), x.remedy)
		}
	}
	return nil
}

// any reports whether one of the subjects has a trouble.
func (t *troubles) any(about ...string) bool {
	return slices.ContainsFunc(t.list,
		func(t trouble) bool { return slices.Contains(about, t.about) })
}

// messages returns what is wrong, a sentence each.
func (t *troubles) messages() (out []string) {
	for _, t := range t.list {
		out = append(out, t.message)
	}
	return out
}
