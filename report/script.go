package report

import (
	"fmt"
	"io"
	"strings"

	"lasthop/routing"
)

// Script writes the changes as a POSIX shell script of `ip` commands with two arguments to choose from: apply, and undo, which
// makes undo's changes. Rules are added where they are not there yet, and what is gone already when it is deleted does not
// stop the script, so that each can be run twice.
func Script(w io.Writer, doc Head, d, undo routing.Diff) error {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# What lasthop %s would do on this host. usage: sh FILE apply|undo
# It holds for the host as it was when this was made: make it anew after any change.
set -eu
add() { # family, then the rule: unless it is there
	family=$1; shift
	ip "-$family" rule add "$@" 2>/dev/null && return
	ip "-$family" rule add "$@" 2>&1 | grep -q 'File exists'
}
gone() { "$@" 2>/dev/null || :; }

`, comment(doc.Lasthop))
	body(&b, "apply_changes", d)
	body(&b, "undo_changes", undo)
	b.WriteString(`case ${1:-} in
apply) apply_changes ;;
undo) undo_changes ;;
*) echo "usage: sh $0 apply|undo" >&2; exit 1 ;;
esac
`)
	_, err := io.WriteString(w, b.String())
	return err
}

func comment(s string) string { return strings.ReplaceAll(Clean(s), "\n", " ") }

func body(b *strings.Builder, name string, d routing.Diff) {
	fmt.Fprintf(b, "%s() {\n\t:\n", name)
	for _, op := range d.Ops() {
		b.WriteString("\t" + line(op) + "\n")
	}
	b.WriteString("}\n\n")
}

func line(op routing.Op) string {
	words := quoted(strings.Fields(op.String()))
	switch {
	case op.Rule != nil && !op.Delete:
		return fmt.Sprintf("add %d %s", op.Rule.Family, quoted(strings.Fields(op.Rule.Args())))
	case op.Delete:
		return "gone " + words
	}
	return words
}

// quoted makes words safe for a shell: names of links may hold anything but white space and slashes.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		plain := strings.IndexFunc(w, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:/-@", r))
		}) < 0
		if out[i] = w; !plain {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}
