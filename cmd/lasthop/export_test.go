package main

import (
	"io"

	"github.com/spf13/cobra"
)

// Run is the whole program, for the tests that stand outside the package.
func Run(stdout, stderr io.Writer, args ...string) int { return run(args, nil, stdout, stderr) }

// Command is the tree of commands and flags.
func Command() *cobra.Command { return (&app{}).command() }
