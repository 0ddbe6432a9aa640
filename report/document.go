package report

import (
	"encoding/json"
	"errors"
	"fmt"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// document is a struct that begins with a headDoc.
type document interface{ head() *headDoc }

func (h *headDoc) head() *headDoc { return h }

// decode reads a JSON document of a kind into a struct; file is where it was
// read, command is what makes such a document, and check says what is wrong
// with the struct. The error names the file, with a hint.
func decode(file string, data []byte, kind, command string, into document,
	check func() error) error {
	remedy := "make it with: lasthop " + command + " -o json"
	err := json.Unmarshal(data, into)
	_, broken := errors.AsType[*json.SyntaxError](err)
	switch h := into.head(); {
	case broken:
		err = fmt.Errorf("not JSON: %w", err)
	case h.Kind != kind:
		err = fmt.Errorf("a document of kind %q, not %q", h.Kind, kind)
	case h.Version != DocumentVersion:
		err = fmt.Errorf("a document of version %d; this lasthop reads version %d",
			h.Version, DocumentVersion)
		remedy = "read it with the lasthop that made it, or make it again with this one: " +
			"lasthop " + command + " -o json"
	case err == nil:
		err = check()
	}
	if err != nil {
		return hint.New(fmt.Errorf("%s: %w", file, err), remedy)
	}
	return nil
}

// decodePlan reads a document of `lasthop plan -o json`.
func decodePlan(file string, data []byte, into *planDoc) error {
	return decode(file, data, "plan", "plan", into, func() error {
		if into.Listeners == nil || into.Paths == nil || into.Changes == nil {
			return errors.New("a plan without listeners, paths or changes")
		}
		for _, l := range into.Listeners {
			if l.Address == "" || l.Status == "" {
				return errors.New("a listener without address or status")
			}
		}
		return nil
	})
}

// ReadEvidence reads a document of `lasthop observe -o json`; file is where it
// was read. The ways have their verdicts. The error names the file, with a
// hint.
func ReadEvidence(file string, data []byte) (e routing.Evidence, err error) {
	var doc observeDoc
	err = decode(file, data, "observe", "observe", &doc, func() error {
		for _, l := range doc.Seen {
			for _, w := range l.Ways {
				if !l.Addr.IsValid() || w.Verdict == "" {
					return errors.New("a way without address or verdict")
				}
				w.Addr, w.Port, w.Transport = l.Addr, l.Port, l.Transport
				e.Ways = append(e.Ways, w)
			}
		}
		return nil
	})
	e.Window, e.Sampling = doc.Window, doc.Sampling
	return e, err
}
