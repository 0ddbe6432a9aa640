package report

import (
	"fmt"
	"io"
	"slices"
	"time"

	"lasthop/routing"
)

type fleetPage struct {
	frame
	Attention []troubleRow // the gravest first
	Groups    []groupRow
	Hosts     []fleetRow
}

// maxFleetRows bounds each list of a host or group: with it 200 hosts of very
// many listeners fit into a page of 5 MB.
const maxFleetRows = 30

// troubleRow is one row of the table of hosts to look at. Rest are the
// differences that are folded.
type troubleRow struct {
	FleetHost
	Rest []Difference
	// what the lists leave out
	MoreErrors, MoreUnresolved, MoreDiffers int
}

type groupRow struct {
	FleetGroup
	More int // traits that are not listed
}

// fleetRow is one row of the table of hosts.
type fleetRow struct {
	FleetHost
	Holds     string // "12 listeners, 2 paths, 10 changes"
	Listeners []fleetListener
	Paths     []pathDoc
	Findings  []routing.Finding // the gravest first
	// what the lists leave out
	MoreListeners, MorePaths, MoreFindings int
}

// fleetListener is the ports of one address whose replies go alike.
type fleetListener struct {
	Address, Interface, Status, Reason, Way string
	Ports                                   []string
}

// HTML writes the fleet as one self-contained page, in the frame of Plan.HTML.
func (f Fleet) HTML(w io.Writer) error {
	page := fleetPage{f.frame(), mapped(f.attention(), newTroubleRow),
		mapped(f.Groups, newGroupRow), mapped(f.Hosts, newFleetRow)}
	return page.write(w, "fleet.html", page)
}

func newTroubleRow(h FleetHost) troubleRow {
	const shown = 4
	r := troubleRow{FleetHost: h}
	r.Errors, r.MoreErrors = cut(h.Errors, shown)
	r.Unresolved, r.MoreUnresolved = cut(h.Unresolved, shown)
	r.Differs, r.MoreDiffers = cut(h.Differs, maxFleetRows)
	if len(r.Differs) > shown+1 { // one is never left out alone
		r.Differs, r.Rest = r.Differs[:shown], r.Differs[shown:]
	}
	return r
}

func newGroupRow(g FleetGroup) groupRow {
	r := groupRow{FleetGroup: g}
	r.Shape, r.More = cut(g.Shape, 4*maxFleetRows)
	return r
}

func (f Fleet) frame() frame {
	title := "Return routes for NGINX on " + count(len(f.Hosts), "host")
	frame := newFrame(title, f.Head, nil, nil)
	frame.Facts = []fact{{"Merged", utc(f.Time)}, {"by lasthop", Escape(f.Lasthop)},
		{"Plans", f.span()}}
	frame.Verdict, frame.Tone = f.verdict(), "good"
	differ, unresolved := f.having(FleetHost.differs), f.having(FleetHost.unresolved)
	wrong := f.having(FleetHost.wrong)
	switch {
	case wrong+unresolved > 0:
		frame.Tone = "bad"
	case differ > 0:
		frame.Tone = "warn"
	}
	n := counted(f.Hosts, func(h FleetHost) FleetStatus { return h.Status })
	frame.Statuses = mapped(fleetStatuses, func(s FleetStatus) tile {
		return newTile(n[s], string(s), "")
	})
	frame.Tiles = []tile{newTile(len(f.Hosts), "hosts", ""),
		newTile(len(f.Hosts)-differ, "alike", "good"), newTile(differ, "differ", "warn"),
		newTile(unresolved, "unresolved", "bad"), newTile(wrong, "with errors", "bad"),
		newTile(f.having(FleetHost.warned), "with warnings", "warn"),
		newTile(f.having(FleetHost.pending), "with changes", ""),
		newTile(len(f.Groups), "groups", "")}
	return frame
}

// span is from when the plans are.
func (f Fleet) span() string {
	var times []string
	for _, h := range f.Hosts {
		if at, err := time.Parse(time.RFC3339, h.Time); err == nil {
			times = append(times, utc(at))
		}
	}
	if len(times) == 0 {
		return "-"
	}
	first, last := slices.Min(times), slices.Max(times)
	if first == last {
		return first
	}
	return first + " to " + last
}

func newFleetRow(h FleetHost) fleetRow {
	p := h.plan
	r := fleetRow{FleetHost: h, Holds: count(len(p.Listeners), "listener") + ", " +
		count(len(p.Paths), "path") + ", " + count(len(p.Changes), "change")}
	r.Listeners, r.MoreListeners = cut(fleetListeners(p.Listeners), maxFleetRows)
	r.Paths, r.MorePaths = cut(p.Paths, maxFleetRows)
	r.Findings, r.MoreFindings = cut(gravest(p.Findings), maxFleetRows)
	return r
}

// cut returns the first n things of a list, and how many more there are.
func cut[T any](list []T, n int) (some []T, more int) {
	n = min(n, len(list))
	return list[:n], len(list) - n
}

// fleetListeners are the rows of a host, those that are unresolved first.
func fleetListeners(all []listenerDoc) (out []fleetListener) {
	type key struct{ address, link, status, reason, way string }
	index := map[key]int{}
	for _, l := range all {
		k := key{l.Address, l.Interface, l.Status, l.Reason, l.way()}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			out = append(out, fleetListener{k.address, k.link, k.status, k.reason,
				k.way, nil})
		}
		out[i].Ports = append(out[i].Ports, l.portName())
	}
	rank := func(l fleetListener) int {
		if l.Status == string(routing.Unresolved) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b fleetListener) int { return rank(a) - rank(b) })
	return out
}

// way tells the ways before and after.
func (l listenerDoc) way() string {
	switch {
	case l.Before == nil || l.After == nil:
		return ""
	case l.Before.String() == l.After.String():
		return l.After.String()
	}
	return fmt.Sprintf("%s -> %s", l.Before, l.After)
}
