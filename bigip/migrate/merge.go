package migrate

import (
	"fmt"
	"slices"
	"strings"

	"lasthop/routing"
)

// This file makes one row of VLANs with equal results: a virtual server on all
// of 30 VLANs has one row for the VLAN of its address and one for the 29 other
// VLANs.

// few is how many alike VLANs have a row each.
const few = 3

// merged returns the lines of a destination with equal lines joined. The lines
// of the VLAN that its address belongs to stay.
func merged(lines []*line, own string) (out []*line) {
	if len(lines) <= few {
		return lines
	}
	alike, same := map[string][]*line{}, make([]string, len(lines))
	for i, l := range lines {
		if own == "" || l.Interface != own {
			same[i] = l.sameness()
			alike[same[i]] = append(alike[same[i]], l)
		}
	}
	for i, l := range lines {
		switch group := alike[same[i]]; {
		case own != "" && l.Interface == own, len(group) <= few:
			out = append(out, l)
		case group[0] == l:
			out = append(out, one(group, len(group) < len(lines)))
		}
	}
	return out
}

// sameness returns everything in a line except its VLAN.
func (l *line) sameness() string {
	var b strings.Builder
	fmt.Fprintln(&b, l.Return, l.Level, l.Value, l.After, l.anyBefore())
	for _, p := range l.problems {
		fmt.Fprintln(&b, p.Code, p.Severity, p.Message, p.Hint, p.remedy)
	}
	for _, text := range slices.Concat(l.decided, l.loses) {
		fmt.Fprintln(&b, text)
	}
	return strings.ReplaceAll(b.String(), l.subject(), "")
}

// anyBefore returns the BIG-IP's way without the name of the VLAN, which a
// damaged file may lack.
func (l *line) anyBefore() string {
	if l.VLAN == "" {
		return l.Before
	}
	return strings.ReplaceAll(l.Before, l.VLAN, "its VLAN")
}

// one returns a line for several VLANs; more reports that other VLANs have
// lines, too.
func one(group []*line, more bool) *line {
	l := *group[0]
	var names []string
	for _, x := range group {
		names = append(names, x.VLAN)
	}
	old, title := l.subject(), "VLANs"
	if more {
		title = "other VLANs"
	}
	in := "VLANs " + routing.Some(names, few)
	rename := func(text string) string { return strings.ReplaceAll(text, old, in) }
	l.Before = l.anyBefore()
	l.VLAN, l.VLANs = fmt.Sprintf("%s (%d)", title, len(group)), names
	l.Interface, l.LevelOrigin = "", ""
	l.problems, l.decisions = slices.Clone(l.problems), slices.Clone(l.decisions)
	for i := range l.problems {
		f := &l.problems[i].Finding
		f.Subject, f.Message, f.Hint = rename(f.Subject), rename(f.Message), rename(f.Hint)
	}
	for i := range l.decisions {
		f := &l.decisions[i]
		f.Subject, f.Message = rename(f.Subject), rename(f.Message)
	}
	l.decided, l.loses = slices.Clone(l.decided), slices.Clone(l.loses)
	for _, texts := range [][]string{l.decided, l.loses} {
		for i := range texts {
			texts[i] = rename(texts[i])
		}
	}
	return &l
}
