package main_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	lasthop "lasthop/cmd/lasthop"

	"github.com/spf13/pflag"
)

// TestUnusedFlags: a mode of a command refuses each flag of the command that it
// does not use.
func TestUnusedFlags(t *testing.T) {
	for _, tt := range []struct{ mode, uses string }{
		{"plan --merge", ""},
		{"migrate -o nginx", "only skip"},
		{"migrate --verify", "nginx-conf listen config gateway return address direct " +
			"fail-closed netns autolasthop only skip observe"},
		{"status --watch", "netns"},
	} {
		args := append(strings.Fields(tt.mode), "no-such-file")
		command, _, err := lasthop.Command().Find(args)
		if err != nil {
			t.Fatal(err)
		}
		uses := append(strings.Fields(tt.uses), "config", "output", "run-dir", "help",
			strings.TrimPrefix(args[1], "--"))
		command.Flags().VisitAll(func(f *pflag.Flag) {
			if slices.Contains(uses, f.Name) {
				return
			}
			flag := "--" + f.Name
			if f.NoOptDefVal == "" {
				flag += "=1s"
			}
			if command.Name() == "status" {
				args = args[:2] // it takes no argument
			}
			var stdout, stderr bytes.Buffer
			code := lasthop.Run(&stdout, &stderr, append(slices.Clone(args), flag)...)
			if code != 1 || !strings.HasPrefix(stderr.String(), "lasthop: error: ") ||
				!strings.Contains(stderr.String(), "lasthop: hint: ") ||
				strings.Contains(stderr.String(), "no-such-file") {
				t.Errorf("lasthop %s %s: exit code %d\n%s", tt.mode, flag, code,
					stderr.String())
			}
		})
	}
}
