package deploy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// eventsInCode are the MESSAGE_IDs of internal/journal, each used somewhere
// else, and the attributes that log lines have.
func eventsInCode(t *testing.T) (ids []string, code string) {
	t.Helper()
	text, err := os.ReadFile("../internal/journal/event.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, pattern := range []string{"daemon", "writer", "journal"} {
		files, _ := filepath.Glob("../internal/" + pattern + "/*.go")
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
	}
	constants := regexp.MustCompile(`(?m)^\s+(\w+)\s+Event = "(.*?)"`)
	for _, m := range constants.FindAllStringSubmatch(string(text), -1) {
		ids = append(ids, m[2])
		if use := regexp.MustCompile(`(EventKey,\s+|:?= )(journal\.)?` + m[1] + `\b`); !use.
			MatchString(all.String()) {
			t.Errorf("no line has the event %s", m[1])
		}
	}
	return ids, all.String()
}

// TestCatalog: each event has an entry, each entry an event, and what an entry
// cites is an attribute of some line.
func TestCatalog(t *testing.T) {
	text, err := os.ReadFile("lasthop.catalog")
	if err != nil {
		t.Fatal(err)
	}
	want, code := eventsInCode(t)
	var got []string
	for _, entry := range strings.Split(string(text), "\n-- ")[1:] {
		head, body, _ := strings.Cut(entry, "\n\n")
		id, header, _ := strings.Cut(head, "\n")
		got = append(got, id)
		if !strings.HasPrefix(header, "Subject: ") || strings.TrimSpace(body) == "" {
			t.Errorf("%s has no subject, or no text", id)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" || len(got) < 10 ||
		len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("-code +catalog\n%s", d)
	}
	for _, m := range regexp.MustCompile(`LASTHOP_(\w+)`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(code, `"`+strings.ToLower(m[1])+`"`) {
			t.Errorf("no line has an attribute %s", m[0])
		}
	}
	for line := range strings.Lines(string(text)) {
		if len(line) > 110 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// TestCatalogCompiles: journalctl takes the catalog, and finds each entry.
func TestCatalogCompiles(t *testing.T) {
	exe, err := exec.LookPath("journalctl")
	if err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	dir := filepath.Join(root, "usr/lib/systemd/catalog")
	text, err := os.ReadFile("lasthop.catalog")
	if err := errors.Join(err, os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "lasthop.catalog"), text, 0o644)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, "--root="+root, "--update-catalog").CombinedOutput()
	if err != nil || strings.Contains(string(out), "lasthop.catalog") {
		t.Fatalf("journalctl --update-catalog: %v\n%s", err, out)
	}
	list, err := exec.Command(exe, "--root="+root, "--list-catalog").CombinedOutput()
	if err != nil {
		t.Fatalf("journalctl --list-catalog: %v\n%s", err, list)
	}
	ids, _ := eventsInCode(t)
	for _, id := range ids {
		if !strings.Contains(string(list), id+" lasthop: ") {
			t.Errorf("journalctl does not find %s in\n%s", id, list)
		}
	}
}
