package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Code is the stable name of a reason or a finding: "no-gateway".
type Code string

// Severity orders findings.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Rank orders severities, the gravest first: 0 error, 1 warning, 2 info.
func (s Severity) Rank() int { return slices.Index([]Severity{Error, Warning, Info}, s) }

// Finding is something that an operator must know and that does not stop
// lasthop.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"` // what it is about: an address, link or rule
	Message  string   `json:"message"`
	// what to do: a command or flag if there is one
	Hint   string `json:"hint,omitempty"`
	Origin string `json:"origin,omitempty"` // file:line or an `ip` line
}

// Finding makes a finding of this severity; the message is a format and its
// arguments.
func (s Severity) Finding(code Code, subject, message string, args ...any) Finding {
	return Finding{Code: code, Severity: s, Subject: subject,
		Message: fmt.Sprintf(message, args...)}
}

// At adds the origin of a finding: file:line or an `ip` line.
func (f Finding) At(origin string) Finding {
	f.Origin = origin
	return f
}

// Advise adds the remedy for a finding: a format and its arguments.
func (f Finding) Advise(hint string, args ...any) Finding {
	f.Hint = fmt.Sprintf(hint, args...)
	return f
}

// findings collects what the steps find.
type findings []Finding

func (fs *findings) find(f Finding) { *fs = append(*fs, f) }

// SortFindings puts the gravest first. The other criteria only make the order
// stable.
func SortFindings(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.Rank(), b.Severity.Rank()),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Subject, b.Subject),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Origin, b.Origin))
	})
}

// uniqueFindings sorts findings and drops repetitions: listeners on one address
// have the same findings.
func uniqueFindings(fs []Finding) []Finding {
	SortFindings(fs)
	return slices.CompactFunc(fs, func(a, b Finding) bool {
		return a.Code == b.Code && a.Subject == b.Subject && a.Message == b.Message &&
			(a.Origin == b.Origin || isAddress(a.Subject))
	})
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// Some joins a list. Of a long list it names the first few: "a, b and 3 more".
func Some(list []string, most int) string {
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "),
			len(list)-most)
	}
	return strings.Join(list, ", ")
}
