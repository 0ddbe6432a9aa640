package main

import (
	"strings"

	"lasthop/internal/completion"
	"lasthop/internal/survey"

	"github.com/spf13/cobra"
)

// complete passes to the shells what flags and arguments may become. A flag
// without values completes to nothing.
func complete(a *app, root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	type choose func(l completion.Line, word string) (words []string, files bool)
	shell := func(f choose) cobra.CompletionFunc {
		return func(c *cobra.Command, _ []string, word string) ([]string,
			cobra.ShellCompDirective) {
			open := func() (survey.Place, func(), error) {
				s, err := a.open()
				return s.Place, s.close, err
			}
			l := completion.Line{Command: c.Name(), Flags: a.flags.decide, Open: open}
			if o := c.Flag("output"); o != nil {
				l.Formats = o.Annotations[formatsOf]
			}
			l.Merge = c.Flags().Changed("merge")
			return offer(f(l, word))
		}
	}
	for _, c := range append(root.Commands(), root) {
		for _, flag := range completion.Flags {
			if c.LocalFlags().Lookup(flag) == nil {
				continue
			}
			// fails only for a flag that does not exist
			_ = c.RegisterFlagCompletionFunc(flag, shell(
				func(l completion.Line, word string) ([]string, bool) {
					return l.Words(flag, word)
				}))
		}
		c.ValidArgsFunction = shell(func(l completion.Line, _ string) ([]string, bool) {
			return l.Arguments()
		})
	}
}

// offer tells the shell what to do with the words.
func offer(words []string, files bool) ([]string, cobra.ShellCompDirective) {
	switch {
	case files:
		return words, cobra.ShellCompDirectiveDefault
	case len(words) > 0 && strings.HasSuffix(words[0], "="):
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
