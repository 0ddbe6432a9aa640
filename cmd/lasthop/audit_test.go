package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// TestAuditLines: the log names the person behind sudo, and a name cannot make
// a line of its own.
func TestAuditLines(t *testing.T) {
	t.Setenv("SUDO_USER", "ann\nroot")
	done := []routing.Op{{Group: &routing.LinkGroup{Link: "e\x1b[1m", Group: 76}},
		{Group: &routing.LinkGroup{Link: "eth1", Group: 76}, Delete: true}}
	want := []string{
		`apply by ann\nroot: 2 changes, digest sha256:12`,
		`ip link set dev e\x1b[1m group 76`,
		"ip link set dev eth1 group 0",
		`failed: no\nway`,
	}
	if d := cmp.Diff(want,
		auditLines("apply", "sha256:12", done, errors.New("no\nway"))); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
