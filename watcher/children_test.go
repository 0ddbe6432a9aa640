package watcher

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/procfs"

	gocmp "github.com/google/go-cmp/cmp"
)

// fakeProc is a /proc that a test writes.
type fakeProc struct {
	*testing.T
	dir procfs.Dir
}

func (f fakeProc) write(pid int, name, text string) {
	f.Helper()
	path := f.dir.Path(pid, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
		os.WriteFile(path, []byte(text), 0o644)); err != nil {
		f.Fatal(err)
	}
}

func (f fakeProc) stat(pid, parent, started int) {
	f.Helper()
	f.write(pid, "stat", fmt.Sprintf("%d (a ) b) S %d %s %d 0 0", pid, parent,
		"0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", started))
}

// TestChildren: it has a child that the kernel's list leaves out by mistake,
// and none that has ended or is known to be ending.
func TestChildren(t *testing.T) {
	f := fakeProc{t, procfs.Dir(t.TempDir())}
	f.write(7, "task/7/children", "11 12 13 14 ")
	for _, pid := range []int{11, 12, 13, 14} {
		f.stat(pid, 7, 100+pid)
	}
	c, list, err := openChildren(f.dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	wantChildren(t, "at first", list, 11, 12, 13, 14)
	again := func(what string, pids ...int) {
		t.Helper()
		list, err := c.list()
		if err != nil {
			t.Fatal(err)
		}
		wantChildren(t, what, list, pids...)
	}
	f.write(7, "task/7/children", "11 12 ")
	f.stat(13, 1, 113) // its master is another's now
	again("left out by mistake, and taken over", 11, 12, 14)
	if err := os.RemoveAll(f.dir.Path(14, "")); err != nil {
		t.Fatal(err)
	}
	f.stat(12, 7, 500) // the list still names it
	c.dead[11] = true
	again("ended, and ending", 12)
	f.write(7, "task/7/children", "12 ")
	again("taken note of", 12)
	if len(c.dead) != 0 {
		t.Errorf("still remembered: %v", c.dead)
	}
}

// TestManyChildren: of more children than fit, the last one is not read by
// half.
func TestManyChildren(t *testing.T) {
	f := fakeProc{t, procfs.Dir(t.TempDir())}
	f.stat(11, 7, 111)
	f.stat(1234, 7, 1334)
	f.stat(12345, 7, 12445)
	f.write(7, "task/7/children", "11 "+strings.Repeat("99 ", (64<<10-5)/3)+"12345 ")
	c, list, err := openChildren(f.dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	wantChildren(t, "cut", list, 11)
}

// wantChildren: each child started 100 ticks after the number of its id.
func wantChildren(t *testing.T, what string, list []Process, pids ...int) {
	t.Helper()
	slices.SortFunc(list, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	var want []Process
	for _, pid := range pids {
		want = append(want, Process{pid, uint64(100 + pid)})
	}
	if d := gocmp.Diff(want, list); d != "" {
		t.Errorf("%s: -want +got\n%s", what, d)
	}
}
