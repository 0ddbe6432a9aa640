package docs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// row is what a row of the tables of packages begins with.
var row = regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\| ")

// TestPackages: the tables of architecture.md have each package of this tree,
// once, and no other.
func TestPackages(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(page), "\nImports point one way: ")
	var told, there []string
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		told = append(told, m[1])
	}
	err = fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		switch dir := path.Dir(name); {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(name) > 1 && name[0] == '.'):
			return fs.SkipDir
		case path.Ext(name) == ".go" && !slices.Contains(there, dir):
			there = append(there, dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(told)
	slices.Sort(there)
	if d := cmp.Diff(there, told); d != "" {
		t.Errorf("-in the tree +in architecture.md\n%s", d)
	}
}
