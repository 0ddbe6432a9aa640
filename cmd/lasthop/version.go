package main

import (
	"lasthop/report"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Args: none,
		RunE: func(*cobra.Command, []string) error {
			if err := a.flags.formats("text", "json"); err != nil {
				return err
			}
			return a.ui.print(report.BuildVersion(), a.flags.output)
		}}
}
