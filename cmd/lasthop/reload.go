package main

import (
	"errors"

	"lasthop/internal/daemon"
	"lasthop/internal/hint"
	"lasthop/internal/writer"

	"github.com/spf13/cobra"
)

func reloadCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "make the daemon read its settings again, and wait until it is in sync",
		Long: `reload asks the lasthop that runs in this network namespace to read lasthop.yaml and
NGINX's configuration again, waits until the daemon has synced, and prints nothing.

It exits with 1 and the reason, with file:line where there is one, if the daemon
refuses the settings, if it cannot read a configuration that they name, or if the sync
fails. Settings that are refused change nothing. Numbers and metrics change with a
restart alone; until then reload exits with 1 and says so. It needs root, or the user
of the daemon.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return reload(a) },
	}
}

func reload(a *app) error {
	if err := a.flags.live("reload", "text"); err != nil {
		return err
	}
	if a.flags.decide.Any() {
		return hint.New(errors.New("reload takes no settings"),
			"the daemon reads its own again: write them into its lasthop.yaml")
	}
	a.ui.journal = false // the daemon reports the reason in its journal
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	return startIt(scene.daemon().Reload(writer.Sudoer()))
}

// startIt adds the remedy to the error that no daemon runs.
func startIt(err error) error {
	if errors.Is(err, daemon.ErrNone) && hint.Of(err) == "" {
		return hint.New(err,
			"start it: systemctl start lasthop. Without it, see: lasthop check")
	}
	return err
}
