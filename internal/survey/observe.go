package survey

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow"
)

// Watch opens an observer of the packets of the survey's listeners. The caller
// closes it.
func (s *Survey) Watch(probe bool) (*flow.Observer, error) {
	o, err := flow.Open(flow.Options{Host: s.Inputs.Host, Probe: probe,
		Listeners: flow.Listeners(s.Decision.Plan.Outcomes), Inside: s.Place.inside})
	if err != nil {
		return nil, packets("look at packets", err)
	}
	return o, nil
}

// packets names the failure, and the right that may be missing.
func packets(doing string, err error) error {
	wrapped := fmt.Errorf("%s: %w", doing, err)
	if flow.NotAllowed(err) {
		return hint.New(wrapped, "run as root, or with CAP_NET_RAW")
	}
	return wrapped
}

// Ask asks the neighbours of the host for the owners of addresses: see
// flow.Ask.
func Ask(ctx context.Context, s *Survey, questions []routing.Question) ([]routing.Asked, error) {
	asked, err := flow.Ask(ctx,
		flow.Options{Host: s.Inputs.Host, Inside: s.Place.inside}, questions)
	if err != nil {
		return nil, packets("ask neighbours", err)
	}
	return asked, nil
}

// Observe looks at packets for a time, or until ctx is done, and returns what
// they mean. Four times a second it calls progress, which may be nil.
func (s *Survey) Observe(ctx context.Context, d time.Duration, probe bool,
	progress func(flow.Progress) bool) (routing.Seen, error) {
	o, err := s.Watch(probe)
	if err != nil {
		return routing.Seen{}, err
	}
	defer o.Close()
	e, err := o.Window(ctx, d, progress)
	if err != nil {
		return routing.Seen{}, err
	}
	// The kernel may have learned neighbours since the host was read.
	if h, err := s.Place.Read(); err == nil {
		e.Names = append(e.Names, routing.NeighbourNames(h)...)
	}
	return routing.Judge(s.Decision, e), nil
}

// Contradictions adds packets to a check: their own findings, and those about
// differences from the kernel's answers. seen may be nil.
func Contradictions(checks []report.Checked, seen *routing.Seen) []routing.Finding {
	if seen == nil {
		return nil
	}
	out := slices.Clone(seen.Findings)
	find, told := seen.Finder(), map[string]bool{}
	for _, c := range checks {
		l, found := find(c.Listener)
		if !found || told[l.String()] {
			continue
		}
		if f, ok := contradiction(c, l); ok {
			told[l.String()] = true
			out = append(out, f)
		}
	}
	return out
}

// contradiction compares the kernel's answer for clients behind a router with
// the ways that packets of such clients took.
func contradiction(c report.Checked, l routing.SeenListener) (f routing.Finding, found bool) {
	for _, w := range l.Ways {
		if w.Class != routing.OffLinkClient || w.Count.Seen < routing.DarkFrom {
			continue
		}
		switch {
		case c.Verdict == report.Symmetric && w.Outcome == routing.WayDark:
			f = routing.Error.Finding("seen-otherwise", l.String(), "the kernel "+
				"says that replies leave by %s, as planned, but no client gets "+
				"an answer: packets show that requests came by %s", c.Now,
				w.In.Name())
		case c.Verdict == report.Symmetric && w.Verdict == routing.WayAsymmetric:
			f = routing.Error.Finding("seen-otherwise", l.String(), "the kernel "+
				"says that replies leave by %s, as planned, but packets show "+
				"that requests come by %s and replies leave by %s", c.Now,
				w.In.Name(), w.Out.Name())
		case c.Verdict == report.Asymmetric && w.Verdict == routing.WaySymmetric &&
			w.Outcome == routing.WayWorks:
			f = routing.Error.Finding("seen-otherwise", l.String(), "the plan says "+
				"that replies leave by %s, but packets show that requests come "+
				"by %s and replies leave there", c.Want, w.In.Name())
		default:
			continue
		}
		return f.Advise("requests come in by another interface or router than the plan "+
			"assumes: %s, or check the routers",
			routing.Flag("address", l.Addr.String()+"="+w.In.Link)), true
	}
	return f, false
}
