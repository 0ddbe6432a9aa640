package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/report"
)

// The result goes to standard output and everything else to standard error,
// each line beginning with "lasthop: error:", "lasthop: warning:" or "lasthop:
// hint:". Only terminals get colour, and only without NO_COLOR.

// ui is a command's input and output.
type ui struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	journal        bool // reads stderr: each line begins with its priority
}

// Exit codes.
const (
	exitDone      = 0
	exitFailed    = 1
	exitNotWanted = 2 // success, but the result needs attention
	// run never starts with these settings: EX_CONFIG of sysexits.h
	exitSettings = 78
)

// errNotWanted ends a command with exitNotWanted. It is not printed.
var errNotWanted = errors.New("not as wanted")

// badSettings is an error that ends a command with exitSettings.
type badSettings struct{ error }

// ended is how a command ends that has printed its result.
func ended(printed error, wanted bool) error {
	if printed == nil && !wanted {
		return errNotWanted
	}
	return printed
}

// exit prints an error, each of several on a line of its own, with the hint
// nearest to it, and returns the exit code.
func (u ui) exit(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNotWanted):
		return exitNotWanted
	}
	if bad, ok := err.(badSettings); ok {
		u.error(bad.error)
		return exitSettings
	}
	u.error(err)
	return exitFailed
}

// error prints an error. It prints joined errors line by line, and one hint for
// all of them at the end.
func (u ui) error(err error) {
	remedy, below := hint.Cut(err)
	if many, ok := below.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			u.error(e)
		}
		if remedy != "" {
			u.hint(remedy)
		}
		return
	}
	u.say(slog.LevelError, "error", err.Error())
	if remedy := hint.Of(err); remedy != "" { // only the outermost
		u.hint(remedy)
	}
}

func (u ui) warn(format string, args ...any) {
	u.say(slog.LevelWarn, "warning", fmt.Sprintf(format, args...))
}

func (u ui) hint(text string) { u.say(slog.LevelInfo, "hint", text) }

func (u ui) say(l slog.Level, kind, text string) {
	prefix := ""
	if u.journal {
		prefix = journal.Prefix(l)
	}
	fmt.Fprintf(u.stderr, "%slasthop: %s: %s\n", prefix, kind, report.Line(text))
}

// style returns how to write text on standard output.
func (u ui) style() report.Style {
	f, ok := u.stdout.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return report.Style{}
	}
	info, err := f.Stat()
	return report.Style{Color: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// print writes a result in the format asked for.
func (u ui) print(r report.Result, output string) error {
	return report.Write(u.stdout, r, output, u.style())
}
