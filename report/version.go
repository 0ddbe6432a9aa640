package report

import (
	"runtime"
	"runtime/debug"
)

// version is that of a package, "v1.0.0"; see deploy/packages/build.sh.
var version string

// BuildVersion returns what was built, from what Go's linker put into the
// program.
func BuildVersion() Version {
	v := Version{Lasthop: "devel", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	switch {
	case version != "":
		v.Lasthop = version
	case ok && info.Main.Version != "" && info.Main.Version != "(devel)":
		v.Lasthop = info.Main.Version
	}
	if !ok {
		return v
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
