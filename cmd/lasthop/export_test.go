package main

import (
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Run is the whole program, for the tests that stand outside the package.
func Run(stdout, stderr io.Writer, args ...string) int { return run(args, nil, stdout, stderr) }

// Shared are the flags that several commands have.
func Shared() *pflag.FlagSet { return (&flags{}).shared() }

// Command is the tree of commands and flags.
func Command() *cobra.Command { return (&app{}).command() }
