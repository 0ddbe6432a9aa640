package bigip

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"lasthop/internal/hint"
)

// Error is a reason why an input cannot be read.
type Error = hint.FileError

// refuse returns why an input is refused, and what the user can do.
func refuse(file, what, fix string) *Error { return &Error{File: file, What: what, Fix: fix} }

// maxLabel is more than F5 allows for a name, and short enough for a terminal.
const maxLabel = 300

// label makes the words of a header fit for a message: escaped, and shortened
// if they are too long.
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
