package nstest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Promtool runs promtool (Debian's package prometheus) and returns its output;
// it fails the test if promtool finds a mistake or has advice. Without promtool
// it skips the test; with CI=true it fails the test.
func Promtool(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := exec.Command(path, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
