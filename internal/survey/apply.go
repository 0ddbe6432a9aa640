package survey

import (
	"fmt"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
)

// Verify checks the listeners on the host as it was read back after an apply.
// The error is about the first one that is ready and whose replies do not take
// its path; l names the command that shows why.
func (s Survey) Verify(h routing.Host, l settings.Line) ([]report.Checked, error) {
	s.Inputs.Host = h
	checks, err := s.Check()
	if err != nil {
		return nil, err
	}
	for _, c := range checks {
		if c.Status == routing.Ready && c.Verdict == report.Asymmetric {
			return checks, hint.New(
				fmt.Errorf("the kernel sends replies of %s to %s, not to %s",
					c.Addr, c.Now, c.Want), "see why: "+l.Explain(c.Question))
		}
	}
	return checks, nil
}
