package main

import (
	"errors"

	"lasthop/internal/daemon"
	"lasthop/internal/hint"
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
	return startIt(scene.daemon().Reload(writer.Sudoer()))
}

// startIt adds to the error that no daemon runs what to do about it.
func startIt(err error) error {
	if errors.Is(err, daemon.ErrNone) && hint.Of(err) == "" {
		return hint.New(err,
			"start it: systemctl start lasthop. Without it, see: lasthop check")
	}
	return err
}
