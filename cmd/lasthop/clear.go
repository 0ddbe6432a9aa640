package main

import (
	"errors"

	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing"

	"github.com/spf13/cobra"
)

func (a *app) clearCommand() *cobra.Command {
	dryRun := false
	c := &cobra.Command{
		Use:   "clear",
		Short: "remove everything that is ours, and nothing else",
		Long: `clear removes the routes and rules that lasthop made and takes interfaces out of its
link group. Replies leave as they would without lasthop from then on. What others
made is not touched, even in the same tables or priorities.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.clear(dryRun) },
	}
	c.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "print what would be removed")
	return c
}

func (a *app) clear(dryRun bool) error {
	if err := errors.Join(a.flags.formats("text", "json"), a.flags.live("clear")); err != nil {
		return err
	}
	k, err := a.open()
	if err != nil {
		return err
	}
	defer k.Close()
	var w *writer.Writer
	if !dryRun {
		w, err = a.writer(k, nil)
		if errors.Is(err, writer.ErrLocked) && a.daemonRuns(k) {
			return a.refuseBeside("clear")
		}
		if err != nil {
			return err
		}
		defer a.close(w)
	}
	s, err := a.flags.fileSettings()
	if err != nil {
		return err
	}
	v := &view{policy: s.policy}
	if err := a.readHost(k, v); err != nil {
		return err
	}
	v.owned = routing.Owned(v.host, v.policy.Numbers)
	v.diff = routing.Compare(v.owned, routing.State{})
	c := report.Clear{Head: v.head(), Diff: v.diff, DryRun: dryRun}
	if dryRun {
		return a.ui.print(c, a.flags.output)
	}
	c.Done, err = w.Write(v.change("clear", false))
	if err != nil && len(c.Done) == 0 {
		return needsRoot(c.Done, err)
	}
	return errors.Join(a.ui.print(c, a.flags.output), err, w.NameTables(nil))
}
