// Package completion returns what a shell may complete the values of lasthop's
// flags to: interfaces, addresses and listeners of the host that the command
// line is about, modes, formats, namespaces. It returns nothing for what it
// cannot read. cmd/lasthop passes the result to the shells.
package completion

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"lasthop/internal/help"
	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/routing"
)

// Flags are those whose values can be completed.
var Flags = []string{"gateway", "return", "address", "output", "fail-closed", "netns",
	"autolasthop", "local", "nginx-conf", "config", "host", "evidence",
	"diff"}

// Line is a command line that is being written.
type Line struct {
	Command string
	Formats []string // of its -o
	Merge   bool     // --merge is given
	Flags   settings.Flags
	// Open opens the host of the command line: of --netns or --host, or
	// this one. done closes it if there is no error.
	Open func() (p survey.Place, done func(), err error)
}

// Arguments returns what an argument of the command may become. If files is
// true, the shell adds its files.
func (l Line) Arguments() (words []string, files bool) {
	switch l.Command {
	case "explain":
		return l.addresses(), false
	case "migrate":
		return nil, true
	case "plan":
		return nil, l.Merge
	case "help":
		return help.Words(), false
	}
	return nil, false
}

// Words returns what the word of one of Flags may become, as Arguments does. A
// word that ends in "=" still wants a value.
func (l Line) Words(flag, word string) (words []string, files bool) {
	key, _, isKnown := strings.Cut(word, "=")
	switch keys, values := l.pair(flag); {
	case keys == nil:
		return l.plain(flag, word)
	case isKnown:
		return extend(key+"=", values(), ""), false
	default:
		return extend("", keys(), "="), false
	}
}

// pair returns both sides of the = of a flag that has one.
func (l Line) pair(flag string) (keys, values func() []string) {
	switch flag {
	case "gateway":
		return l.links, func() []string { return []string{"none", "static"} }
	case "return":
		return func() []string { return append(l.links(), l.addresses()...) },
			func() []string {
				return []string{string(routing.Strict), string(routing.MainFirst),
					string(routing.LastHop), string(routing.NoReturn)}
			}
	case "address":
		return l.addresses, l.links
	}
	return nil, nil
}

// plain completes the word of any other of Flags.
func (l Line) plain(flag, word string) (words []string, files bool) {
	switch flag {
	case "output":
		return l.Formats, false
	case "fail-closed":
		return append(l.links(), "*"), false
	case "netns":
		return namespaces(), strings.Contains(word, "/")
	case "autolasthop":
		return []string{"enable", "disable"}, false
	case "local":
		return l.listeners(func(o routing.Outcome) string {
			return netip.AddrPortFrom(o.Addr, o.Ports.First).String()
		}), false
	}
	return nil, true // nginx-conf, config, host, evidence, diff
}

func extend(front string, list []string, back string) (out []string) {
	for _, s := range list {
		out = append(out, front+s+back)
	}
	return out
}

// links are the names of the host's interfaces.
func (l Line) links() (names []string) {
	p, done, err := l.Open()
	if err != nil {
		return nil
	}
	defer done()
	h, err := p.Read()
	if err != nil {
		return nil
	}
	for _, link := range h.Links {
		names = append(names, link.Name)
	}
	slices.Sort(names) // the kernel lists them by number
	return names
}

// addresses are those that NGINX listens on, each once.
func (l Line) addresses() []string {
	return l.listeners(func(o routing.Outcome) string { return o.Addr.String() })
}

// listeners names each listener.
func (l Line) listeners(name func(routing.Outcome) string) (names []string) {
	p, done, err := l.Open()
	if err != nil {
		return nil
	}
	defer done()
	s, err := p.Look(l.Flags)
	if err != nil {
		return nil
	}
	for _, o := range s.Decision.Plan.Outcomes {
		names = append(names, name(o))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// namespaces are the names that `ip netns` lists.
func namespaces() (names []string) {
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
