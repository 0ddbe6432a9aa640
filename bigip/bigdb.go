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

// bigDB sets the two settings of BigDB.dat. A section without `value=` has its
// default. It reports whether the file has one of them.
func bigDB(file string, text string, set func(variable, value, origin string)) (found bool) {
	type entry struct {
		value string
		line  int
	}
	section, line, entries := "", 0, map[string]entry{} // by section and key
	for raw := range strings.Lines(text) {
		line++
		s := strings.TrimSpace(raw[:min(len(raw), maxLabel)])
		if strings.HasPrefix(s, "[") {
			section = strings.ToLower(strings.Trim(s, "[]"))
			continue
		}
		if section != LastHopVariable && section != managementVariable {
			continue
		}
		key, value, _ := strings.Cut(s, "=")
		if key = strings.TrimSpace(key); key == "default" || key == "value" {
			entries[section+" "+key] = entry{strings.TrimSpace(value), line}
		}
	}
	for _, variable := range []string{LastHopVariable, managementVariable} {
		e, ok := entries[variable+" value"]
		if !ok {
			e, ok = entries[variable+" default"]
		}
		if ok {
			set(variable, e.value, hint.Origin(file, e.line))
			found = true
		}
	}
	return found
}
