package main

import (
	"lasthop/internal/daemon"
	"lasthop/internal/survey"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	flows := false
	c := &cobra.Command{
		Use:  "status",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.status(flows) },
	}
	c.Flags().BoolVar(&flows, "flows", false,
		"count the connections of each last hop; needs root")
	return a.flags.take(c, "netns", "text", "json")
}

func (a *app) status(flows bool) error {
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	s, err := scene.status()
	if err == nil && flows && s.LastHop != nil {
		err = survey.AddFlows(scene.kernel, scene.lastHop, s.LastHop)
	}
	if err != nil {
		return startIt(err)
	}
	return ended(a.ui.print(s, a.flags.output), s.InSync && !s.Asks())
}

// daemon is the way to the daemon of the scene's namespace, whether one runs or
// not.
func (s scene) daemon() daemon.Client {
	return daemon.Client{Socket: daemon.SocketPath(s.runDir, s.kernel.Inode())}
}

// status asks the daemon.
func (s scene) status() (report.Status, error) { return s.daemon().Status() }
