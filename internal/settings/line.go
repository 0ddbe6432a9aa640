package settings

import (
	"fmt"
	"slices"

	"lasthop/routing"
)

// Line builds command lines of lasthop that work at the same place, and with
// the same settings, as the present command.
type Line struct {
	Flags    Flags
	Captured map[string][]string // the flags that a captured host was read with
	NetNS    string              // --netns
	Host     string              // --host
	Sudo     bool                // the user is not root
	Served   bool                // the daemon there refuses apply with Flags
}

// Command returns a command with the flags that say where to work.
func (l Line) Command(command string) string {
	for _, netns := range append(slices.Clone(l.Captured["netns"]), l.NetNS) {
		if netns != "" {
			return "lasthop " + command + " --netns " + routing.ShellWord(netns)
		}
	}
	return "lasthop " + command
}

// Same returns a command with the flags that say where to work and those that
// decide.
func (l Line) Same(command string) string {
	line := l.Command(command)
	for _, f := range l.Flags.List() {
		values := f.Values
		if replaces := f.Name == "nginx-conf" || f.Name == "config"; !replaces ||
			len(values) == 0 {
			values = slices.Clone(l.Captured[f.Name])
			for _, v := range f.Values {
				if !slices.Contains(values, v) {
					values = append(values, v)
				}
			}
		}
		for _, v := range values {
			line += " --" + f.Name + " " + routing.ShellWord(v)
		}
	}
	return line
}

// Apply returns the command that carries out the plan; with a digest, only the
// plan that has it.
func (l Line) Apply(digest string) string {
	line := l.Root(l.Same("apply"))
	switch {
	case l.Served:
		return "write these flags into /etc/lasthop/lasthop.yaml, then run: " +
			l.Root(l.Command("reload"))
	case digest != "":
		line += " --expect " + routing.ShortDigest(digest)
	}
	return line
}

// Root returns a command that needs root, with sudo unless the user is root.
func (l Line) Root(command string) string {
	if l.Sudo {
		return "sudo " + command
	}
	return command
}

// Explain returns the command that shows why the replies of a question leave as
// they do.
func (l Line) Explain(q routing.Query) string {
	command := fmt.Sprintf("explain %s --from %s", q.Src, q.Dst)
	if l.Host != "" {
		return "lasthop " + command + " --host " + routing.ShellWord(l.Host)
	}
	return l.Same(command)
}

// Words returns the flags of the present command, by name: for a capture.
func (l Line) Words() map[string][]string {
	out := map[string][]string{}
	for _, f := range l.Flags.List() {
		if len(f.Values) > 0 {
			out[f.Name] = f.Values
		}
	}
	if l.NetNS != "" {
		out["netns"] = []string{l.NetNS}
	}
	return out
}
