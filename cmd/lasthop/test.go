package main

import (
	"errors"
	"fmt"

	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func testCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "test",
		Short: "read settings and NGINX's configuration, and report what cannot be read",
		Long: `test reads lasthop.yaml, the flags and NGINX's configuration, and says for each file
whether lasthop can read it. It changes nothing. It does not look at the kernel: whether an
interface or an address exists is for plan and check. Nor does it replace nginx -t: of
NGINX's directives it reads those that say where NGINX listens.

It exits with 1, and prints file:line and what to do, if something cannot be read.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return test(a) },
	}
}

func test(a *app) error {
	if err := a.flags.formats("text"); err != nil {
		return err
	}
	if a.flags.host != "" {
		return errors.New("test reads this machine's files, not a captured host")
	}
	s, err := settings.Load(a.flags.decide)
	if err != nil {
		return err
	}
	if s.File != "" {
		fmt.Fprintf(a.ui.stdout, "lasthop: settings %s are fine\n", report.Line(s.File))
	}
	warn := func(message string) { a.ui.warn("%s", message) }
	configs, err := survey.Configurations(s, a.flags.netns, warn)
	for _, c := range configs {
		fmt.Fprintf(a.ui.stdout, "lasthop: configuration %s is read, listeners: %d\n",
			report.Line(c.Root+c.Absolute()), len(c.Listens))
		for _, w := range c.Warnings {
			a.ui.warn("%s: %s", w.Origin, w.Message)
			if w.Hint != "" {
				a.ui.hint(w.Hint)
			}
		}
	}
	return err
}
