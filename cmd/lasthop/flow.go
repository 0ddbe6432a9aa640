package main

import (
	"fmt"

	"lasthop/internal/hint"
	"lasthop/internal/survey"

	"github.com/spf13/cobra"
)

func flowCommand(a *app) *cobra.Command {
	local := ""
	c := &cobra.Command{
		Use:   "flow CLIENT[:PORT]",
		Short: "mode last-hop: which router answers each connection of a client",
		Long: `flow looks up what the mode last-hop knows of a client: each of its connections,
flows of UDP and echoes, the router (interface, MAC, address) that its requests came
by, and where replies would go now: to that router; to another one of the link in
place of a dead one; or by the route, which the kernel is asked for.

It reads the maps that are pinned below /sys/fs/bpf/lasthop, changes nothing, and
needs root. A million connections take 0.3 s.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return hint.New(fmt.Errorf("%s takes one client, not %d",
				c.CommandPath(), len(args)),
				"write it as: lasthop flow 198.51.100.2")
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return flowsOf(a, args[0], local)
		},
	}
	c.Flags().StringVar(&local, "local", "",
		"only connections to this listener, `ADDR:PORT`; with it, also the route of\n"+
			"what is not known")
	return c
}

func flowsOf(a *app, client, local string) error {
	if err := a.flags.live("flow", "text", "json"); err != nil {
		return err
	}
	t, err := survey.ParseFlow(client, local)
	if err != nil {
		return err
	}
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	f, err := survey.Flows(scene.kernel, scene.lastHop, t)
	if err != nil {
		return err
	}
	return a.ui.print(f, a.flags.output)
}
