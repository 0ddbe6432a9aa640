package main

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"lasthop/routing"

	"github.com/spf13/cobra"
)

// values returns the words that a shell may complete to.
type values func() []string

func oneOf(words ...string) values { return func() []string { return words } }

// formatsOf are the formats of -o by command; the others have text and json.
var formatsOf = map[string]values{
	"plan":    oneOf("text", "json", "html", "markdown", "csv", "iproute2", "networkd"),
	"migrate": oneOf("text", "json", "csv", "markdown", "html"),
	"capture": oneOf("json"),
	"run":     oneOf("text"),
}

// completer knows the values of this host, or of that of --netns or --host.
type completer struct{ *app }

// complete gives the shells' completions their values. What has none completes
// to nothing.
func (a completer) complete(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	modes := oneOf(string(routing.Strict), string(routing.MainFirst),
		string(routing.LastHop), string(routing.NoReturn))
	table := map[string]cobra.CompletionFunc{
		"gateway":     pairs(oneOf("none", "static"), a.links),
		"return":      pairs(modes, a.links, a.addresses),
		"address":     pairs(a.links, a.addresses),
		"fail-closed": words(a.links, oneOf("*")),
		"netns":       words(namespaces),
		"autolasthop": words(oneOf("enable", "disable")),
		"local":       words(a.sockets),
		"nginx-conf":  files, "config": files, "host": files, "evidence": files,
	}
	for _, c := range append(root.Commands(), root) {
		for flag, f := range table {
			if c.LocalFlags().Lookup(flag) != nil {
				_ = c.RegisterFlagCompletionFunc(flag, f) // fails for other flags
			}
		}
		switch c.Name() {
		case "explain":
			c.ValidArgsFunction = words(a.addresses)
		case "migrate":
			c.ValidArgsFunction = files
		}
	}
	_ = root.RegisterFlagCompletionFunc("output", func(c *cobra.Command, args []string,
		word string) ([]string, cobra.ShellCompDirective) {
		formats := formatsOf[c.Name()]
		if formats == nil {
			formats = oneOf("text", "json")
		}
		return words(formats)(c, args, word)
	})
}

// files completes as the shell does by itself.
func files(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// words completes one word. One with a slash is a path.
func words(lists ...values) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) (all []string,
		_ cobra.ShellCompDirective) {
		if strings.Contains(word, "/") {
			return files(c, args, word)
		}
		for _, list := range lists {
			all = append(all, list()...)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// pairs completes KEY=VALUE, the value once the key is there.
func pairs(value values, keys ...values) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]string,
		cobra.ShellCompDirective) {
		key, _, isKnown := strings.Cut(word, "=")
		if isKnown {
			return extend(key+"=", value(), ""), cobra.ShellCompDirectiveNoFileComp
		}
		all, _ := words(keys...)(c, args, "")
		return extend("", all, "="),
			cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

func extend(front string, list []string, back string) (out []string) {
	for _, s := range list {
		out = append(out, front+s+back)
	}
	return out
}

// links are the names of the host's interfaces.
func (a completer) links() (names []string) {
	scene, err := a.open()
	if err != nil {
		return nil
	}
	defer scene.close()
	h, err := scene.Read()
	if err != nil {
		return nil
	}
	for _, l := range h.Links {
		names = append(names, l.Name)
	}
	slices.Sort(names) // the kernel lists them by number
	return names
}

// addresses are those that NGINX listens on, each once.
func (a completer) addresses() []string {
	return a.listeners(func(l routing.Outcome) string { return l.Addr.String() })
}

// sockets are the listeners as ADDR:PORT.
func (a completer) sockets() []string {
	return a.listeners(func(l routing.Outcome) string {
		return netip.AddrPortFrom(l.Addr, l.Ports.First).String()
	})
}

// listeners names each listener. One that nobody can read completes to nothing.
func (a completer) listeners(name func(routing.Outcome) string) (names []string) {
	scene, s, err := look(a.app)
	if err != nil {
		return nil
	}
	defer scene.close()
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
