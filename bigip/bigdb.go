package bigip

import (
	"strings"

	"lasthop/internal/hint"
)

// isBigDB reports whether a file has the shape of BigDB.dat: sections of
// key=value.
func isBigDB(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return line[0] == '[' && line[len(line)-1] == ']'
		}
	}
	return false
}

// bigDB sets the setting of BigDB.dat: its value, or its default if the section
// has no `value=`. It reports whether the file has it.
func bigDB(file string, text string, set func(value, origin string)) (found bool) {
	type entry struct {
		value string
		line  int
	}
	section, line, entries := "", 0, map[string]entry{} // by key
	for raw := range strings.Lines(text) {
		line++
		s := strings.TrimSpace(raw[:min(len(raw), maxLabel)])
		if strings.HasPrefix(s, "[") {
			section = strings.ToLower(strings.Trim(s, "[]"))
			continue
		}
		if key, value, _ := strings.Cut(s, "="); section == LastHopVariable {
			entries[strings.TrimSpace(key)] = entry{strings.TrimSpace(value), line}
		}
	}
	e, found := entries["value"]
	if !found {
		e, found = entries["default"]
	}
	if found {
		set(e.value, hint.Origin(file, e.line))
	}
	return found
}
