// Package help is what lasthop says of itself: for each command a text file,
// commands/NAME.txt, from which `--help` and the manual page are made.
package help

import (
	"embed"
	"strings"
)

//go:embed commands/*.txt
var commands embed.FS

// Of returns the help of a command: its first paragraph, a few words on a
// line, and all that follows, in paragraphs with lines of at most 80 columns.
// Both are "" for a command without a file.
func Of(command string) (short, long string) {
	text, _ := commands.ReadFile("commands/" + command + ".txt")
	short, long, _ = strings.Cut(string(text), "\n\n")
	return strings.TrimSpace(short), strings.TrimSpace(long)
}
