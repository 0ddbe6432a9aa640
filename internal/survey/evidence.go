package survey

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"
)

// evidenceDoc is the part of a document of kind observe that is read.
type evidenceDoc struct {
	Version  int                    `json:"version"`
	Kind     string                 `json:"kind"`
	Window   routing.Window         `json:"window"`
	Sampling routing.Sampling       `json:"sampling"`
	Seen     []routing.SeenListener `json:"seen"`
}

// readEvidence reads what `lasthop observe -o json` wrote. The ways have their
// verdicts.
func readEvidence(path string) (e routing.Evidence, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	var doc evidenceDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	if doc.Kind != "observe" || doc.Version != report.DocumentVersion {
		return e, hint.New(fmt.Errorf("%s: kind %q, version %d: this lasthop does not "+
			"read such evidence", path, doc.Kind, doc.Version),
			"make it with: lasthop observe -o json")
	}
	e = routing.Evidence{Window: doc.Window, Sampling: doc.Sampling}
	for _, l := range doc.Seen {
		for _, w := range l.Ways {
			if !l.Addr.IsValid() || w.Verdict == "" {
				return e, fmt.Errorf("%s: a path without address or verdict", path)
			}
			w.Addr, w.Port, w.Transport = l.Addr, l.Port, l.Transport
			e.Ways = append(e.Ways, w)
		}
	}
	return e, nil
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
	Compare(file string, doc []byte) error
}, file string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return r.Compare(file, doc)
}
