package main

import (
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	exitCode := false
	c := &cobra.Command{
		Use:   "plan",
		Short: "say what would be done, and what becomes of every listener's replies",
		Long: `plan reads NGINX's configuration and this host, and prints what apply would do:
each listener with the way of its replies before and after, the paths, the
exact changes, and what you should know. It changes nothing and needs no root.

With -o iproute2 it prints a shell script that makes the changes, and undoes them.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.plan(exitCode) },
	}
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 2 if there is something to do")
	return c
}

func (a *app) plan(exitCode bool) error {
	if err := a.flags.formats("text", "json", "iproute2"); err != nil {
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
	if k != nil {
		v.addLive(k)
	}
	p := report.Plan{Head: v.head(), Plan: v.plan, Diff: v.diff, Digest: v.plan.Digest(v.diff)}
	if !v.offline && !v.diff.Empty() {
		p.Next = a.applyLine(p.Digest)
	}
	if a.flags.output == "iproute2" {
		err = report.Script(a.ui.stdout, p, routing.Compare(v.plan.State, v.owned))
	} else {
		err = a.ui.print(p, a.flags.output)
	}
	if err == nil && exitCode && !v.diff.Empty() {
		return errNotWanted
	}
	return err
}

func closeKernel(k *host.Kernel) {
	if k != nil {
		k.Close()
	}
}
