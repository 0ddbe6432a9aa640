package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lasthop/internal/hint"
)

// TestAbsent: status reports what systemd says of a unit that does not run, and
// the remedy. A script that prints the properties replaces systemctl.
func TestAbsent(t *testing.T) {
	for _, tt := range []struct{ properties, why, remedy string }{
		{"ActiveState=failed ExecMainStatus=78 Result=exit-code LoadState=loaded",
			"has refused its settings (exit status 78)", "lasthop test"},
		{"ActiveState=failed ExecMainStatus=1 Result=exit-code LoadState=loaded",
			"has failed (exit-code, exit status 1)", "journalctl -u lasthop"},
		{"ActiveState=failed ExecMainCode=2 ExecMainStatus=9 Result=oom-kill",
			"has failed (oom-kill, signal 9)", "journalctl -u lasthop"},
		{"ActiveState=activating SubState=auto-restart ExecMainStatus=1 NRestarts=17",
			"17 restarts, exit status 1", "lasthop test"},
		{"ActiveState=activating SubState=auto-restart ExecMainStatus=1 NRestarts=0",
			"again and again", "journalctl -u lasthop"},
		{"ActiveState=activating SubState=start ExecMainStatus=0 NRestarts=3",
			"again and again", "journalctl -u lasthop"},
		{"ActiveState=activating SubState=start ExecMainStatus=0 NRestarts=0",
			"is starting", "ask again"},
		{"ActiveState=active SubState=running", "another network namespace", "--netns"},
		{"ActiveState=inactive LoadState=loaded", "nothing answers on /run/x",
			"start it: systemctl start lasthop. "},
		{"ActiveState=inactive LoadState=not-found", "nothing answers", "lasthop run"},
		{"", "nothing answers", "lasthop run"},
	} {
		dir := t.TempDir()
		lines := strings.ReplaceAll(tt.properties, " ", "\n")
		script := "#!/bin/sh\n[ \"$1 $2\" = 'show lasthop.service' ] && echo '" +
			lines + "'\n"
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script),
			0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":/bin:/usr/bin")
		none := fmt.Errorf("%w: nothing answers on /run/x", ErrNone)
		err := Absent(none, true)
		if !strings.Contains(err.Error(), tt.why) ||
			!strings.Contains(hint.Of(err), tt.remedy) {
			t.Errorf("%s: %v; %s", tt.properties, err, hint.Of(err))
		}
		if far := Absent(none, false); far.Error() != none.Error() {
			t.Errorf("of another namespace: %v", far)
		}
	}
}
