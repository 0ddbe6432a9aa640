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
		Use: "flow CLIENT[:PORT]",
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
		"`ADDR:PORT` only connections to this listener; if none is known, the route "+
			"of a reply")
	return a.flags.take(c, "netns", "text", "json")
}

func flowsOf(a *app, client, local string) error {
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
