package bench

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"lasthop/internal/nstest"
)

var tables = flag.String("tables", "", "print the tables of a `SIZE`: short or full")

func TestMain(m *testing.M) {
	variants = slices.DeleteFunc(variants, func(v variant) bool {
		return v.name == lastHop && !pins()
	})
	os.Exit(nstest.Main(m))
}

// pins reports whether maps can be pinned here, as the mode last-hop needs.
func pins() bool {
	return exec.Command("unshare", "--mount", "mount", "-t", "bpf", "bpf", bpffs).Run() == nil
}

// sizes are the sizes of a run.
type sizes struct {
	uplinks, vips []int // of the tables about packets
	rounds        int   // of each table
	applied       int   // of listeners: with the last size a round takes a minute
}

// wanted returns the sizes of the run. It skips the test if no flag asks for
// tables: `make test` measures nothing.
func wanted(t *testing.T) sizes {
	t.Helper()
	switch *tables {
	case "short":
		return sizes{[]int{4}, []int{1, 1000}, 11, 2}
	case "full":
		return sizes{[]int{1, 4, 8}, []int{1, 100, 1000, 10000}, 21, 3}
	case "":
		t.Skip("prints tables for: make bench")
	}
	t.Fatalf("-tables %q: there are short and full", *tables)
	return sizes{}
}

// build builds lasthop as `make build` does.
func build(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "lasthop")
	c := exec.Command("go", "build", "-trimpath", "-o", exe, "../../cmd/lasthop")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return exe
}
