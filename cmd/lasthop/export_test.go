package main

import "io"

// Run is the whole program, for the tests that stand outside the package.
func Run(stdout, stderr io.Writer, args ...string) int { return run(args, nil, stdout, stderr) }
