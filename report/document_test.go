package report

import (
	"bytes"
	"strings"
	"testing"

	"lasthop/internal/hint"
)

// TestReadEvidence: what observe wrote is read again, and other documents are
// refused by name, as plans are.
func TestReadEvidence(t *testing.T) {
	var doc bytes.Buffer
	o := seenExample()
	if err := o.JSON(&doc); err != nil {
		t.Fatal(err)
	}
	e, err := ReadEvidence("seen.json", doc.Bytes())
	if err != nil || len(e.Ways) != 4 || e.Window != o.Window || e.Sampling != o.Sampling ||
		e.Ways[1].Addr != o.Listeners[1].Addr {
		t.Errorf("%v: %+v", err, e)
	}
	for _, bad := range []string{"", "null", "[]", doc.String() + "x",
		strings.Replace(doc.String(), `"version": 1`, `"version": 2`, 1),
		strings.Replace(doc.String(), `"verdict": "symmetric"`, `"verdict": ""`, 2),
		`{"version": 1, "kind": "plan"}`} {
		_, err := ReadEvidence("bad.json", []byte(bad))
		if err == nil || !strings.HasPrefix(err.Error(), "bad.json: ") ||
			!strings.Contains(hint.Of(err), "lasthop observe -o json") {
			t.Errorf("%.80s: %v", bad, err)
		}
	}
}
