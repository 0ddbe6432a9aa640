package report

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// csvColumns are the names of the JSON document's keys, those of before and
// after with a prefix.
var csvColumns = []string{"address", "port", "last_port", "transport", "context", "listen",
	"servers", "origins", "interface", "status", "reason", "before_type", "before_interface",
	"before_gateway", "before_table", "before_more", "after_type", "after_interface",
	"after_gateway", "after_table", "after_more"}

// CSV writes a line of names and one for each listener. It includes last-hop
// only if a listener has the mode, and what packets showed only if they were
// observed.
func (p Plan) CSV(w io.Writer) error {
	columns, doc := slices.Clip(csvColumns), plannedWith(p.Seen)
	lastHop := slices.ContainsFunc(p.Plan.Outcomes,
		func(o routing.Outcome) bool { return o.After.LastHop })
	if lastHop {
		columns = append(columns, "after_last_hop")
	}
	if p.Seen != nil {
		columns = append(columns, "seen_verdict", "seen_outcome")
	}
	return writeCSV(w, columns, p.Plan.Outcomes, func(o routing.Outcome) []string {
		d := doc(o)
		cells := slices.Concat([]string{d.Address, fmt.Sprint(d.Port),
			numeral(d.LastPort), d.Transport, d.Context, d.Listen,
			joined(d.Servers, d.MoreServers), joined(d.Origins, d.MoreOrigins),
			d.Interface, d.Status, d.Reason}, wayCells(d.Before), wayCells(d.After))
		if lastHop {
			cells = append(cells, fmt.Sprint(o.After.LastHop))
		}
		if p.Seen == nil {
			return cells
		}
		seen := cmp.Or(d.Seen, &seenDoc{})
		return append(cells, string(seen.Verdict), string(seen.Outcome))
	})
}

// joined puts names into a cell, and the number of further ones.
func joined(names []string, more int) string {
	text := strings.Join(names, " ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// writeCSV writes a line of names and one for each row. A newline alone ends a
// line; an absent value is empty; of several names each except the last is
// followed by a space. No cell is a formula to a spreadsheet.
func writeCSV[T any](w io.Writer, columns []string, rows []T, cells func(T) []string) error {
	c := csv.NewWriter(w)
	_ = c.Write(columns) // Error reports it
	for _, row := range rows {
		_ = c.Write(mapped(cells(row), cell))
	}
	c.Flush()
	return c.Error()
}

func wayCells(w *wayDoc) []string {
	if w == nil {
		w = &wayDoc{}
	}
	return []string{w.Type, w.Interface, w.Gateway, numeral(w.Table), w.More}
}

// numeral is a number, or nothing for 0.
func numeral[T ~int | ~uint8 | ~uint16 | ~uint32](n T) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

// cell escapes a name and puts an apostrophe before what would begin a formula:
// at the beginning, and after each character that some spreadsheet may treat as
// the end of a cell, whatever quotes there are.
func cell(s string) string {
	s = Escape(s)
	var b strings.Builder
	start, written := true, 0
	for i, r := range s {
		if start && strings.ContainsRune("=+-@＝＋－＠", r) {
			b.WriteString(s[written:i] + "'")
			written = i
		}
		start = strings.ContainsRune(`,;|"`, r) || start && r == ' '
	}
	return b.String() + s[written:]
}
