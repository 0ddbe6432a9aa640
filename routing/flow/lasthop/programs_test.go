package lasthop_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lasthop/routing/flow/lasthop"

	"golang.org/x/sys/unix"
)

// pins returns what is pinned below a bpffs: "v1-7/1/tcp".
func pins(t *testing.T, root string) (generations []string) {
	t.Helper()
	found, err := filepath.Glob(root + "/lasthop/*/*/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		generations = append(generations,
			strings.TrimSuffix(strings.TrimPrefix(f, root+"/lasthop/"), "/tcp"))
	}
	return generations
}

// pinCases are what happens to pins.
var pinCases = []struct {
	name     string
	between  func(t *testing.T, root string)
	flows    int
	fresh    bool
	unpinned bool
	pins     string // after the second is open, then after it is attached
}{
	{"nothing", nil, 4096, false, false, "v1-7/1, v1-7/1"},
	{"another size", nil, 8192, true, false, "v1-7/1 v1-7/2, v1-7/2"},
	{"a pin is another map", func(t *testing.T, root string) {
		dir := root + "/lasthop/v1-7/1/"
		if err := os.Rename(dir+"hops", dir+"tcp"); err != nil {
			t.Fatal(err)
		}
	}, 4096, true, false, "v1-7/1 v1-7/2, v1-7/2"},
	{"a pin is gone", func(t *testing.T, root string) {
		if err := os.Remove(root + "/lasthop/v1-7/1/dead"); err != nil {
			t.Fatal(err)
		}
	}, 4096, true, false, "v1-7/1 v1-7/2, v1-7/2"}, // what is attached has the old one
	{"all pins are gone", func(t *testing.T, root string) {
		if err := (lasthop.Place{Root: root, Namespace: 7}).Unpin(0); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(root + "/lasthop"); !os.IsNotExist(err) {
			t.Errorf("the folder is left: %v", err)
		}
	}, 4096, false, false, "v1-7/2, v1-7/2"},
	{"an older layout", func(t *testing.T, root string) {
		if err := os.Rename(root+"/lasthop/v1-7",
			root+"/lasthop/v0-7"); err != nil {
			t.Fatal(err)
		}
	}, 4096, false, false, "v0-7/1 v1-7/2, v1-7/2"},
	{"another namespace", func(t *testing.T, root string) {
		if err := os.Rename(root+"/lasthop/v1-7",
			root+"/lasthop/v1-77"); err != nil {
			t.Fatal(err)
		}
	}, 4096, false, false, "v1-7/2 v1-77/1, v1-7/2 v1-77/1"},
	{"a read-only mount", readOnly(unix.MS_BIND), 4096, false, false, "v1-7/1, v1-7/1"},
	{"a read-only mount, another size", readOnly(unix.MS_BIND), 8192, true, true, ""},
	{"read-only", readOnly(0), 4096, true, true, ""},
	{"no bpffs", func(t *testing.T, root string) {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}, 4096, false, true, ", "},
}

// TestPins opens programs twice, with what happens to their pins between.
func TestPins(t *testing.T) {
	for _, tt := range pinCases {
		t.Run(tt.name, func(t *testing.T) {
			root := bpffs(t)
			place := lasthop.Place{Root: root, Namespace: 7}
			first := openPrograms(t, place, 4096, nil)
			if first.Fresh != nil || first.Unpinned != nil {
				t.Fatalf("the first: %v, %v", first.Fresh, first.Unpinned)
			}
			if tt.between != nil {
				tt.between(t, root)
			}
			second := openPrograms(t, place, tt.flows, []string{first.Tag()})
			if (second.Fresh != nil) != tt.fresh ||
				(second.Unpinned != nil) != tt.unpinned {
				t.Errorf("fresh: %v\nunpinned: %v", second.Fresh, second.Unpinned)
			}
			kept := second.Tag() == first.Tag()
			if want := tt.pins == "v1-7/1, v1-7/1"; tt.pins != "" && kept != want {
				t.Errorf("the tag was %s, is %s", first.Tag(), second.Tag())
			}
			if tt.pins == "" {
				return
			}
			got := strings.Join(pins(t, root), " ")
			if err := second.Attached(place); err != nil {
				t.Error(err)
			}
			if got += ", " + strings.Join(pins(t, root), " "); got != tt.pins {
				t.Errorf("pins %q, want %q", got, tt.pins)
			}
		})
	}
}

func readOnly(flags uintptr) func(t *testing.T, root string) {
	return func(t *testing.T, root string) {
		if err := unix.Mount("", root, "", flags|unix.MS_REMOUNT|unix.MS_RDONLY,
			""); err != nil {
			t.Fatal(err)
		}
	}
}

func openPrograms(t *testing.T, p lasthop.Place, flows int, attached []string) *lasthop.Programs {
	t.Helper()
	if p.Root == "/nonexistent" {
		t.Skip("no bpffs")
	}
	programs, err := lasthop.Open(p, flows, attached)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { programs.Close() })
	return programs
}

// TestSharedMaps: a process that opens the pins sees what another has written,
// also after that one has ended; Control reports its note once.
func TestSharedMaps(t *testing.T) {
	place := lasthop.Place{Root: bpffs(t), Namespace: 7}
	first := openPrograms(t, place, 4096, nil)
	a, b := lasthop.Hop{Link: 1}, lasthop.Hop{Link: 2}
	if err := first.SetDead(map[lasthop.Hop]lasthop.Hop{a: b}); err != nil {
		t.Fatal(err)
	}
	tag := first.Tag()
	first.Close()
	c := lasthop.Control{Place: place, Flows: 4096}
	defer c.Close()
	if s := c.Support([]string{tag}); s.Tag != tag || c.Note() != "" {
		t.Errorf("%+v; note %q", s, c.Note())
	}
	if _, got, err := c.Learn(); err != nil || got != tag || c.Note() != "" {
		t.Errorf("programs %s, %v; note %q", got, err, c.Note())
	}
	m, done, err := c.Maps()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if dead, err := m.Dead(); err != nil || dead[a] != b {
		t.Errorf("dead: %v, %v", dead, err)
	}
	larger := lasthop.Control{Place: place, Flows: 8192}
	defer larger.Close()
	larger.Support([]string{tag})
	_, got, err := larger.Answer()
	if err != nil || got == tag || !strings.Contains(larger.Note(), "maps are new") {
		t.Errorf("larger maps: %s, %v; note %q", got, err, larger.Note())
	}
	for _, attached := range [][]string{{tag}, {tag, larger.Support(nil).Tag}} {
		larger.Support(attached)
		if err := larger.Attached(); err != nil || len(pins(t, place.Root)) != 2 {
			t.Errorf("attached are %v, pinned %v, %v", attached, pins(t, place.Root),
				err)
		}
	}
	larger.Support([]string{larger.Support(nil).Tag})
	if err := larger.Attached(); err != nil || len(pins(t, place.Root)) != 1 {
		t.Errorf("pinned %v, %v", pins(t, place.Root), err)
	}
}

// TestPartlyAttached: a write that fails may have attached the programs before
// it failed, and no process has read the host since. Their maps keep their
// pins.
func TestPartlyAttached(t *testing.T) {
	place := lasthop.Place{Root: bpffs(t), Namespace: 7}
	c := lasthop.Control{Place: place, Flows: 4096}
	defer c.Close()
	c.Support(nil)
	_, tag, err := c.Learn()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attached(); err != nil || len(pins(t, place.Root)) != 1 {
		t.Errorf("pinned %v, %v", pins(t, place.Root), err)
	}
	if _, again, err := c.Learn(); err != nil || again != tag {
		t.Errorf("programs %s, then %s, %v", tag, again, err)
	}
	c.Support(nil)
	if err := c.Attached(); err != nil || len(pins(t, place.Root)) != 0 {
		t.Errorf("nothing is attached, and pinned %v, %v", pins(t, place.Root), err)
	}
}

// TestUnattached: maps that were made and never attached know no flows: their
// process ended first. The next one takes those of the maps that are attached.
func TestUnattached(t *testing.T) {
	for _, flows := range []int{8192, 16384} { // as in the process that ended, or not
		place := lasthop.Place{Root: bpffs(t), Namespace: 7}
		first := openPrograms(t, place, 4096, nil)
		attached := []string{first.Tag()}
		ended := openPrograms(t, place, 8192, attached)
		if err := first.Stuff(100); err != nil {
			t.Fatal(err)
		}
		ended.Close()
		n := 0
		second := openPrograms(t, place, flows, attached)
		second.Answer()
		err := second.Each(func(lasthop.Flow) bool { n++; return true })
		if err != nil || n != 200 {
			t.Errorf("%d flows are known, %v", n, err)
		}
	}
}
