package main

import (
	"errors"

	"lasthop/internal/writer"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func (a *app) clearCommand() *cobra.Command {
	dryRun := false
	c := &cobra.Command{
		Use:  "clear",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.clear(dryRun) },
	}
	c.Flags().BoolVarP(&dryRun, "dry-run", "n", false,
		"print what would be removed, and remove nothing")
	return a.flags.take(c, "netns config", "text", "json")
}

func (a *app) clear(dryRun bool) error {
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	var w *writer.Writer
	if !dryRun {
		w, err = scene.writer()
		if errors.Is(err, writer.ErrLocked) && scene.daemon().Runs() {
			return refuseWithDaemon("clear")
		}
		if err != nil {
			return err
		}
		defer a.ui.closeWriter(w)
	}
	n, mistakes, err := a.flags.decide.Numbers()
	if err != nil {
		return err
	}
	if mistakes != "" {
		a.ui.warn("%s", mistakes)
	}
	s, err := scene.Owned(n)
	if err != nil {
		return err
	}
	change := writer.Plan(s.Decision, s.Inputs.Policy.Numbers, false)
	change.Command = "clear"
	c := report.Clear{Head: s.Head(), Diff: change.Diff, DryRun: dryRun}
	if dryRun {
		return a.ui.print(c, a.flags.output)
	}
	c.Done, err = w.Write(change)
	if err != nil && len(c.Done) == 0 {
		return needsRoot(c.Done, err)
	}
	if err == nil {
		err = scene.lastHop.Forget()
	}
	return errors.Join(a.ui.print(c, a.flags.output), err, w.NameTables(nil))
}
