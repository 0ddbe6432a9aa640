package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The arrows of the design point one way: each package of this module, and the
// other packages that it may import. Tests may import any package.
var mayImport = map[string]string{
	"bigip":           "internal/hint routing",
	"bigip/migrate":   "bigip internal/hint routing",
	"deploy":          "",
	"docs":            "",
	"nginxconf":       "internal/hint internal/procfs",
	"report":          "bigip/migrate internal/hint routing",
	"routing":         "",
	"routing/capture": "internal/hint routing",
	"routing/flow":    "routing",

	"routing/flow/lasthop": "routing",

	"routing/host": "internal/hint internal/procfs routing",
	"routing/sim":  "routing",
	"watcher":      "internal/hint internal/procfs nginxconf",

	"internal/help":       "deploy docs internal/hint report",
	"internal/hint":       "",
	"internal/journal":    "",
	"internal/bench":      "",
	"internal/netlab":     "",
	"internal/nstest":     "",
	"internal/procfs":     "",
	"internal/plus":       "internal/hint",
	"internal/screen":     "",
	"internal/settings":   "internal/hint internal/plus routing",
	"internal/sockets":    "internal/procfs routing routing/host",
	"internal/writer":     "internal/hint internal/journal internal/settings report routing",
	"internal/completion": "internal/help internal/settings internal/survey routing",

	"internal/survey": "internal/hint internal/procfs internal/settings nginxconf report " +
		"routing routing/capture routing/flow routing/flow/lasthop routing/host watcher",
	"internal/doctor": "internal/hint internal/procfs internal/settings internal/sockets " +
		"internal/survey nginxconf report routing routing/host",
	"internal/daemon": "internal/doctor internal/hint internal/journal internal/plus " +
		"internal/procfs internal/screen internal/settings internal/sockets " +
		"internal/survey internal/writer nginxconf report routing " +
		"routing/flow/lasthop routing/host watcher",
	"cmd/lasthop": "bigip bigip/migrate internal/completion internal/daemon " +
		"internal/doctor internal/help internal/hint internal/journal internal/settings " +
		"internal/survey internal/writer " +
		"nginxconf report routing routing/capture routing/flow routing/flow/lasthop " +
		"routing/host watcher",
}

// ownedBy says which packages may import third-party modules. A dependency that
// is not here has no place in the design.
var ownedBy = map[string]string{
	"github.com/cilium/ebpf":                  "routing/flow/lasthop",
	"github.com/coreos/go-systemd/v22":        "internal/daemon internal/journal",
	"github.com/fsnotify/fsnotify":            "watcher",
	"github.com/go-json-experiment/json":      "routing/capture",
	"github.com/goccy/go-yaml":                "internal/settings",
	"github.com/nginxinc/nginx-go-crossplane": "nginxconf",
	"github.com/prometheus/client_golang":     "internal/daemon",
	"github.com/spf13/cobra":                  "cmd/lasthop",
	"github.com/spf13/pflag":                  "cmd/lasthop internal/help",
	"github.com/vishvananda/netlink":          "routing/host",
	"github.com/vishvananda/netns":            "internal/nstest routing/host",
	"go4.org/netipx":                          "bigip bigip/migrate routing routing/host",
	"golang.org/x/net":                        "routing/flow",
	"golang.org/x/sync":                       "internal/daemon",
	"golang.org/x/sys": "cmd/lasthop internal/daemon internal/nstest internal/procfs " +
		"internal/screen internal/settings internal/sockets internal/survey internal/writer nginxconf " +
		"routing/flow routing/flow/lasthop routing/host watcher",
}

// pure are the packages that take values and return values. They import nothing
// that reads, waits, logs or runs concurrently, and start no goroutine.
var pure = map[string]bool{"routing": true, "routing/capture": true, "routing/sim": true,
	"bigip/migrate": true}

var impure = []string{"bufio", "context", "io/fs", "log", "log/slog", "math/rand",
	"math/rand/v2", "net", "os", "os/exec", "os/signal", "path/filepath", "sync",
	"sync/atomic", "syscall", "unsafe"}

// The sizes. Wider things hide how much they do.
const (
	maxFunction = 54 // lines: a screen
	maxFields   = 15
	maxMethods  = 25
	maxColumns  = 100 // with tabs of 8
	maxComment  = 80  // of a line with only a comment
	maxCommand  = 1800
)

// pureData are structs that may have more fields: each is a record of something
// that has as many, and has next to no methods.
var pureData = map[string]string{
	"bigip.Config":      "what the files hold: a kind of object is a field",
	"bigip/migrate.Row": "a row of the CSV: a column is a field",
	"routing.Rule":      "the kernel's rule: a selector is a field",
}

// house collects what is wrong with a tree of packages.
type house struct {
	wrong    []string
	packages map[string]bool
	methods  map[string]int // by type
	excused  map[string]bool
	lines    map[string]int // of a package, without tests
}

func newHouse() *house {
	return &house{packages: map[string]bool{}, methods: map[string]int{},
		excused: map[string]bool{}, lines: map[string]int{}}
}

func (h *house) complain(format string, args ...any) {
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// TestHouse holds this module to the rules above.
func TestHouse(t *testing.T) {
	h := newHouse()
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." ||
			d.Name() == "testdata" || d.Name() == "artifacts"):
			return fs.SkipDir
		case path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return h.add(name, string(text))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range h.close() {
		t.Error(s)
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(mayImport)),
		slices.Sorted(maps.Keys(h.packages))); d != "" {
		t.Errorf("packages: -the list +the tree\n%s", d)
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(pureData)),
		slices.Sorted(maps.Keys(h.excused))); d != "" {
		t.Errorf("structs of many fields: -the list +the tree\n%s", d)
	}
}

// add looks at one file.
func (h *house) add(name, text string) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	f := &houseFile{h, name, path.Dir(name), strings.HasSuffix(name, "_test.go"), set}
	h.packages[f.dir] = true
	if !f.test {
		h.lines[f.dir] += strings.Count(text, "\n")
		for _, i := range file.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			f.imports(imported)
		}
	}
	for _, d := range file.Decls {
		f.declared(d)
	}
	f.columns(file, text)
	return nil
}

// close returns all that is wrong.
func (h *house) close() []string {
	for _, receiver := range slices.Sorted(maps.Keys(h.methods)) {
		if n := h.methods[receiver]; n > maxMethods {
			h.complain("%s has %d methods: it is two things", receiver, n)
		}
	}
	if n := h.lines["cmd/lasthop"]; n > maxCommand {
		h.complain("cmd/lasthop has %d lines: what it does belongs below internal", n)
	}
	return h.wrong
}

// houseFile is one file of a house.
type houseFile struct {
	*house
	name, dir string
	test      bool
	set       *token.FileSet
}

func (f *houseFile) line(p token.Pos) int { return f.set.Position(p).Line }

// imports holds one import to the arrows.
func (f *houseFile) imports(imported string) {
	path, internal := strings.CutPrefix(imported, "lasthop/")
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case internal:
		if !slices.Contains(strings.Fields(mayImport[f.dir]), path) {
			f.complain("%s imports %s, against the arrows", f.name, imported)
		}
	case !strings.Contains(first, "."):
		if pure[f.dir] && slices.Contains(impure, imported) {
			f.complain("%s imports %s, but its package only takes and gives values",
				f.name, imported)
		}
	default:
		for module, owners := range ownedBy {
			if (imported == module || strings.HasPrefix(imported, module+"/")) &&
				slices.Contains(strings.Fields(owners), f.dir) {
				return
			}
		}
		f.complain("%s imports %s, which is for other packages", f.name, imported)
	}
}

// declared checks one declaration against the sizes, and a pure package for
// goroutines.
func (f *houseFile) declared(d ast.Decl) {
	switch x := d.(type) {
	case *ast.FuncDecl:
		first := f.line(x.Pos())
		if n := f.line(x.End()) - first + 1; n > maxFunction {
			f.complain("%s:%d: %s has %d lines", f.name, first, x.Name.Name, n)
		}
		if x.Recv != nil && !f.test {
			f.methods[f.dir+"."+receiverName(x.Recv.List[0].Type)]++
		}
	case *ast.GenDecl:
		for _, spec := range x.Specs {
			if named, ok := spec.(*ast.TypeSpec); ok && !f.test {
				f.fields(named)
			}
		}
	}
	ast.Inspect(d, func(n ast.Node) bool {
		if s, ok := n.(*ast.GoStmt); ok && pure[f.dir] && !f.test {
			f.complain("%s:%d: a goroutine, but its package only takes and gives "+
				"values", f.name, f.line(s.Pos()))
		}
		return true
	})
}

// receiverName is the type's name, without pointer and type parameters.
func receiverName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.StarExpr:
		return receiverName(x.X)
	case *ast.IndexExpr:
		return receiverName(x.X)
	case *ast.IndexListExpr:
		return receiverName(x.X)
	case *ast.Ident:
		return x.Name
	}
	return "?"
}

func (f *houseFile) fields(named *ast.TypeSpec) {
	s, ok := named.Type.(*ast.StructType)
	if !ok || s.Fields.NumFields() <= maxFields {
		return
	}
	name := f.dir + "." + named.Name.Name
	if _, ok := pureData[name]; ok {
		f.excused[name] = true
		return
	}
	f.complain("%s:%d: %s has %d fields: it is two things", f.name, f.line(named.Pos()),
		named.Name.Name, s.Fields.NumFields())
}

// columns finds lines that are too wide, if people write them. It ignores rows
// of tables of tests, raw strings, and commands in comments, which begin with a
// tab.
func (f *houseFile) columns(file *ast.File, text string) {
	free := map[int]bool{}
	release := func(n ast.Node) {
		for i := f.line(n.Pos()); i <= f.line(n.End()); i++ {
			free[i] = true
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.BasicLit:
			if strings.HasPrefix(x.Value, "`") {
				release(x)
			}
		case *ast.CompositeLit:
			switch x.Type.(type) {
			case *ast.ArrayType, *ast.MapType:
				for _, row := range x.Elts {
					if f.test {
						release(row)
					}
				}
			}
		}
		return true
	})
	if ast.IsGenerated(file) {
		return
	}
	for i, line := range strings.Split(text, "\n") {
		width, limit := utf8.RuneCountInString(line)+7*strings.Count(line, "\t"), maxColumns
		code := strings.TrimSpace(line)
		if strings.HasPrefix(code, "//") {
			limit = maxComment
		}
		if width > limit && !free[i+1] && !strings.HasPrefix(code, "//\t") {
			f.complain("%s:%d: %d columns", f.name, i+1, width)
		}
	}
}

// TestHouseRules breaks each rule once.
func TestHouseRules(t *testing.T) {
	long := strings.Repeat("x", 101)
	fields := func(n int) string { return strings.Repeat("\na int", n) }
	for _, tt := range []struct{ name, file, text, want string }{
		{"nothing", "routing/a.go", `import ("fmt"; "go4.org/netipx")`, ""},
		{"arrow", "report/a.go", `import "lasthop/routing"`, ""},
		{"against an arrow", "routing/a.go", `import "lasthop/report"`, "routing/a.go imports lasthop/report, against the arrows"},
		{"leaf", "internal/hint/a.go", `import "lasthop/routing"`, "internal/hint/a.go imports lasthop/routing, against the arrows"},
		{"arrow of a test", "routing/a_test.go", `import "lasthop/report"`, ""},
		{"owner", "routing/host/a.go", `import "github.com/vishvananda/netlink/nl"`, ""},
		{"not the owner", "internal/daemon/a.go", `import "github.com/vishvananda/netlink"`, "internal/daemon/a.go imports github.com/vishvananda/netlink, which is for other packages"},
		{"nobody's", "cmd/lasthop/a.go", `import "example.org/left-pad"`, "cmd/lasthop/a.go imports example.org/left-pad, which is for other packages"},
		{"crossplane", "watcher/a.go", `import "github.com/nginxinc/nginx-go-crossplane"`, "watcher/a.go imports github.com/nginxinc/nginx-go-crossplane, which is for other packages"},
		{"impure", "routing/a.go", `import "os"`, "routing/a.go imports os, but its package only takes and gives values"},
		{"impure elsewhere", "watcher/a.go", `import "os"`, ""},
		{"goroutine", "routing/a.go", "func f() { go f() }", "routing/a.go:2: a goroutine, but its package only takes and gives values"},
		{"screen", "watcher/a.go", "func f() {" + strings.Repeat("\n", 53) + "}", ""},
		{"more than a screen", "watcher/a_test.go", "func f() {" + strings.Repeat("\n", 54) + "}", "watcher/a_test.go:2: f has 55 lines"},
		{"fields", "watcher/a.go", "type T struct {" + fields(15) + "}", ""},
		{"many fields", "watcher/a.go", "type T struct {" + fields(14) + "\nb, c int }", "watcher/a.go:2: T has 16 fields: it is two things"},
		{"many fields of data", "routing/a.go", "type Rule struct {" + fields(16) + "}", ""},
		{"methods", "watcher/a.go", strings.Repeat("func (t T) f() {}\n", 25), ""},
		{"many methods", "watcher/a.go", strings.Repeat("func (t T) f() {}\nfunc (t *T) f() {}\n", 13), "watcher.T has 26 methods: it is two things"},
		{"wide", "watcher/a.go", "type A " + long, "watcher/a.go:2: 108 columns"},
		{"wide by tabs", "watcher/a.go", "\t\ttype A " + long[23:], "watcher/a.go:2: 101 columns"},
		{"as wide as may be", "watcher/a.go", "\t\ttype A " + long[24:] + "\n\t// " + long[32:], ""},
		{"wide comment", "watcher/a.go", "\t// " + long[31:], "watcher/a.go:2: 81 columns"},
		{"wide command in a comment", "watcher/a.go", "//\t" + long, ""},
		{"wide raw string", "watcher/a.go", "const c = `\n" + long + "`", ""},
		{"wide row", "watcher/a_test.go", "var v = []string{\n\"" + long + "\",\n}", ""},
		{"wide row that is no test's", "watcher/a.go", "var v = []string{\n\"" + long + "\",\n}", "watcher/a.go:3: 104 columns"},
		{"long command", "cmd/lasthop/a.go", strings.Repeat("\n", 1800), "cmd/lasthop has 1801 lines: what it does belongs below internal"},
	} {
		h := newHouse()
		if err := h.add(tt.file, "package p\n"+tt.text); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, strings.Join(h.close(), "\n")); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}
