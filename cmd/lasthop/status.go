package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"lasthop/internal/daemon"
	"lasthop/internal/survey"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	flows, watch := false, false
	c := &cobra.Command{
		Use:  "status",
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error { return a.status(c, flows, watch) },
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false,
		"show each change until Ctrl-C; with -o json a line for each")
	c.Flags().BoolVar(&flows, "flows", false,
		"count the connections of each last hop; needs root")
	return a.flags.take(c, "netns", "text", "json")
}

func (a *app) status(c *cobra.Command, flows, watch bool) error {
	if watch {
		err := unused(c, "status --watch", "flows", "count once: lasthop status --flows")
		if err != nil {
			return err
		}
	}
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	if watch {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt,
			syscall.SIGTERM)
		defer stop()
		return scene.daemon().Watch(ctx, a.ui.stdout, a.flags.output, a.ui.style())
	}
	s, err := scene.status()
	if err == nil && flows && s.LastHop != nil {
		err = survey.AddFlows(scene.kernel, scene.lastHop, s.LastHop)
	}
	if err != nil {
		return daemon.Absent(err, a.flags.netns == "")
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
