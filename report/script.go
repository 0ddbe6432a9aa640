package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// scriptHead is the part of the script that is the same for all hosts. It
// recognises messages of `ip` by strerror(3).
const scriptHead = `set -eu
export LC_ALL=C

# add makes a rule or says nothing where it is there already.
add() {
	if ! out=$("$@" 2>&1); then
		case $out in
		*'File exists'*) ;;
		*) printf '%s\n' "$*: $out" >&2; return 1 ;;
		esac
	fi
}

# gone takes something away or says nothing where it is gone already.
gone() {
	if ! out=$("$@" 2>&1); then
		case $out in
		*'No such file or directory'* | *'No such process'* | *'Cannot find device'* | *'FIB table does not exist'*) ;;
		*) printf '%s\n' "$*: $out" >&2; return 1 ;;
		esac
	fi
}
`

const scriptTail = `
case ${1:-} in
apply) apply ;;
undo) undo ;;
*) echo "usage: sh $0 apply|undo" >&2; exit 1 ;;
esac
`

// Script writes the changes of a plan as a POSIX shell script with two
// functions: `apply` makes them, `undo` undoes them. Both can be repeated: they
// skip what is there already or gone already, and replace routes. Every word is
// quoted, for a link may have any name without white space and slash. A metric
// that `ip` has no word for is an error, and so is the mode last-hop.
func Script(w io.Writer, p Plan, undo routing.Diff) error {
	var b output
	for _, op := range slices.Concat(p.Diff.Ops(), undo.Ops()) {
		if r := op.Route; r != nil && !op.Delete && strings.Contains(r.Opaque, "rtax ") {
			return fmt.Errorf("write for iproute2: it cannot express a metric of "+
				"the route to %s: %s", r.Dst, r.Opaque)
		}
		if op.Wanted != nil || op.Filter != nil {
			return noPrograms("iproute2")
		}
	}
	b.printf(`#!/bin/sh
# Return routes for NGINX on %s, as lasthop %s planned them at %s.
# Plan: %s
# Usage: sh lasthop.sh apply|undo, as root. They hold for this host as it was: plan again after any change of it.
`, Escape(p.Host), Escape(p.Lasthop), utc(p.Time), p.Digest)
	if p.Diff.Empty() {
		b.printf("# There is nothing to do: the kernel has all of it. For a script " +
			"with the whole plan: lasthop clear, then plan again.\n")
	}
	if p.Proof != nil {
		b.printf("# %s\n", Escape(p.Proof.line()))
	}
	b.WriteString(scriptHead)
	b.function("apply", p.Diff)
	b.function("undo", undo)
	b.WriteString(scriptTail)
	return b.writeTo(w)
}

// noPrograms is the error of a format that cannot include lasthop's programs,
// which the mode last-hop needs.
func noPrograms(format string) error {
	return hint.New(fmt.Errorf("write for %s: it cannot express the mode last-hop, which "+
		"needs lasthop's own programs", format),
		"use lasthop apply or lasthop run, or plan with --return IF=strict")
}

func (o *output) function(name string, d routing.Diff) {
	o.printf("\n%s() {\n\t:\n", name)
	for _, op := range d.Ops() {
		o.printf("\t%s\n", scriptLine(op))
	}
	o.WriteString("}\n")
}

// scriptLine is one write. Only adding a rule is not repeatable as such; only
// deleting fails if the object is gone.
func scriptLine(op routing.Op) string {
	switch {
	case op.Delete:
		return "gone " + op.Command()
	case op.Rule != nil, op.Append:
		return "add " + op.Command()
	}
	return op.Command()
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
