package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The commands with a real NGINX, and with a daemon: of the program that users
// run.

// Exit codes of lasthop.
const (
	exitDone      = 0
	exitFailed    = 1
	exitNotWanted = 2
)

// programDir is where program is built; TestMain removes it.
var programDir string

// program builds lasthop once, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "lasthop-program"); err != nil {
		return "", err
	}
	exe := filepath.Join(programDir, "lasthop")
	out, err := exec.Command("go", "build", "-trimpath", "-o", exe,
		"../../cmd/lasthop").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return exe, err
})

// runLasthop runs a command line and returns its output and exit code.
func runLasthop(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, args...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// lasthop runs a command line against the server's namespace.
func (s *server) lasthop(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	return runLasthop(s.t, append(args, "--netns", s.Path, "--run-dir", s.File("run"))...)
}

// TestStatus: the command says what the daemon does, and its exit code whether
// all is well.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if _, errs, code := s.lasthop("status"); code != exitFailed ||
		!strings.Contains(errs, "no lasthop runs in this network namespace") ||
		!strings.Contains(errs, "hint: start it") {
		t.Errorf("without a daemon: exit code %d, %s", code, errs)
	}
	s.StartNginx()
	s.start()
	out, errs, code := s.lasthop("status")
	if code != exitDone || errs != "" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, part := range []string{"lasthop: in sync", "NGINX (1)", "load 1",
		"Listeners (1): 1 installed", "10.0.1.1, from main's default", "Last change", ", start",
		"lookup 20431", "0 repairs"} {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q:\n%s", part, out)
		}
	}
	if !strings.Contains(strings.Join(strings.Fields(out), " "), ", 2 workers ") { // folded
		t.Errorf("it does not say 2 workers:\n%s", out)
	}
	s.valid("status", s.json("status"))

	s.Replace("events {")
	s.Until("trouble", func() bool { return !s.status().InSync })
	out, _, code = s.lasthop("status")
	if code != exitNotWanted || !strings.Contains(out, "NOT in sync") ||
		!strings.Contains(out, "nginx.conf:1: unexpected end of file") &&
			!strings.Contains(out, "nginx.conf") {
		t.Errorf("with a broken configuration: exit code %d\n%s", code, out)
	}
	s.valid("status", s.json("status"))
}

func (s *server) json(args ...string) string {
	s.t.Helper()
	out, errs, code := s.lasthop(append(args, "-o", "json")...)
	if code == exitFailed {
		s.t.Fatalf("%s: %s", args, errs)
	}
	return out
}

func (s *server) valid(schema, doc string) {
	s.t.Helper()
	c, err := jsonschema.NewCompiler().Compile(filepath.Join("../../docs/schema",
		schema+".json"))
	if err != nil {
		s.t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Validate(value); err != nil {
		s.t.Error(err)
	}
}

// TestOneWriter: while the daemon runs, apply asks it, and what would work
// against it is refused.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	s.Conf("listen 10.0.2.100:80;")
	out, errs, code := s.lasthop("apply", "--expect", "sha256:000000000000")
	if code != exitFailed || !strings.Contains(errs, "not the expected plan") ||
		!strings.Contains(errs, "hint: the host or the configuration has changed") ||
		out != "" {
		t.Errorf("another digest: exit code %d, %s%s", code, out, errs)
	}
	before := s.owned()
	doc := s.json("apply")
	s.valid("apply", doc)
	var applied struct{ Done, Checks []any }
	if err := json.Unmarshal([]byte(doc), &applied); err != nil || len(applied.Done) != 4 ||
		len(applied.Checks) != 2 {
		t.Errorf("%d changes and %d checks, want 4 and 2, %v", len(applied.Done),
			len(applied.Checks), err)
	}
	if o := s.owned(); !has(o, "from 10.0.2.") || !has(o, "from 10.0.1.") {
		t.Errorf("what NGINX has loaded and what is on disk are to be served both: %q", o)
	}
	s.Reload()
	s.Until("the old listener to go", func() bool { return !has(s.owned(), "from 10.0.1.") })
	if out, _, code := s.lasthop("apply"); code != exitDone ||
		!strings.Contains(out, "nothing to do") {
		t.Errorf("a second time: exit code %d, %s", code, out)
	}
	s.wantRefusals()
	if _, _, code := s.lasthop("clear", "--dry-run"); code != exitDone {
		t.Errorf("clear --dry-run: exit code %d", code)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := s.lasthop("clear"); code != exitDone || len(s.owned()) != 0 ||
		len(before) == 0 {
		t.Errorf("after the daemon's end: exit code %d, %s, left: %q", code,
			errs, s.owned())
	}
}

// wantRefusals wants that what would work against the daemon is refused, and
// that no other command advises it.
func (s *server) wantRefusals() {
	s.t.Helper()
	for _, command := range []string{"plan", "check"} {
		out, errs, _ := s.lasthop(command, "--gateway", "eth2=10.0.2.9")
		if strings.Contains(out, "lasthop apply") ||
			!strings.Contains(out, "lasthop.yaml, then run: lasthop reload") {
			s.t.Errorf("%s: not how to give the daemon a gateway: %s%s", command,
				out, errs)
		}
	}
	installed := s.owned()
	for _, args := range [][]string{{"apply", "--gateway", "eth1=10.0.1.9"},
		{"apply", "-c", s.File("nginx.conf")}, {"apply", "--confirm", "5s"}, {"clear"},
		{"run", "-c", s.File("nginx.conf")}} {
		out, errs, code := s.lasthop(args...)
		if code != exitFailed || out != "" || args[0] != "run" &&
			!strings.Contains(errs, "hint: systemctl stop lasthop (the routes stay)") {
			s.t.Errorf("%q: exit code %d, %s%s", args, code, out, errs)
		}
	}
	if d := cmp.Diff(installed, s.owned()); d != "" {
		s.t.Errorf("a refused command has changed: -before +after\n%s", d)
	}
}
