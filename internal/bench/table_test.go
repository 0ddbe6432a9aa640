package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// column holds the costs of one measure: for each variant, one for each round,
// in nanoseconds.
type column struct {
	name  string
	costs [][]float64
}

// ratios returns the costs of a variant, divided by those of the base, for each
// round.
func (c column) ratios(variant int) (out []float64) {
	for i, cost := range c.costs[variant] {
		out = append(out, cost/c.costs[base][i])
	}
	return out
}

// quartile returns the first quartile, the second, which is the median, or the
// third.
func quartile(values []float64, n int) float64 {
	return slices.Sorted(slices.Values(values))[len(values)*n/4]
}

func median(values []float64) float64 { return quartile(values, 2) }

// spread prints a median with its quartiles.
func spread(ratios []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(ratios), quartile(ratios, 1),
		quartile(ratios, 3))
}

// table returns a table in Markdown.
func table(title string, names []string, columns []column) string {
	var b strings.Builder
	head, rule := "|", "|---|"
	for _, c := range columns {
		head, rule = head+" | "+c.name, rule+"---|"
	}
	fmt.Fprintf(&b, "\n### %s\n\n%s |\n%s\n", title, head, rule)
	for v, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, c := range columns {
			if v == base {
				fmt.Fprintf(&b, " %s |", duration(median(c.costs[v])))
			} else {
				fmt.Fprintf(&b, " %s |", spread(c.ratios(v)))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// duration prints nanoseconds with three digits.
func duration(ns float64) string {
	switch {
	case ns < 1e4:
		return fmt.Sprintf("%.2f µs", ns/1e3)
	case ns < 1e5:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	case ns < 1e7:
		return fmt.Sprintf("%.2f ms", ns/1e6)
	case ns < 1e8:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	}
	return time.Duration(ns).Round(time.Millisecond).String()
}

// goals are the project's goals, with the measured values.
type goals []string

func (g *goals) add(what string, most, got float64) {
	verdict := "met"
	if got > most {
		verdict = "**missed**"
	}
	*g = append(*g, fmt.Sprintf("| %s | %.2f | %.2f | %s |", what, most, got, verdict))
}

func (g goals) String() string {
	return "\n| goal | at most | measured | |\n|---|---|---|---|\n" +
		strings.Join(g, "\n") + "\n"
}

// TestTable prints a table of two rounds.
func TestTable(t *testing.T) {
	c := column{"send", [][]float64{{1500, 1600, 1000, 2000}, {1650, 3200, 2000, 2000}}}
	want := `
### Sends

| | send |
|---|---|
| no rules | 1.60 µs |
| strict | 2.00 (1.10–2.00) |
`
	if got := table("Sends", []string{"no rules", "strict"}, []column{c}); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	var g goals
	g.add("a", 1.07, 1.07)
	g.add("b", 1.07, 1.08)
	if got := g.String(); !strings.HasSuffix(got, "| a | 1.07 | 1.07 | met |\n"+
		"| b | 1.07 | 1.08 | **missed** |\n") {
		t.Error(got)
	}
}
