package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/report"

	"golang.org/x/sys/unix"
)

// The result goes to standard output and everything else to standard error,
// each line beginning with "lasthop: error:", "lasthop: warning:" or "lasthop:
// hint:". Only terminals get colour, and only without NO_COLOR.

// ui is a command's input and output.
type ui struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	journal        bool // reads stderr: each line begins with its priority
	hinted         map[string]bool
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

// hint tells each remedy once.
func (u ui) hint(text string) {
	if !u.hinted[text] {
		u.hinted[text] = true
		u.say(slog.LevelInfo, "hint", text)
	}
}

func (u ui) say(l slog.Level, kind, text string) {
	prefix := ""
	if u.journal {
		prefix = journal.Prefix(l)
	}
	fmt.Fprintf(u.stderr, "%slasthop: %s: %s\n", prefix, kind, report.Line(text))
}

// width returns the columns of the terminal; 80 if standard output is none.
func (u ui) width() int { return cmp.Or(u.style().Width, 80) }

// style says how text on standard output looks: as wide as the terminal. What
// is no terminal gets 80 columns and no color, so that a pipe, a file or a log
// has the same text on each host.
func (u ui) style() report.Style {
	f, ok := u.stdout.(*os.File)
	if !ok {
		return report.Style{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return report.Style{}
	}
	return report.Style{Width: int(size.Col),
		Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// print writes a result in the format asked for.
func (u ui) print(r report.Result, output string) error {
	return report.Write(u.stdout, r, output, u.style())
}
