package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// TestFindingsPage holds docs/findings.md and the program together: a section
// for each code that is anywhere in the sources and for no other, with the
// severities that it is found with. A section says why it matters and what to
// do, in lines that a terminal shows whole.
func TestFindingsPage(t *testing.T) {
	inCode, inDocs := codesOfSources(t), codesOfPage(t)
	if len(inCode) < 40 {
		t.Fatalf("only %d codes found in the sources: the test does not read them right",
			len(inCode))
	}
	if diff := cmp.Diff(inCode, inDocs); diff != "" {
		t.Errorf("-in the sources +in docs/findings.md\n%s", diff)
	}
}

// codesOfPage returns the severities that each section names: "error or
// warning"; "none" for a reason without finding.
func codesOfPage(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string][]string{}
	for _, section := range strings.Split(string(page), "\n### ")[1:] {
		code, rest, _ := strings.Cut(section, "\n\n")
		line, text, _ := strings.Cut(strings.TrimPrefix(rest, "Severity: "), ". ")
		if _, twice := codes[code]; twice || len(strings.Fields(text)) < 12 {
			t.Errorf("%s: two sections, or one that explains nothing", code)
		}
		if !strings.Contains(text, "\nWhat to do: ") || line != "none" &&
			!strings.Contains(text, "\nWhy it matters: ") {
			t.Errorf("%s: it does not say why it matters, or what to do", code)
		}
		for l := range strings.Lines(section) {
			if utf8.RuneCountInString(l) > 101 {
				t.Errorf("%s: %d columns: %s", code, utf8.RuneCountInString(l), l)
			}
		}
		words := strings.Split(line, " or ")
		if codes[code] = sorted(words); line == "none" {
			codes[code] = nil
		}
	}
	return codes
}

func sorted(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

// codesOfSources returns all codes of findings, warnings and reasons with the
// severities that they may have.
func codesOfSources(t *testing.T) map[string][]string {
	t.Helper()
	codes := map[string][]string{}
	for dir := range mayImport { // all packages
		files, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil,
				parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					codesOfFunc(f, codes)
				}
			}
		}
	}
	for code := range codes {
		codes[code] = sorted(codes[code])
	}
	return codes
}

// codesOfFunc adds what a function finds. If it changes the severity or the
// code of a finding after making it, each of its codes may have each of its
// severities except for the first that stands with the first code.
func codesOfFunc(f *ast.FuncDecl, codes map[string][]string) {
	add := func(e ast.Expr, severities ...string) {
		if code := literal(e); code != "" {
			codes[code] = append(codes[code], severities...)
		}
	}
	var made []string // the codes of findings so far, which later assignments change
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			code, severity := finding(n)
			if add(code, severity); literal(code) != "" {
				made = append(made, literal(code))
			}
		case *ast.AssignStmt:
			assigned(n, made, codes, add)
		case *ast.ReturnStmt:
			if f.Name.Name == "unserved" && len(n.Results) > 1 {
				add(n.Results[0]) // why nothing has to be done
			}
		case *ast.CallExpr:
			switch name := called(n); {
			case len(n.Args) < 3:
			case name == "Finding": // routing.Error.Finding("port-taken", …)
				add(n.Args[0], severityOf(n.Fun.(*ast.SelectorExpr).X))
				made = append(made, literal(n.Args[0]))
			case name == "unresolved" || name == "warn":
				add(n.Args[1], "warning") // of a resolved listener, of a directive
			case name == "say":
				add(n.Args[0], "warning") // of a BIG-IP's configuration
			case name == "needs":
				add(n.Args[0], "warning") // of a virtual server
			case name == "manual":
				add(n.Args[0], "error")
			}
		}
		return true
	})
}

// finding returns code and severity of a literal that is a finding. Without a
// severity it is a nginxconf.Warning, or a routing.Finding that is only told.
func finding(n *ast.CompositeLit) (code ast.Expr, severity string) {
	fields := map[string]ast.Expr{}
	for _, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				fields[key.Name] = kv.Value
			}
		}
	}
	if fields["Code"] == nil || fields["Message"] == nil {
		return nil, ""
	}
	if severity = severityOf(fields["Severity"]); severity == "" {
		severity = "warning"
		if t, ok := n.Type.(*ast.SelectorExpr); ok && t.Sel.Name == "Finding" {
			severity = "info"
		}
	}
	return fields["Code"], severity
}

// assigned reads `r.Status, r.Reason = Off, "vrf"`, `f.Severity = Error` and
// `f.Code, f.Severity = "not-armed", Warning`.
func assigned(n *ast.AssignStmt, made []string, codes map[string][]string,
	add func(ast.Expr, ...string)) {
	values := map[string]ast.Expr{}
	for i, left := range n.Lhs {
		if s, ok := left.(*ast.SelectorExpr); ok && i < len(n.Rhs) {
			values[s.Sel.Name] = n.Rhs[i]
		}
	}
	severity := severityOf(values["Severity"])
	switch {
	case values["Reason"] != nil:
		add(values["Reason"])
	case values["Code"] != nil && severity != "":
		add(values["Code"], severity)
	case values["Code"] != nil && len(made) > 0:
		add(values["Code"], codes[made[len(made)-1]]...)
	case severity != "" && len(made) > 0:
		last := made[len(made)-1]
		codes[last] = append(codes[last], severity)
	}
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, _ := strconv.Unquote(l.Value)
		return s
	}
	return ""
}

// severityOf reads routing.Error or Error.
func severityOf(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		e = s.Sel
	}
	if i, ok := e.(*ast.Ident); ok &&
		slices.Contains([]string{"Error", "Warning", "Info"}, i.Name) {
		return strings.ToLower(i.Name)
	}
	return ""
}

func called(c *ast.CallExpr) string {
	if s, ok := c.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}
