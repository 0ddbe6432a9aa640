package bigip

import (
	"bytes"
	"strings"
)

// isBigDB says whether a file has the shape of BigDB.dat: sections of
// key=value.
func isBigDB(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return line[0] == '[' && line[len(line)-1] == ']'
		}
	}
	return false
}

// bigDB sets the two settings of BigDB.dat. A section without `value=` has its
// default.
func bigDB(file string, text []byte, set func(variable, value, origin string)) {
	section, line := "", 0
	values, lines := map[string]string{}, map[string]int{}
	for raw := range bytes.Lines(text) {
		line++
		s := strings.TrimSpace(string(raw[:min(len(raw), maxLabel)]))
		if strings.HasPrefix(s, "[") {
			section = strings.ToLower(strings.Trim(s, "[]"))
			continue
		}
		if section != LastHopVariable && section != managementVariable {
			continue
		}
		key, value, _ := strings.Cut(s, "=")
		if key = section + " " + strings.TrimSpace(key); strings.HasSuffix(key,
			" default") || strings.HasSuffix(key, " value") {
			values[key], lines[key] = strings.TrimSpace(value), line
		}
	}
	for _, variable := range []string{LastHopVariable, managementVariable} {
		key := variable + " value"
		if _, ok := values[key]; !ok {
			key = variable + " default"
		}
		if value, ok := values[key]; ok {
			set(variable, value, origin(file, lines[key]))
		}
	}
}
