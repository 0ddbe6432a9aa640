package main

import (
	"fmt"

	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func testCommand(a *app) *cobra.Command {
	return a.flags.take(&cobra.Command{
		Use:  "test",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return test(a) },
	}, deciding+"netns", "text")
}

func test(a *app) error {
	a.flags.decide.Once = true
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
		fmt.Fprintf(a.ui.stdout, "lasthop: configuration %s is read, listen "+
			"directives: %d\n", report.Line(c.Root+c.Absolute()), len(c.Listens))
		for _, w := range c.Warnings {
			a.ui.warn("%s: %s", w.Origin, w.Message)
			if w.Hint != "" {
				a.ui.hint(w.Hint)
			}
		}
	}
	return err
}
