package main

import (
	"os"
	"strings"
	"time"

	"lasthop/internal/doctor"
	"lasthop/internal/survey"
	"lasthop/report"
	"lasthop/routing"

	"github.com/spf13/cobra"
)

func (a *app) checkCommand() *cobra.Command {
	quiet, root, look := false, "", time.Duration(0)
	c := &cobra.Command{
		Use:   "check",
		Short: "ask the kernel now: does every listener reply the way it was reached?",
		Long: `check asks the kernel for the way of each listener's replies, and compares it with
the listener's own interface and gateway: to a client behind a router, and to
one of every other class that the host knows (on-link, on other LANs, behind
static routes, in containers, the router itself). It looks for what else is
wrong or will be: in rules, settings and numbers, in what other programs do, in
NGINX's processes and sockets. It prints what, where and what to do about it;
docs/findings.md tells more of each code. It changes nothing and needs no root,
but sees more as root.

It exits with 2 if a listener is asymmetric or unresolved, if something that the
plan wants is missing from the kernel, if the mode last-hop is asked for and
cannot be had, or if with --observe packets show an error or a warning.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.check(quiet, root, look) },
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print one line")
	c.Flags().DurationVar(&look, "observe", 0,
		"look at packets too, for this `TIME` (10s); needs CAP_NET_RAW")
	c.Flags().StringVar(&root, "root", "/",
		"`DIR` below which the settings of other programs are")
	_ = c.Flags().MarkHidden("root") // for tests; fails only for a flag that does not exist
	return c
}

func (a *app) check(quiet bool, root string, look time.Duration) error {
	if err := a.flags.formats("text", "json"); err != nil {
		return err
	}
	scene, s, err := lookAtListeners(a)
	if err != nil {
		return err
	}
	defer scene.close()
	seen, err := a.ui.witness(s, look)
	if err != nil {
		return err
	}
	checks, err := s.CheckClasses()
	if err != nil {
		return err
	}
	plan := &s.Decision.Plan
	if !quiet || a.flags.output == "json" {
		var unseen []string
		plan.Findings, unseen = doctor.Examine(s, checks,
			doctor.Options{Kernel: scene.kernel, Line: scene.line, Root: root,
				Status: scene.status})
		a.ui.tellUnseen(unseen)
	}
	plan.Findings = append(plan.Findings, survey.Contradictions(checks, seen)...)
	routing.SortFindings(plan.Findings)
	p := s.Plan()
	c := report.Check{Head: p.Head, Plan: p.Plan, Diff: p.Diff, Digest: p.Digest,
		Checks:  checks,
		Mend:    doctor.Remedy(scene.line, p.Diff, plan.Findings),
		Offline: s.Place.Offline, Quiet: quiet, Seen: seen}
	return ended(a.ui.print(c, a.flags.output), c.Wanted())
}

// tellUnseen reports what could not be read.
func (u ui) tellUnseen(unseen []string) {
	if len(unseen) == 0 {
		return
	}
	u.warn("not looked at: %s", strings.Join(unseen, ", "))
	if os.Geteuid() != 0 {
		u.hint("as root check sees more")
	}
}
