// Command lasthop makes a host's replies leave the way their requests came in,
// for every address that NGINX listens on.
//
// Each command is a file of its own: its flags, one call into the packages
// below internal, and the exit code.
package main

import (
	"fmt"
	"io"
	"os"

	"lasthop/internal/help"
	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{ui: ui{stdin: stdin, stdout: stdout, stderr: stderr,
		journal: stderr == os.Stderr && journal.Stream(), hinted: map[string]bool{}}}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	return a.ui.exit(err) // a command may have changed the ui
}

// app is what the commands share: the user interface and the flags.
type app struct {
	ui    ui
	flags flags
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "lasthop",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       report.BuildVersion().Lasthop,
		Args:          none,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("lasthop {{.Version}}\n")
	root.SetFlagErrorFunc(refuse)
	root.AddCommand(a.planCommand(), a.applyCommand(), a.runCommand(), reloadCommand(a),
		a.statusCommand(), testCommand(a), a.checkCommand(), a.observeCommand(),
		a.explainCommand(), flowCommand(a), a.migrateCommand(), a.clearCommand(),
		a.captureCommand(), a.versionCommand(), a.proveHereCommand())
	root.SetHelpCommand(helpCommand(a))
	root.InitDefaultHelpCmd()
	for _, c := range append(root.Commands(), root) {
		c.Short, c.Long = help.Of(c.Name())
	}
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { printHelp(a, c) })
	complete(a, root)
	return root
}

// none refuses arguments; for the root command these are unknown commands.
func none(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case c.HasParent():
		return hint.New(fmt.Errorf("%s takes no argument, not %q",
			c.CommandPath(), args[0]),
			"see: "+c.CommandPath()+" --help")
	}
	return hint.New(fmt.Errorf("unknown command %q", args[0]), help.Suggest("", args[0]))
}
