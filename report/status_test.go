package report

import (
	"bytes"
	"encoding/gob"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"lasthop/routing"
)

func makeStatus(t *testing.T) Status {
	t.Helper()
	p := makePlan(t, listener("10.0.1.100", 443), listener("2001:db8:1::100", 443))
	p.Inputs = []Input{{File: "/etc/nginx/nginx.conf", SHA256: strings.Repeat("0a", 32)}}
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	return Status{Head: p.Head, Started: at, Synced: at, Detector: "proc connector",
		Plan: p.Plan, Diff: p.Diff, Digest: p.Digest, Installed: p.Plan.State,
		Masters: []Master{{PID: 4711, Conf: "/etc/nginx/nginx.conf", Generation: 2,
			Loaded: at, Workers: 4, Draining: 1}, {Conf: "/srv/b.conf"}},
		Last: Change{Time: at, Cause: "reload of NGINX 4711", Done: p.Diff.Ops(),
			Error: "add rule: no buffer space"},
		Wrong:   []string{"first thing", "second thing"},
		Counts:  Counts{Syncs: 7, Reloads: 2},
		LastHop: makeLastHop(at)}
}

// wantSchema holds the JSON of a result against docs/schema/KIND.json.
func wantSchema(t *testing.T, kind string, r Result) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "docs", "schema",
		kind+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.JSON(&b); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestStatusSchema(t *testing.T) {
	for _, s := range []Status{makeStatus(t),
		{Head: makeStatus(t).Head, Digest: makeStatus(t).Digest, InSync: true}} {
		wantSchema(t, "status", s)
	}
}

func TestStatusTextOrder(t *testing.T) {
	text := strings.Join(strings.Fields(textOf(t, makeStatus(t), Style{})), " ")
	from := 0
	for _, want := range []string{"NOT in sync", "first thing", "second thing", "4711",
		"1 draining", "/srv/b.conf", "Listeners (2)", "Last change", "reload of NGINX 4711",
		"no buffer space", "7 syncs", " repairs, ", " with other programs, "} {
		i := strings.Index(text[from:], want)
		if i < 0 {
			t.Fatalf("%q is missing or too early in:\n%s", want, text)
		}
		from += i
	}
}

// TestStatusInstalled: once the kernel has all of the plan, text says so of its
// listeners; JSON keeps the status.
func TestStatusInstalled(t *testing.T) {
	s := makeStatus(t)
	for _, s.InSync = range []bool{false, true} {
		word := map[bool]string{false: "ready", true: "installed"}[s.InSync]
		text := strings.Join(strings.Fields(textOf(t, s, Style{})), " ")
		if !strings.Contains(text, "Listeners (2): 2 "+word+" ") ||
			!strings.Contains(text, " port 443 "+word+" eth1 ") {
			t.Errorf("in sync %t: not %s:\n%s", s.InSync, word, text)
		}
		colored := textOf(t, s, Style{Color: true})
		if !strings.Contains(colored, "\x1b["+green+"m  10.0.1.100 ") {
			t.Errorf("in sync %t: not green:\n%q", s.InSync, colored)
		}
		var doc bytes.Buffer
		if err := s.JSON(&doc); err != nil || !strings.Contains(doc.String(), `"ready": 2`) {
			t.Errorf("in sync %t: %v\n%s", s.InSync, err, doc.String())
		}
	}
}

// A status and a result travel from the daemon to its clients as gob: both must
// print there as they would have here.
func TestTravel(t *testing.T) {
	s := makeStatus(t)
	var far Status
	travel(t, s, &far)
	p := makePlan(t, listener("10.0.1.100", 443))
	a := Apply{Plan: p, Done: p.Diff.Ops(), Writes: 3, Undo: "lasthop clear",
		Checks: []Checked{{Outcome: p.Plan.Outcomes[0], Verdict: Symmetric}}}
	var farApply Apply
	travel(t, a, &farApply)
	for _, c := range []struct{ here, there Result }{{s, far}, {a, farApply}} {
		if diff := cmp.Diff(textOf(t, c.here, Style{}),
			textOf(t, c.there, Style{})); diff != "" {
			t.Errorf("%T text (-here +there):\n%s", c.here, diff)
		}
		var here, there bytes.Buffer
		if err := c.here.JSON(&here); err != nil {
			t.Fatal(err)
		}
		if err := c.there.JSON(&there); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(here.String(), there.String()); diff != "" {
			t.Errorf("%T JSON (-here +there):\n%s", c.here, diff)
		}
	}
}

func travel(t *testing.T, from, into any) {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(from); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&b).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// TestFallsBack: a mode that was asked for and is not available is not as
// wanted, though every reply leaves as planned.
func TestFallsBack(t *testing.T) {
	none := routing.Plan{}
	fell := routing.Plan{Findings: []routing.Finding{
		routing.Warning.Finding("no-bpf", "last-hop", "no CAP_BPF")}}
	for _, tt := range []struct {
		plan routing.Plan
		want bool
	}{{none, true}, {fell, false}} {
		c, s := Check{Plan: tt.plan}, Status{Plan: tt.plan, InSync: true}
		var text bytes.Buffer
		if err := s.Text(&text, Style{}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "in sync, but the findings need") == tt.want {
			t.Errorf("wanted %v: %s", tt.want, text.String())
		}
		if c.Wanted() != tt.want || s.Asks() == tt.want ||
			strings.Contains(c.oneLine(), "strict in place of last-hop") == tt.want {
			t.Errorf("wanted %v, asks %v: %s", c.Wanted(), s.Asks(), c.oneLine())
		}
	}
}
