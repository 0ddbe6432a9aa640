package watcher

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestChildren: what the kernel's list leaves out by mistake is there, what has
// ended is not, nor is what is known to be ending.
func TestChildren(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stat := func(pid, parent, started int) {
		t.Helper()
		write(fmt.Sprintf("%d/stat", pid), fmt.Sprintf("%d (a ) b) S %d %s %d 0 0", pid,
			parent, "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", started))
	}
	write("7/task/7/children", "11 12 13 14 ")
	for _, pid := range []int{11, 12, 13, 14} {
		stat(pid, 7, 100+pid)
	}
	c, err := openChildren(proc, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	want := func(what string, pids ...int) {
		t.Helper()
		list, err := c.list()
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(list, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		var got []int
		for _, p := range list {
			got = append(got, p.PID)
			if p.Started != uint64(100+p.PID) {
				t.Errorf("%s: %d started at %d", what, p.PID, p.Started)
			}
		}
		if d := gocmp.Diff(pids, got); d != "" {
			t.Errorf("%s: -want +got\n%s", what, d)
		}
	}
	want("at first", 11, 12, 13, 14)
	write("7/task/7/children", "11 12 ")
	stat(13, 1, 113) // its master is another's now
	want("left out by mistake, and taken over", 11, 12, 14)
	if err := os.RemoveAll(filepath.Join(proc, "14")); err != nil {
		t.Fatal(err)
	}
	stat(12, 7, 500) // the list still names it
	c.dead[11] = true
	want("ended, and ending", 12)
	write("7/task/7/children", "12 ")
	want("taken note of", 12)
	if len(c.dead) != 0 {
		t.Errorf("still remembered: %v", c.dead)
	}
}
