package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes an untrusted name safe for a terminal: control characters, marks
// that change the direction of writing, other invisible characters and broken
// UTF-8 become escapes as Go writes them: \n, \x1b, \u202e. A backslash is
// doubled, so that no name can pretend to be an escaped one.
func Escape(s string) string { return escape(s, true) }

// EscapeText does the same for a message that may hold escaped or quoted names:
// backslashes and newlines stay.
func EscapeText(s string) string { return escape(s, false) }

// oneLine does the same for a command, which keeps its backslashes and becomes
// one line.
func oneLine(s string) string { return strings.ReplaceAll(EscapeText(s), "\n", `\n`) }

func escape(s string, name bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
		return s // as nearly all are
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case name && r == '\\':
			b.WriteString(`\\`)
		case !name && r == '\n', safe(r):
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
	}
	return b.String()
}

// safe reports whether a terminal shows the character and does nothing else.
// Format characters (Cf) hold the bidi marks.
func safe(r rune) bool { return r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) }

func escaped(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\t':
		return `\t`
	case r == '\r':
		return `\r`
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// Line makes a message one line that is safe for a terminal.
func Line(message string) string { return strings.ReplaceAll(EscapeText(message), "\n", " ") }
