package survey

import (
	"fmt"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
)

// Asymmetric returns an error for the first listener that is ready and whose
// replies do not take its path, after an apply.
func Asymmetric(checks []report.Checked, l settings.Line) error {
	for _, c := range checks {
		if c.Status == routing.Ready && c.Verdict == report.Asymmetric {
			return hint.New(
				fmt.Errorf("the kernel sends replies of %s to %s, not to %s",
					c.Addr, c.Now, c.Want), "see why: "+l.Explain(c.Question))
		}
	}
	return nil
}
