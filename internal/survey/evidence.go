package survey

import (
	"os"
	"slices"

	"lasthop/report"
	"lasthop/routing"
)

// readEvidence reads what `lasthop observe -o json` wrote.
func readEvidence(path string) (e routing.Evidence, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	return report.ReadEvidence(path, data)
}

// Evidence returns what the evidence of a file means for this survey's
// decision. Without a file name it returns nil.
func (s *Survey) Evidence(path string) (*routing.Seen, error) {
	if path == "" {
		return nil, nil
	}
	e, err := readEvidence(path)
	if err != nil {
		return nil, err
	}
	seen := routing.Judge(s.Decision, e)
	return &seen, nil
}

// SeenOf returns the ways of a file's evidence that concern explain's target:
// those that name the client, or all of the address. Without a file name it
// returns none.
func SeenOf(path string, t Target) (ways []routing.SeenWay, err error) {
	if path == "" {
		return nil, nil
	}
	e, err := readEvidence(path)
	for _, w := range e.Ways {
		if w.Addr == t.Addr && (t.Port == 0 || w.Port == t.Port) {
			ways = append(ways, w)
		}
	}
	named := slices.DeleteFunc(slices.Clone(ways), func(w routing.SeenWay) bool {
		return !slices.Contains(w.Examples, t.Client)
	})
	if len(named) > 0 {
		ways = named
	}
	return ways, err
}

// Compare adds to a report what changed since an earlier one, which a file has.
func Compare(r interface {
	Compare(file string, data []byte) error
}, file string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return r.Compare(file, doc)
}
