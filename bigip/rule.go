package bigip

import (
	"regexp"
	"slices"
	"strings"
)

// command finds iRule commands that set the way of packets, where Tcl takes a
// word for a command: at the start of a line, or after a brace, a bracket or a
// semicolon. LINK::lasthop only reads.
var command = regexp.MustCompile(`(?:^|[\[{;])\s*(lasthop|nexthop)(?:$|[\s;\]}])`)

// comment is a comment behind other commands.
var comment = regexp.MustCompile(`[;{]\s*#.*$`)

// addCommands adds the commands of one line of an iRule, each once, sorted.
func addCommands(have []string, line string) []string {
	if !strings.Contains(line, "hop") {
		return have
	}
	for _, m := range command.FindAllStringSubmatch(comment.ReplaceAllString(line, ""), -1) {
		if i, found := slices.BinarySearch(have, m[1]); !found {
			have = slices.Insert(have, i, strings.Clone(m[1]))
		}
	}
	return have
}
