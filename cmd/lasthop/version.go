package main

import (
	"lasthop/report"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return a.flags.take(&cobra.Command{Use: "version", Args: none,
		RunE: func(*cobra.Command, []string) error {
			return a.ui.print(report.BuildVersion(), a.flags.output)
		}}, "", "text", "json")
}
