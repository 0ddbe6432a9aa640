package main

import (
	"errors"

	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	exitCode, prove := false, false
	c := &cobra.Command{
		Use:   "plan",
		Short: "say what would be done, and what becomes of every listener's replies",
		Long: `plan reads NGINX's configuration and this host, and prints what apply would do:
each listener with the way of its replies before and after, the paths, the
exact changes, and what you should know. It changes nothing and needs no root.

With -o iproute2 it prints a shell script that makes the changes, and undoes them.

With --prove the kernel confirms it: the host is rebuilt in a throw-away network
namespace, the plan is carried out there, and the kernel is asked for the way of
every listener's replies to every group of clients, before and after. It exits
with 2 if the kernel differs, and with 1 if it cannot be asked.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.plan(exitCode, prove) },
	}
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 2 if there is something to do")
	c.Flags().BoolVar(&prove, "prove", false, "let the kernel prove the plan on a rebuilt host; nothing of this one is\ntouched, and it needs no root where user namespaces are allowed")
	return c
}

func (a *app) plan(exitCode, proving bool) error {
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
	var unproved error
	if proving {
		if p.Proof, unproved = v.prove(); p.Proof.Differs() {
			p.Next = ""
		}
	}
	if a.flags.output == "iproute2" {
		err = report.Script(a.ui.stdout, p, routing.Compare(v.plan.State, v.owned))
	} else {
		err = a.ui.print(p, a.flags.output)
	}
	switch {
	case err != nil || unproved != nil:
		return errors.Join(err, unproved)
	case p.Proof.Differs() || exitCode && !v.diff.Empty():
		return errNotWanted
	}
	return nil
}

func closeKernel(k *host.Kernel) {
	if k != nil {
		k.Close()
	}
}
