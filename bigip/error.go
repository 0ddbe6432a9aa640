package bigip

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error is a reason why an input cannot be read.
type Error struct {
	File string
	Line int // 0 where the file as such is meant
	What string
	Fix  string // what the user can do; may be ""
	Err  error  // may be nil
}

func (e *Error) Error() string {
	s := origin(e.File, e.Line) + ": " + e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// refuse says why an input is not taken, and what the user can do.
func refuse(file, what, fix string) *Error { return &Error{File: file, What: what, Fix: fix} }

func (e *Error) Unwrap() error { return e.Err }

// Hint says what the user can do about it.
func (e *Error) Hint() string { return e.Fix }

func origin(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// maxLabel is more than F5 allows for a name, and short enough for a terminal.
const maxLabel = 300

// label makes the words of a header fit for a message: escaped, and cut where
// they are too long.
func label(words ...string) string {
	s := strings.ToValidUTF8(strings.Join(words, " "), "?")
	cut := ""
	if len(s) > maxLabel {
		n := maxLabel
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s, cut = s[:n], "…"
	}
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + cut
}
