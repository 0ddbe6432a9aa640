package main

import (
	"lasthop/internal/daemon"
	"lasthop/internal/writer"

	"github.com/spf13/cobra"
)

func reloadCommand(a *app) *cobra.Command {
	return a.flags.take(&cobra.Command{
		Use:  "reload",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return reload(a) },
	}, "netns", "text")
}

func reload(a *app) error {
	a.ui.journal = false // the daemon tells its journal why
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	return daemon.Absent(scene.daemon().Reload(writer.Sudoer()), a.flags.netns == "")
}
