package main

import (
	"errors"
	"slices"

	"lasthop/internal/survey"
	"lasthop/report"
	"lasthop/routing"

	"github.com/spf13/cobra"
)

// planning are the flags of plan.
type planning struct {
	exitCode, prove, merge bool
	evidence, since        string
}

func (a *app) planCommand() *cobra.Command {
	var f planning
	c := &cobra.Command{
		Use: "plan",
		Args: func(c *cobra.Command, args []string) error {
			if f.merge {
				return nil
			}
			return none(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if f.merge {
				return merge(a, c, args)
			}
			return a.plan(f)
		},
	}
	c.Flags().BoolVar(&f.exitCode, "exit-code", false,
		"exit with 2 if there is something to change")
	c.Flags().BoolVar(&f.prove, "prove", false,
		"let the kernel prove the plan in a throw-away copy of this host; this host "+
			"is not touched; needs no root if user namespaces are allowed")
	c.Flags().StringVar(&f.evidence, "evidence", "",
		"`FILE` add what packets showed, as lasthop observe -o json wrote it")
	c.Flags().StringVar(&f.since, "diff", "",
		"`FILE` say what changed since this plan of lasthop plan -o json; exit with 2 if "+
			"something did")
	c.Flags().BoolVar(&f.merge, "merge", false,
		"report on many hosts: the arguments are files of lasthop plan -o json")
	return a.flags.take(c, deciding+"netns host", "text", "json", "html", "markdown", "csv",
		"iproute2", "networkd", "nmcli")
}

func (a *app) plan(f planning) error {
	if err := f.check(a); err != nil {
		return err
	}
	scene, s, err := lookAtListeners(a)
	if err != nil {
		return err
	}
	defer scene.close()
	s.AddBackground()
	seen, err := s.Evidence(f.evidence)
	if err != nil {
		return err
	}
	p := s.Plan()
	if a.flags.output == "text" && !p.Diff.Empty() { // whose rows have marks
		now := s.Decision.Standing()
		p.Now = &now
	}
	var unloaded []routing.Finding
	if scene.kernel != nil {
		l, _ := scene.takes(s) // apply reports why it is unknown
		unloaded = l.Refusals()
	}
	if len(unloaded) > 0 {
		p.Plan.Findings = slices.Concat(p.Plan.Findings, unloaded)
		routing.SortFindings(p.Plan.Findings)
	}
	if p.Seen = seen; seen != nil {
		p.Plan.Findings = slices.Concat(p.Plan.Findings, seen.Findings)
	}
	p.Back = routing.Compare(p.Plan.State, s.Decision.Owned)
	if !p.Diff.Empty() && !s.Decision.Unread() && len(unloaded) == 0 {
		p.Next = scene.line.Apply(p.Digest)
	}
	if f.since != "" {
		if err := survey.Compare(&p, f.since); err != nil {
			return err
		}
	}
	var unproved error
	if f.prove {
		if p.Proof, unproved = s.Prove(); p.Proof.Differs() {
			p.Next = ""
		}
	}
	err = errors.Join(a.ui.printPlan(p, s.Background.NetworkFiles, a.flags.output), unproved)
	return ended(err, !p.Proof.Differs() && !(f.exitCode && !p.Diff.Empty()) &&
		!p.Since.Differs() && !p.Plan.FellBack())
}

// check refuses formats that have no place for what the flags ask for.
func (f planning) check(a *app) error {
	switch {
	case f.since != "":
		return a.flags.formats("text", "json", "html", "markdown")
	case f.evidence != "":
		return a.flags.formats("text", "json", "html", "markdown", "csv")
	}
	return nil
}

// printPlan writes the plan in the format asked for.
func (u ui) printPlan(p report.Plan, networkFiles map[string]string, output string) error {
	switch output {
	case "iproute2":
		return report.Script(u.stdout, p, p.Back)
	case "networkd":
		return report.Networkd(u.stdout, p, networkFiles)
	case "nmcli":
		return report.NMCLI(u.stdout, p)
	}
	return u.print(p, output)
}

// proveHereCommand is what --prove runs in a fresh network namespace.
func (a *app) proveHereCommand() *cobra.Command {
	return &cobra.Command{Use: survey.ProveCommand, Hidden: true, Args: none,
		RunE: func(*cobra.Command, []string) error {
			return survey.ProveHere(a.ui.stdin, a.ui.stdout)
		}}
}
