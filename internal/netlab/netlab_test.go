package netlab

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"lasthop/internal/nstest"
)

// short is the number of networks of the run in `make test`.
const short = 10

var (
	firstSeed = flag.Uint64("seed", 1, "seed of the first network; the next has the next")
	networks  = flag.Int("networks", short, "number of networks")
	program   = flag.String("lasthop", "", "the `program` to test; default: built from here")
	saved     = flag.String("save", "", "write the results to a `FILE`")
	against   = flag.String("against", "", "compare with the results of a `FILE`")
	attempts  = flag.Int("shrink", 0, "shrink what has faults, in at most `N` attempts each")
	causeOf   = flag.String("cause", "", "shrink only for faults of a `CAUSE`")
	details   = flag.Bool("details", false, "print each network with faults, and its faults")
	update    = flag.Bool("update", false, "rewrite "+knownFile)
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// together is how many networks are tried at a time: they mostly wait.
const together = 5

// TestNetworks asks on random networks. Without flags it compares the faults
// that it finds with the known ones.
func TestNetworks(t *testing.T) {
	bin := lasthopBinary(t)
	t.Logf("seeds %d to %d", *firstSeed, *firstSeed+uint64(*networks)-1)
	results := tryAll(t, bin, *firstSeed, *networks)
	report(t, results)
	if *saved != "" {
		if err := keep(*saved, results); err != nil {
			t.Error(err)
		}
	}
	if *against != "" {
		compare(t, *against, results)
	}
	if *attempts > 0 {
		shrinkAll(t, results, bin)
	}
	if held() {
		known(t, results, *update)
	}
}

// shrinkAll prints a smaller network for each network with a fault, or for one
// of the cause that a flag names.
func shrinkAll(t *testing.T, results []Result, bin string) {
	for _, r := range results {
		i := slices.IndexFunc(r.Faults,
			func(f Fault) bool { return *causeOf == "" || f.Cause == *causeOf })
		if i >= 0 {
			n, less := shrink(t, r, r.Faults[i], bin, *attempts)
			t.Logf("smaller:\n%s%s", n, less)
		}
	}
}

// lasthopBinary returns the program under test.
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
	if *racy {
		c = exec.Command("go", "build", "-race", "-o", path, "lasthop/cmd/lasthop")
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
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
					results[i] = twice(t, n, bin)
					if *details && results[i].String() != "" {
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

// twice tries a network, and again if the oracle fails, if the observer
// contradicts it, or if a short run finds an unknown fault: all networks of a
// machine share one table of neighbours, and a machine too busy loses some.
func twice(t *testing.T, n *Network, bin string) Result {
	r := try(t, n, bin, nil)
	unknown := func(k string) bool {
		return k == unsound || k == seenOtherwise ||
			held() && !*update && !knows(k, n.Seed)
	}
	if r.Error != "" || slices.ContainsFunc(r.kinds(), unknown) {
		t.Logf("again:\n%s", r)
		r = try(t, n, bin, nil)
	}
	return r
}

// held reports whether a run is compared with the known faults.
func held() bool {
	return *program == "" && *firstSeed == 1 && *networks == short
}

// TestDraw draws a network twice: a seed is a network.
func TestDraw(t *testing.T) {
	for seed := range uint64(50) {
		a, b := draw(seed), draw(seed)
		if a.String() != b.String() || fmt.Sprint(a.Wires) != fmt.Sprint(b.Wires) {
			t.Fatalf("seed %d draws two networks:\n%s\n%s", seed, a, b)
		}
	}
}

// TestImports checks that the oracle imports nothing of the planner.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-test", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	allowed := []string{"lasthop/internal/netlab", "lasthop/internal/nstest"}
	for _, line := range strings.Fields(string(out)) {
		for _, a := range allowed {
			line = strings.TrimPrefix(strings.TrimPrefix(line, "["+a), a)
		}
		if strings.HasPrefix(line, "lasthop/") {
			t.Errorf("the oracle imports %s", line)
		}
	}
}
