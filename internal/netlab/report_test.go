package netlab

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Result is the result of a network.
type Result struct {
	Seed        uint64         `json:"seed"`
	Ingredients []string       `json:"ingredients"`
	Faults      []Fault        `json:"faults"`
	Requests    int            `json:"requests"`
	Rungs       map[int][2]int `json:"rungs"`    // evidence: answered, planted
	Promised    [2]int         `json:"promised"` // listeners: dark for a class, all
	Moved       [2]int         `json:"moved"`    // requests that the plan names: lost, all
	Ways        int            `json:"ways"`     // that the observer saw
	Compared    [2]int         `json:"compared"` // requests by protocol: seen by it, all
	Error       string         `json:"error,omitempty"`
}

// kinds returns the kinds of its faults.
func (r Result) kinds() []string {
	m := map[string]bool{}
	for _, f := range r.Faults {
		m[f.Kind] = true
	}
	return sorted(m)
}

// faulty returns the faults without their details, to compare.
func (r Result) faulty() map[string]bool {
	m := map[string]bool{}
	for _, f := range r.Faults {
		m[f.Kind+": "+f.Subject] = true
	}
	return m
}

// String returns the faults, one a line.
func (r Result) String() string {
	var b strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "seed %d: %s\n", r.Seed, f)
	}
	if r.Error != "" {
		fmt.Fprintf(&b, "seed %d: error: %s\n", r.Seed, r.Error)
	}
	return b.String()
}

// summary adds up all results.
type summary struct {
	ingredients map[string]int
	kinds       map[string][]uint64 // seeds
	rungs       map[int][2]int      // answered, planted
	requests    int
	promised    [2]int
	moved       [2]int
	ways        int
	compared    [2]int
	causes      map[string]map[string]*tally // of faults, by kind and cause
}

// tally counts the faults of one kind and one cause.
type tally struct {
	faults int
	rows   map[string]bool
	seeds  []uint64
	first  []Fault // of each seed
}

func sum(results []Result) summary {
	s := summary{ingredients: map[string]int{}, kinds: map[string][]uint64{},
		rungs: map[int][2]int{}, causes: map[string]map[string]*tally{}}
	for _, r := range results {
		s.requests += r.Requests
		s.promised = plus(s.promised, r.Promised)
		s.moved = plus(s.moved, r.Moved)
		s.ways += r.Ways
		s.compared = plus(s.compared, r.Compared)
		for _, i := range r.Ingredients {
			s.ingredients[i]++
		}
		for _, k := range r.kinds() {
			s.kinds[k] = append(s.kinds[k], r.Seed)
		}
		for _, f := range r.Faults {
			s.count(r.Seed, f)
		}
		for k, c := range r.Rungs {
			s.rungs[k] = plus(s.rungs[k], c)
		}
	}
	return s
}

// count counts a fault with those of its kind and cause.
func (s summary) count(seed uint64, f Fault) {
	if s.causes[f.Kind] == nil {
		s.causes[f.Kind] = map[string]*tally{}
	}
	c := s.causes[f.Kind][f.Cause]
	if c == nil {
		c = &tally{rows: map[string]bool{}}
		s.causes[f.Kind][f.Cause] = c
	}
	_, to, _ := strings.Cut(f.Subject, "->")
	c.rows[fmt.Sprint(seed, to)] = true
	if c.faults++; !slices.Contains(c.seeds, seed) {
		c.seeds, c.first = append(c.seeds, seed), append(c.first, f)
	}
}

// untold counts the listeners that are dark by a cause that no routing table
// can fix.
func (s summary) untold() [2]int {
	n := [2]int{0, s.promised[1]}
	for _, cause := range beyond {
		if c := s.causes[readyButDark][cause]; c != nil {
			n[0] += len(c.rows)
		}
	}
	return n
}

func plus(a, b [2]int) [2]int { return [2]int{a[0] + b[0], a[1] + b[1]} }

// enough is how many networks must show each ingredient in a tenth of them.
const enough = 500

// report prints the summary. It fails for the oracle's own faults, and if the
// observer contradicts the oracle.
func report(t *testing.T, results []Result) {
	for _, r := range results {
		if r.Error != "" {
			t.Errorf("seed %d: %s", r.Seed, r.Error)
		}
		for _, f := range r.Faults {
			if f.Kind == unsound {
				t.Errorf("seed %d: the oracle is wrong: %s", r.Seed, f)
			}
			if f.Kind == seenOtherwise {
				t.Errorf("seed %d: the observer or the oracle is wrong: %s", r.Seed,
					f)
			}
		}
	}
	s := sum(results)
	t.Logf("%d networks, %d requests over TCP, UDP and ping each", len(results), s.requests)
	for _, i := range sorted(s.ingredients) {
		t.Logf("%5d networks with %s", s.ingredients[i], i)
		if len(results) >= enough && s.ingredients[i]*10 < len(results) {
			t.Errorf("less than a tenth of the networks have %s", i)
		}
	}
	for _, k := range sorted(s.rungs) {
		t.Logf("evidence of rung %d: %d of %d listeners answered", k, s.rungs[k][0],
			s.rungs[k][1])
	}
	t.Logf("%d of %d listeners that are ready, unchanged or local are dark for a class that "+
		"the plan does not name: %s", s.promised[0], s.promised[1], percent(s.promised))
	t.Logf("    of these, where nothing on the host speaks for the right router: %s",
		percent(s.untold()))
	t.Logf("%d of %d requests that the plan names as moved are lost: %s", s.moved[0],
		s.moved[1], percent(s.moved))
	t.Logf("%d ways seen by the observer, of %d of %d requests by protocol: %s; %d networks "+
		"where it contradicts the answers", s.ways, s.compared[0], s.compared[1],
		percent(s.compared), len(s.kinds[seenOtherwise]))
	for _, k := range sorted(s.kinds) {
		t.Logf("%5d networks with %s: seeds %v", len(s.kinds[k]), k, s.kinds[k])
		for _, cause := range sorted(s.causes[k]) {
			c := s.causes[k][cause]
			t.Logf("      %s: %d requests of %d listeners in %d networks: seeds %v",
				cmp.Or(cause, "no request's"), c.faults, len(c.rows), len(c.seeds),
				c.seeds)
			for i, f := range c.first {
				if i == 0 || slices.Contains(listed, k) {
					t.Logf("          seed %d: %s %s", c.seeds[i], f.Subject,
						f.Detail)
				}
			}
		}
	}
}

// listed are the kinds of which each network is listed once for each cause.
var listed = []string{readyButDark, movedAndLost, lost, flagFails, unresolved,
	evidenceIgnored, seenOtherwise}

// beyond are the causes of faults that no routing table can fix: two uplinks
// lead to the address, or the only router that the host knows is that of
// another VIP.
var beyond = []string{places[placeTwoWays], "router of a vip, taken for that of other addresses"}

// percent returns the share of the first in the second.
func percent(n [2]int) string {
	return fmt.Sprintf("%.1f %%", 100*float64(n[0])/float64(max(n[1], 1)))
}

// keep writes results to a file.
func keep(file string, results []Result) error {
	text, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// compare prints for each network whether it is better or worse than in a saved
// run.
func compare(t *testing.T, file string, results []Result) {
	text, err := os.ReadFile(file)
	var saved []Result
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	if err != nil {
		t.Fatalf("read results of %s: %v", file, err)
	}
	old := map[uint64]Result{}
	for _, r := range saved {
		old[r.Seed] = r
	}
	count := map[string]int{}
	for _, r := range results {
		o, ok := old[r.Seed]
		if !ok {
			continue
		}
		gone, come := apart(o.faulty(), r.faulty()), apart(r.faulty(), o.faulty())
		verdict := verdicts[[2]bool{len(gone) > 0, len(come) > 0}]
		count[verdict]++
		if verdict != "same" {
			t.Logf("seed %d: %s", r.Seed, verdict)
		}
		for _, f := range gone {
			t.Logf("  - %s", f)
		}
		for _, f := range come {
			t.Logf("  + %s", f)
		}
	}
	t.Logf("networks better %d, worse %d, both %d", count["better"], count["worse"],
		count["both"])
}

// verdicts by whether faults are gone, and whether new ones have come.
var verdicts = map[[2]bool]string{{true, false}: "better", {false, true}: "worse",
	{true, true}: "both", {false, false}: "same"}

// apart returns the members of a that are not in b.
func apart(a, b map[string]bool) []string {
	return slices.DeleteFunc(sorted(a), func(k string) bool { return b[k] })
}

// knownFile has the known faults of the short run.
const knownFile = "testdata/known.txt"

// knownFaults are the kinds and seeds of the file.
var knownFaults = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	text, _ := os.ReadFile(knownFile) // without it, nothing is known
	for line := range bytes.Lines(text) {
		m[strings.TrimSpace(string(line))] = true
	}
	return m
})

// knows reports whether a kind of fault is known for a seed.
func knows(kind string, seed uint64) bool {
	return knownFaults()[fmt.Sprintf("%s %d", kind, seed)]
}

// known compares the kinds of faults with the known ones, or writes them.
func known(t *testing.T, results []Result, update bool) {
	got := map[string]bool{}
	for _, r := range results {
		for _, k := range r.kinds() {
			got[fmt.Sprintf("%s %d", k, r.Seed)] = true
		}
	}
	if update {
		text := strings.Join(append(sorted(got), ""), "\n")
		if err := os.WriteFile(knownFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := knownFaults()
	for _, k := range apart(got, want) {
		t.Errorf("new fault, by kind and seed: %s\nreplay: go test ./internal/netlab "+
			"-run TestNetworks -v -args -details -networks 1 -seed N", k)
	}
	for _, k := range apart(want, got) {
		t.Errorf("fault is gone: %s\ngood: go test ./internal/netlab -args -update", k)
	}
}
