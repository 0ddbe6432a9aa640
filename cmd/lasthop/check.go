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
		Use:  "check",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.check(quiet, root, look) },
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print one line")
	c.Flags().DurationVar(&look, "observe", 0,
		"`TIME` also look at packets for so long (10s); needs CAP_NET_RAW")
	c.Flags().StringVar(&root, "root", "/",
		"`DIR` that has the settings of other programs")
	_ = c.Flags().MarkHidden("root") // for tests; fails only for a flag that does not exist
	return a.flags.take(c, deciding+"netns host", "text", "json", "prometheus")
}

func (a *app) check(quiet bool, root string, look time.Duration) error {
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
	if !quiet || a.flags.output != "text" {
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
		Remedy:  doctor.Remedy(scene.line, p.Diff, plan.Findings),
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
		u.hint("run it with sudo: as root, check can look at more")
	}
}
