package main

import (
	"runtime"
	"runtime/debug"

	"lasthop/report"

	"github.com/spf13/cobra"
)

// buildVersion says what was built, from what Go's linker put into the program.
func buildVersion() report.Version {
	v := report.Version{Lasthop: "devel", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Lasthop = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: none,
		RunE: func(*cobra.Command, []string) error {
			if err := a.flags.formats("text", "json"); err != nil {
				return err
			}
			return a.ui.print(buildVersion(), a.flags.output)
		}}
}
