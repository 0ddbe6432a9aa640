package netlab

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lasthop/internal/nstest"
)

var (
	firstSeed = flag.Uint64("seed", 1, "seed of the first network; the next has the next")
	networks  = flag.Int("networks", 10, "number of networks")
	program   = flag.String("lasthop", "", "the program to test; default: built from ./cmd/lasthop")
	save      = flag.String("save", "", "`FILE` for the results")
	details   = flag.Bool("details", false, "print each network with faults, and each fault")
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// together is how many networks are asked at a time. They mostly wait.
const together = 5

// lasthopBinary is the program under test.
func lasthopBinary(t testing.TB) string {
	if *program != "" {
		path, err := filepath.Abs(*program)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := t.TempDir() + "/lasthop"
	c := exec.Command("go", "build", "-o", path, "lasthop/cmd/lasthop")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestNetworks asks on random networks.
func TestNetworks(t *testing.T) {
	bin := lasthopBinary(t)
	t.Logf("seeds %d to %d", *firstSeed, *firstSeed+uint64(*networks)-1)
	results := tryAll(t, bin, *firstSeed, *networks)
	report(t, results)
	if *save != "" {
		text, err := json.MarshalIndent(results, "", " ")
		if err == nil {
			err = os.WriteFile(*save, text, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// tryAll asks on several networks at a time, and returns the results by seed.
func tryAll(t *testing.T, bin string, seed uint64, count int) []Result {
	results := make([]Result, count)
	next := make(chan int)
	var workers sync.WaitGroup
	for range together {
		workers.Go(func() {
			for i := range next {
				s := seed + uint64(i)
				t.Run(fmt.Sprint("seed=", s), func(t *testing.T) {
					n := draw(s)
					results[i] = try(t, n, bin, nil)
					if *details && (len(results[i].Faults) > 0 || results[i].Error != "") {
						t.Logf("%s%s", n, results[i])
					}
				})
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// String is the faults, one a line.
func (r Result) String() string {
	var b strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "seed %d: %s: %s\n", r.Seed, f.Kind, f.Detail)
	}
	if r.Error != "" {
		fmt.Fprintf(&b, "seed %d: error: %s\n", r.Seed, r.Error)
	}
	return b.String()
}

// report prints the summary, and fails for what is the oracle's own fault.
func report(t *testing.T, results []Result) {
	ingredients, kinds := map[string]int{}, map[string][]uint64{}
	rungs, requests := map[int][2]int{}, 0
	for _, r := range results {
		requests += r.Requests
		for _, i := range r.Ingredients {
			ingredients[i]++
		}
		for _, k := range r.kinds() {
			kinds[k] = append(kinds[k], r.Seed)
		}
		for k, c := range r.Rungs {
			rungs[k] = [2]int{rungs[k][0] + c[0], rungs[k][1] + c[1]}
		}
		if r.Error != "" {
			t.Errorf("seed %d: %s", r.Seed, r.Error)
		}
		for _, f := range r.Faults {
			if f.Kind == unsound {
				t.Errorf("seed %d: the oracle is wrong: %s", r.Seed, f.Detail)
			}
		}
	}
	t.Logf("%d networks, %d requests over TCP, UDP and ping each", len(results), requests)
	for _, i := range sorted(ingredients) {
		t.Logf("%5d networks with %s", ingredients[i], i)
		if len(results) >= 200 && ingredients[i]*10 < len(results) {
			t.Errorf("less than a tenth of the networks have %s", i)
		}
	}
	for _, k := range sorted(rungs) {
		t.Logf("evidence of rung %d: %d of %d listeners answered", k, rungs[k][0], rungs[k][1])
	}
	for _, k := range sorted(kinds) {
		t.Logf("%5d networks with %s: seeds %v", len(kinds[k]), k, kinds[k])
	}
}
