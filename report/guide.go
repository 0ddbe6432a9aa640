package report

import (
	"regexp"
	"slices"

	"lasthop/routing"
)

// remedy writes what to do about a finding, if there is something; above is the
// remedy of the finding directly above, which is not written again.
func remedy(t *page, indent, hint, above string) {
	switch hint {
	case "":
	case above:
		t.printf("%sdo: the same as above\n", indent)
	default:
		writeRemedy(t, indent+"do: ", oneLine(hint))
	}
}

// setting is a flag that is a key of lasthop.yaml, too.
var setting = regexp.MustCompile(`--(address|direct|fail-closed|gateway|listen|return)\b`)

// guide says where a reader finds more about findings, and how a flag that they
// name becomes a setting of the service. It is written once in a report.
func guide(t *page, list []routing.Finding) {
	if len(list) == 0 {
		return
	}
	text := "lasthop help CODE explains a finding."
	if slices.ContainsFunc(list,
		func(f routing.Finding) bool { return setting.MatchString(f.Hint) }) {
		text += " Flags hold for one command; for the service, write them into " +
			"/etc/lasthop/lasthop.yaml: lasthop help settings."
	}
	t.printf("\n")
	t.wrap("", text)
}
