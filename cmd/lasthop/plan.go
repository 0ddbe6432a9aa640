package main

import (
	"errors"
	"slices"

	"lasthop/internal/survey"
	"lasthop/report"
	"lasthop/routing"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	exitCode, prove, merging, evidence := false, false, false, ""
	c := &cobra.Command{
		Use:   "plan",
		Short: "say what would be done, and what becomes of every listener's replies",
		Long: `plan reads NGINX's configuration and this host, and prints what apply would do:
each listener with the way of its replies before and after, the paths, the
exact changes, and what you should know. It changes nothing and needs no root.

Formats (-o): text; json, the same for machines; html, one page with a drawing
and a table to filter, to send and to print; markdown, for a ticket; csv, a line
for each listener; iproute2, a shell script that makes the changes and undoes
them; networkd, drop-ins for systemd-networkd, which say how to use them.

With --prove the kernel confirms it: the host is rebuilt in a throw-away network
namespace, the plan is carried out there, and the kernel is asked for the way of
every listener's replies to every group of clients, before and after. It exits
with 2 if the kernel differs, and with 1 if it cannot be asked.

It exits with 2 where the mode last-hop is asked for and cannot be had.`,
		Args: func(c *cobra.Command, args []string) error {
			if merging {
				return a.flags.formats("text", "json", "html")
			}
			return none(c, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if merging {
				return merge(a, args)
			}
			return a.plan(exitCode, prove, evidence)
		},
	}
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 2 if there is something to do")
	c.Flags().BoolVar(&prove, "prove", false,
		"let the kernel prove the plan on a rebuilt host; nothing of this one is\n"+
			"touched, and it needs no root where user namespaces are allowed")
	c.Flags().StringVar(&evidence, "evidence", "",
		"add what packets showed, from a `FILE` that observe -o json wrote: in text,\n"+
			"json, html, markdown and csv")
	c.Flags().BoolVar(&merging, "merge", false, "report on many hosts: the "+
		"arguments are files that\nplan -o json wrote; in text, json and html")
	return c
}

func (a *app) plan(exitCode, proving bool, evidence string) error {
	if err := a.flags.formats("text", "json", "html", "markdown", "csv", "iproute2",
		"networkd"); err != nil {
		return err
	}
	scene, s, err := lookAtListeners(a)
	if err != nil {
		return err
	}
	defer scene.close()
	s.AddBeside()
	seen, err := s.Evidence(evidence)
	if err != nil {
		return err
	}
	p := s.Plan()
	var unloaded []routing.Finding
	if scene.kernel != nil {
		l, _ := scene.takes(s) // apply says why it cannot be told
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
	var unproved error
	if proving {
		if p.Proof, unproved = s.Prove(); p.Proof.Differs() {
			p.Next = ""
		}
	}
	err = errors.Join(a.ui.printPlan(p, s.Beside.NetworkFiles, a.flags.output), unproved)
	return ended(err, !p.Proof.Differs() && !(exitCode && !p.Diff.Empty()) &&
		!p.Plan.FellBack())
}

// printPlan writes the plan in the format asked for.
func (u ui) printPlan(p report.Plan, networkFiles map[string]string, output string) error {
	switch output {
	case "iproute2":
		return report.Script(u.stdout, p, p.Back)
	case "networkd":
		return report.Networkd(u.stdout, p, networkFiles)
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
