package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing/sim"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The scripts of testdata/script say what the commands print and how they end.
// Those whose name begins with ns- get a network namespace: $NETNS is its path,
// and `host FILE` builds in it what the file says in the words of package sim.

func TestMain(m *testing.M) {
	testscript.Main(inNamespace{m}, map[string]func(){"lasthop": main})
}

// inNamespace runs the tests where network namespaces can be made.
type inNamespace struct{ m *testing.M }

func (n inNamespace) Run() int { return nstest.Main(n.m) }

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d scripts, %v, want at least 15", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			s := scripting{}
			if strings.HasPrefix(name, "ns-") {
				s.ns = nstest.New(t)
			}
			testscript.Run(t, testscript.Params{Files: []string{file},
				RequireExplicitExec: true, Setup: s.setup,
				UpdateScripts: flag.Lookup("update").Value.String() == "true",
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"host": s.host, "exits": exits, "field": field,
					"valid": valid, "within": s.within}})
		})
	}
}

type scripting struct{ ns *nstest.NS }

func (s scripting) setup(e *testscript.Env) error {
	if s.ns != nil {
		e.Setenv("NETNS", s.ns.Path)
	}
	e.Setenv("SSH_CONNECTION", "")
	return nil
}

// host builds a host in the namespace.
func (s scripting) host(ts *testscript.TestScript, _ bool, args []string) {
	h, err := sim.Parse(ts.ReadFile(args[0]))
	ts.Check(err)
	all, six := h.Batch()
	s.ns.Batch(all)
	if six != "" {
		ts.Fatalf("host: no IPv6 rules here")
	}
	// the kernel adds the routes of IPv6 addresses by itself, a moment later
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		out, err := s.ns.Command("ip", "-6", "addr", "show", "tentative").Output()
		ts.Check(err)
		if len(out) == 0 {
			return
		}
	}
	ts.Fatalf("host: IPv6 addresses stay tentative")
}

// within runs a command in the namespace.
func (s scripting) within(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("nsenter", append([]string{"--net=" + s.ns.Path, "--"}, args...)...)
	if (err != nil) != neg {
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

// exits runs a command and wants its exit code: exits 2 lasthop check.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = fmt.Sprint(exit.ExitCode())
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// field puts a top-level key of the JSON that was printed into a variable:
// field DIGEST digest.
func field(ts *testscript.TestScript, _ bool, args []string) {
	var doc map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc))
	value, ok := doc[args[1]]
	if !ok {
		ts.Fatalf("the document has no %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

// valid holds the JSON that was printed against docs/schema: valid plan.
func valid(ts *testscript.TestScript, _ bool, args []string) {
	_, file, _, _ := runtime.Caller(0)
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(filepath.Dir(file),
		"../../docs/schema", args[0]+".json"))
	ts.Check(err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(ts.ReadFile("stdout")))
	ts.Check(err)
	ts.Check(schema.Validate(doc))
}
