package deploy_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite THIRD-PARTY-LICENSES")

// noticeFiles are what modules call the texts that go with a copy of them.
var noticeFiles = []string{"LICEN[CS]E*", "NOTICE*", "COPY*", "PATENTS*"}

// linked returns the name of each module that the program is linked with, with
// its version, and the directories of the packages that it takes from it.
func linked(t *testing.T) map[string][]string {
	t.Helper()
	c := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}"+
		"{{.Path}} {{.Version}}|{{.Dir}}|{{$.Dir}}{{end}}{{end}}", "../cmd/lasthop")
	c.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dirs := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 3 {
			continue // the standard library's
		}
		for dir := f[2]; strings.HasPrefix(dir, f[1]); dir = filepath.Dir(dir) {
			dirs[f[0]] = append(dirs[f[0]], dir)
		}
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	dirs["Go's standard library"] = []string{strings.TrimSpace(string(goroot))}
	return dirs
}

// notices returns each text of licenses with what it is for: one text once.
func notices(t *testing.T) []byte {
	t.Helper()
	users := map[string][]string{} // by text
	for name, dirs := range linked(t) {
		found := false
		for _, dir := range dirs {
			for _, pattern := range noticeFiles {
				files, _ := filepath.Glob(filepath.Join(dir, pattern))
				for _, file := range files {
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					found = true
					users[string(text)] = append(users[string(text)], name)
				}
			}
		}
		if !found {
			t.Errorf("%s: no license in %q", name, dirs)
		}
	}
	for text, names := range users {
		slices.Sort(names)
		users[text] = slices.Compact(names)
	}
	var out bytes.Buffer
	out.WriteString("lasthop is linked with these modules. Each text is for those above it.\n")
	for _, text := range slices.SortedFunc(maps.Keys(users), func(a, b string) int {
		return cmp.Or(slices.Compare(users[a], users[b]), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80),
			strings.Join(users[text], "\n"), strings.Trim(text, "\n"))
	}
	return out.Bytes()
}

// TestLicenses: what `make install` installs has the license of each module
// that the program of this tree is linked with, and of no other.
func TestLicenses(t *testing.T) {
	const file = "THIRD-PARTY-LICENSES"
	want := notices(t)
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what go.mod is now (%v): go test ./deploy -run TestLicenses "+
			"-update", file, err)
	}
}
