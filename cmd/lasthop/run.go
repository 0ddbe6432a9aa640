package main

import (
	"context"
	"os/signal"
	"syscall"

	"lasthop/internal/daemon"
	"lasthop/internal/journal"
	"lasthop/internal/settings"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "keep it so: follow every reload of NGINX and every change of the host",
		Long: `run does what apply does, and then keeps it so: it installs each configuration that
NGINX loads, follows links, addresses and gateways, and puts back what others delete.

It changes nothing while a configuration cannot be read, keeps the way of a removed
listener while old workers still serve its connections, and leaves all routes in place
when it ends: only ` + "`lasthop clear`" + ` removes them. ` + "`lasthop reload`" + `, or SIGHUP, has it
read its settings again.

It exits with 78, and changes nothing, if it cannot read its settings when it starts:
see ` + "`lasthop test`" + `.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT,
				syscall.SIGTERM)
			defer stop()
			return a.run(ctx)
		},
	}
}

func (a *app) run(ctx context.Context) error {
	if err := a.flags.live("run", "text"); err != nil {
		return err
	}
	if _, err := settings.Load(a.flags.decide); err != nil {
		return badSettings{err}
	}
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	scene.lastHop.Stays = true
	return daemon.Run(ctx, daemon.Options{Kernel: scene.kernel, NetNS: a.flags.netns,
		LastHop: scene.lastHop, RunDir: a.flags.runDir,
		Flags: a.flags.decide, Log: a.ui.stderr, Journal: journal.Here()})
}
