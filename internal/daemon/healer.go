package daemon

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"lasthop/internal/doctor"
	"lasthop/internal/journal"
	"lasthop/routing"
	"lasthop/routing/host"
)

// healer knows which writes put back what another program has deleted or
// changed, which program that may be, and which writes wait because there is a
// fight.
type healer struct {
	netns    string // path of the namespace, "" for the process's own
	log      *slog.Logger
	troubles *troubles
	agenda   agenda

	// what other programs have deleted since the last sync, by the write
	// that makes it
	deleted map[string]bool
	missing bool // something was deleted since, or may have been
	fights  fights
	steps   int    // in fights
	suspect string // the programs that may have done it
}

// note records what another program has deleted, and what the kernel has
// deleted.
func (h *healer) note(e host.Event) {
	if e.Kind == "link" {
		h.fights.pardon(e.Links)
	}
	h.missing = h.missing || e.Kind == "lost"
	if e.Rule == nil && e.Route == nil && e.Filter == nil {
		return
	}
	h.missing = true
	if h.deleted == nil {
		h.deleted = map[string]bool{}
	}
	h.deleted[routing.Op{Rule: e.Rule, Route: e.Route, Filter: e.Filter}.String()] = true
}

// looked clears what was deleted: the look has shown all that is missing.
func (h *healer) looked() { h.deleted, h.missing = nil, false }

// heals returns which writes of a diff put back what was installed, and whether
// the kernel has reported the deletion.
func (h *healer) heals(diff routing.Diff, installed routing.State) map[string]bool {
	out := map[string]bool{}
	for _, op := range heals(diff, installed) {
		out[op.String()] = h.deleted[op.String()]
	}
	return out
}

// suspects looks for the programs that may have done it.
func (h *healer) suspects() string {
	h.suspect = doctor.Suspects("/proc", h.netns)
	return h.suspect
}

// admit removes from a diff what should not be put back yet.
func (h *healer) admit(diff routing.Diff, installed routing.State, now time.Time) routing.Diff {
	var held []step
	delete(h.agenda, doHeal)
	for _, op := range heals(diff, installed) {
		if s, ok := h.fights.admit(op, now); !ok {
			held = append(held, s)
			h.agenda.by(doHeal, s.until)
		}
	}
	h.fights.forget(now)
	h.tellFight(held)
	return withhold(diff, held)
}

// tellFight logs once for each step of a fight that lasthop backs off.
func (h *healer) tellFight(held []step) {
	if len(held) == 0 {
		h.troubles.keep(aboutFight, "", "")
		return
	}
	if i := slices.IndexFunc(held, func(s step) bool { return s.fresh }); i >= 0 {
		h.steps++
		h.log.Warn("another program keeps deleting what lasthop installs, backing off",
			"op", held[i].op.Command(), "objects", len(held), "wait", held[i].wait,
			"suspect", h.suspects(), journal.EventKey, journal.Fight)
	}
	h.troubles.keep(aboutFight,
		fmt.Sprintf("another program keeps deleting %s: lasthop puts it back every %v",
			held[0].op, held[0].wait), "")
}

// findings tell how to stop a suspect.
func (h *healer) findings() (out []routing.Finding) {
	if f, ok := doctor.Networkd("/", h.suspect); ok {
		out = append(out, f)
	}
	return out
}
