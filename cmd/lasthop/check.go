package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

// checking are the flags of check.
type checking struct {
	quiet bool
	root  string // for tests
}

func (a *app) checkCommand() *cobra.Command {
	var f checking
	c := &cobra.Command{
		Use:   "check",
		Short: "ask the kernel now: does every listener reply the way it was reached?",
		Long: `check asks the kernel for the way of each listener's replies to a client behind a
router, and compares it with the listener's own interface and gateway. It looks
for what else is wrong or will be: in rules, settings and numbers, in what other
programs do, in NGINX's processes and sockets. It prints what, where and what to
do about it; docs/findings.md tells more of each code. It changes nothing and
needs no root, but sees more as root.

It exits with 2 if a listener is asymmetric or unresolved.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.check(f) },
	}
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print one line")
	c.Flags().StringVar(&f.root, "root", "/",
		"`DIR` below which the settings of other programs are")
	_ = c.Flags().MarkHidden("root") // fails only for a flag that does not exist
	return c
}

func (a *app) check(f checking) error {
	if err := a.flags.formats("text", "json"); err != nil {
		return err
	}
	k, err := a.open()
	if err != nil {
		return err
	}
	defer closeKernel(k)
	v, err := a.look(k)
	if err != nil {
		return err
	}
	if err := v.listening(); err != nil {
		return err
	}
	checks, err := v.ask(k)
	if err != nil {
		return err
	}
	if !f.quiet || a.flags.output == "json" {
		v.plan.Findings = a.examine(k, v, checks, f.root)
	}
	c := report.Check{Head: v.head(), Plan: v.plan, Diff: v.diff, Digest: v.plan.Digest(v.diff),
		Checks: checks, Mend: a.mend(v, v.plan.Findings), Offline: v.offline,
		Quiet: f.quiet}
	if err := a.ui.print(c, a.flags.output); err != nil {
		return err
	}
	if slices.ContainsFunc(checks, func(c report.Checked) bool { return c.Verdict.Bad() }) {
		return errNotWanted
	}
	return nil
}

// ask finds out, for each outcome, which way its replies take now. The kernel
// is asked for addresses that are here; for others, and with --host, Lookup
// answers: `ip route get` refuses an IPv4 source that is not assigned.
func (v *view) ask(k *host.Kernel) ([]report.Checked, error) {
	fib := routing.NewFIB(v.host)
	known := map[netip.Addr]routing.Way{}
	var out []report.Checked
	for _, o := range v.plan.Outcomes {
		c := report.Checked{Outcome: o, Question: routing.Query{Src: o.Addr,
			Dst: routing.OffLink(v.host, routing.FamilyOf(o.Addr))}}
		now, ok := known[o.Addr]
		switch {
		case ok || o.Status == routing.LocalOnly || o.Status == routing.Off:
		case k == nil || !v.here(o.Addr):
			now = fib.Way(c.Question)
		default:
			var err error
			if now, err = k.RouteGet(c.Question); err != nil {
				return nil, err
			}
		}
		known[o.Addr] = now
		c.Now = now
		c.Want, c.Verdict = v.verdict(o, now)
		out = append(out, c)
	}
	return out, nil
}

func (v *view) here(addr netip.Addr) bool {
	return slices.ContainsFunc(v.host.Addrs, func(a routing.Addr) bool {
		return a.Prefix.Addr() == addr
	})
}

// verdict compares the way that replies take with the gateways of the
// listener's own path.
func (v *view) verdict(o routing.Outcome, now routing.Way) (want string, _ report.Verdict) {
	switch o.Status {
	case routing.LocalOnly:
		return "", report.NoGateway
	case routing.Off:
		return "", report.NotAsked
	}
	var ways []string
	right := false
	for _, h := range v.hops(o) {
		ways = append(ways, h.String())
		right = right || now.Type == routing.Unicast && now.Link == h.Link &&
			now.Via == h.Via
	}
	want = strings.Join(ways, " or ")
	switch {
	case len(ways) == 0 || right && o.Status == routing.Unresolved:
		// right off-link, but not for every client
		return want, report.NotKnown
	case right && o.Status == routing.Armed:
		return want, report.NotHere
	case right:
		return want, report.Symmetric
	case o.Status == routing.Armed:
		return want, report.NotHereWrong
	}
	return want, report.Asymmetric
}

// hops returns the next hops of the listener's path: the one whose prefixes
// hold it, or all of its link where none does.
func (v *view) hops(o routing.Outcome) []routing.Hop {
	var holding, all []routing.Hop
	for _, p := range v.plan.Paths {
		if p.Link != o.Link || p.Family != routing.FamilyOf(o.Addr) {
			continue
		}
		all = append(all, p.Hops...)
		if slices.ContainsFunc(p.Prefixes,
			func(x netip.Prefix) bool { return x.Contains(o.Addr) }) {
			holding = append(holding, p.Hops...)
		}
	}
	if len(holding) > 0 {
		return holding
	}
	return all
}

// asymmetric returns an error for the first path with a present address whose
// replies do not take it, after an apply.
func (a *app) asymmetric(checks []report.Checked) error {
	for _, c := range checks {
		if c.Status == routing.Ready && c.Verdict == report.Asymmetric {
			return hint(fmt.Errorf("the kernel sends replies of %s to %s, not to %s",
				c.Addr, c.Now, c.Want), "see why: "+a.explainLine(c.Question))
		}
	}
	return nil
}
