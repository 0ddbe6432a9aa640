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
	return a.flags.take(&cobra.Command{
		Use:  "run",
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT,
				syscall.SIGTERM)
			defer stop()
			return a.run(ctx)
		},
	}, deciding+"netns", "text")
}

func (a *app) run(ctx context.Context) error {
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
