package main

import (
	"fmt"

	"lasthop/internal/help"
	"lasthop/internal/hint"

	"github.com/spf13/cobra"
)

// helpCommand replaces cobra's, which explains commands alone.
func helpCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND|CODE|findings|settings]",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return hint.New(fmt.Errorf("help explains one thing, not %d",
					len(args)), "write it as: lasthop help "+args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Root().Help()
			}
			for _, other := range c.Root().Commands() {
				if other.Name() == args[0] && !other.Hidden {
					return other.Help()
				}
			}
			return help.Topic(a.ui.stdout, args[0], a.ui.width())
		},
	}
}

// printHelp prints what --help and `lasthop help COMMAND` are asked for.
func printHelp(a *app, c *cobra.Command) {
	var err error
	if c.HasParent() {
		err = help.Command(a.ui.stdout, c.Name(), c.UseLine(), c.Long, c.Flags(),
			a.ui.width())
	} else {
		err = help.All(a.ui.stdout, a.ui.width())
	}
	if err != nil {
		a.ui.warn("%v", err)
	}
}
