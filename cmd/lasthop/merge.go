package main

import "lasthop/internal/survey"

// merge prints one report on the plans of many hosts.
func merge(a *app, files []string) error {
	f, err := survey.Fleet(files)
	if err != nil {
		return err
	}
	return ended(a.ui.print(f, a.flags.output), f.Wanted())
}
