package main

import (
	"lasthop/internal/survey"

	"github.com/spf13/cobra"
)

// merge prints one report on the plans of many hosts.
func merge(a *app, c *cobra.Command, files []string) error {
	err := unused(c, "plan --merge", deciding+"netns host exit-code prove evidence diff",
		"--merge reads the files alone: give flags to lasthop plan -o json, on each host")
	if err == nil {
		err = a.flags.formats("text", "json", "html")
	}
	if err != nil {
		return err
	}
	f, err := survey.Fleet(files)
	if err != nil {
		return err
	}
	return ended(a.ui.print(f, a.flags.output), f.Wanted())
}
