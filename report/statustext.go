package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"lasthop/routing"
)

// Text writes the status for an operator on call: whether all is well, what is
// wrong, what is followed, what changed last.
func (s Status) Text(w io.Writer, style Style) error {
	t := &page{style: style}
	state := t.paint(red, "NOT in sync")
	switch {
	case s.InSync && s.Asks():
		state = t.paint(yellow, "in sync, but the findings need attention")
	case s.InSync:
		state = t.paint(green, "in sync")
	}
	t.printf("%s: %s\n", t.paint(bold, "lasthop"), state)
	for _, sentence := range s.Wrong {
		t.wrapIn(red, "  ", Escape(sentence))
	}
	t.wrap("", fmt.Sprintf("%s, on %s, running since %s, last look %s", Escape(s.Lasthop),
		Escape(s.Host), stamp(s.Started), stamp(s.Synced)))
	findings := slices.DeleteFunc(slices.Clone(s.Plan.Findings), func(f routing.Finding) bool {
		return f.Severity == routing.Info && f.Code != "not-loaded"
	})
	t.findings("Findings", findings)
	guide(t, findings)
	t.masters(s)
	t.listening(s)
	t.paths(s.Plan.Paths)
	writeLastHop(t, s.LastHop)
	t.changes("Missing in the kernel", s.Diff.Ops())
	t.lastChange(s.Last)
	c := s.Counts
	t.printf("\n")
	t.wrap("", strings.Join([]string{count(c.Syncs, "sync"), count(c.Changes, "change"),
		count(c.Heals, "repair"), count(c.Fights, "conflict") + " with other programs",
		count(c.Errors, "error"),
		count(c.Reloads, "load") + " of NGINX"}, ", "))
	if !s.InSync || s.Asks() {
		t.command("To see it from the kernel's side", "lasthop check")
	}
	return t.writeTo(w)
}

// utc formats the time of a report that may be read elsewhere.
func utc(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }

func stamp(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.Format("2006-01-02 15:04:05")
}

func (t *page) masters(s Status) {
	t.heading("NGINX (%d), reload detection: %s", len(s.Masters), Escape(s.Detector))
	var rows []row
	for _, m := range s.Masters {
		pid, does := "-", "not running: what is on disk counts"
		if m.PID != 0 {
			pid = fmt.Sprint(m.PID)
			does = fmt.Sprintf("load %d, seen %s, %s", m.Generation, stamp(m.Loaded),
				count(m.Workers, "worker"))
		}
		if m.PID != 0 && m.Draining > 0 {
			does += fmt.Sprintf(" and %d draining", m.Draining)
		}
		rows = append(rows, newRow("", pid, Escape(m.Conf), does))
	}
	t.table(rows)
}

// statusRows is how many listeners a status names: it must be short.
const statusRows = 10

// installed is what a status calls listeners that are ready, once the kernel
// holds what the plan wants.
const installed routing.Status = "installed"

// listening writes how many listeners there are, and the first of them.
func (t *page) listening(s Status) {
	outcomes := slices.Clone(s.Plan.Outcomes)
	for i := range outcomes {
		if o := &outcomes[i]; s.InSync && o.Status == routing.Ready {
			o.Status = installed
		}
	}
	t.printf("\n")
	t.wrap("", fmt.Sprintf("Listeners (%d): %s", len(outcomes), statuses(outcomes)))
	var rows []row
	for i, o := range outcomes {
		if i == statusRows && len(outcomes) > statusRows+1 {
			rows = append(rows, newRow("", "… and",
				fmt.Sprintf("%d more", len(outcomes)-i)))
			break
		}
		rows = append(rows, newRow(statusColor(s.Plan.Outcomes[i]), o.Addr.String(),
			"port "+o.PortName(), string(o.Status), cmp.Or(Escape(o.Link), "-")))
	}
	t.table(rows)
}

func byStatus(outcomes []routing.Outcome) map[routing.Status]int {
	return counted(outcomes, func(o routing.Outcome) routing.Status { return o.Status })
}

func countedStatus(n int, s routing.Status) string { return number(n) + " " + string(s) }

// statuses counts outcomes: "3 ready, 1 unresolved".
func statuses(outcomes []routing.Outcome) string {
	return cmp.Or(kinds(byStatus(outcomes), countedStatus, installed, routing.Ready,
		routing.Armed, routing.Unresolved, routing.Unchanged, routing.LocalOnly,
		routing.Off), "none")
}

func (t *page) lastChange(c Change) {
	if c.Time.IsZero() {
		t.printf("\nNothing was written since the start.\n")
		return
	}
	t.changes("Last change, "+stamp(c.Time)+", "+Escape(c.Cause), c.Done)
	if c.Error != "" {
		t.wrapIn(red, "  failed: ", Escape(c.Error))
	}
}

type statusDoc struct {
	headDoc
	InSync   bool              `json:"in_sync"`
	Wrong    []string          `json:"wrong"`
	Started  string            `json:"started"`
	Synced   string            `json:"synced,omitempty"`
	Detector string            `json:"detector"`
	Masters  []masterDoc       `json:"masters"`
	Paths    []pathDoc         `json:"paths"`
	Routes   []routeDoc        `json:"routes"` // lasthop's, as the kernel holds them
	Rules    []ruleDoc         `json:"rules"`
	Changes  []changeDoc       `json:"changes"` // what the kernel lacks
	Last     *lastDoc          `json:"last_change,omitempty"`
	Findings []routing.Finding `json:"findings"`
	Counts   Counts            `json:"counts"`
	LastHop  *lastHopDoc       `json:"last_hop,omitempty"`
}

type masterDoc struct {
	PID        int    `json:"pid,omitempty"`
	Conf       string `json:"conf"`
	Generation int    `json:"generation"`
	Loaded     string `json:"loaded,omitempty"`
	Workers    int    `json:"workers"`
	Draining   int    `json:"draining"`
	Pending    bool   `json:"pending,omitempty"` // a load of what is on disk
}

type lastDoc struct {
	Time  string      `json:"time"`
	Cause string      `json:"cause"`
	Done  []changeDoc `json:"done"`
	Error string      `json:"error,omitempty"`
}

// JSON writes the status as one document of kind "status".
func (s Status) JSON(w io.Writer) error {
	summary := Plan{Plan: s.Plan, Diff: s.Diff}.summary()
	d := statusDoc{s.Head.doc("status", s.Digest, summary), s.InSync, list(s.Wrong),
		rfc3339(s.Started), rfc3339(s.Synced), s.Detector, mapped(s.Masters, masterDocOf),
		mapped(s.Plan.Paths, pathDocOf), mapped(s.Installed.Routes, routeDocOf),
		mapped(s.Installed.Rules, ruleDocOf), mapped(s.Diff.Ops(), changeDocOf), nil,
		list(s.Plan.Findings), s.Counts, lastHopDocOf(s.LastHop)}
	if !s.Last.Time.IsZero() {
		d.Last = &lastDoc{rfc3339(s.Last.Time), s.Last.Cause,
			mapped(s.Last.Done, changeDocOf), s.Last.Error}
	}
	return encode(w, d)
}

func masterDocOf(m Master) masterDoc {
	return masterDoc{m.PID, m.Conf, m.Generation, rfc3339(m.Loaded), m.Workers, m.Draining,
		m.Pending}
}

func rfc3339(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
