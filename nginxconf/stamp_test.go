package nginxconf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUnchanged: whatever makes another configuration of the files is noticed,
// and reading them is not.
func TestUnchanged(t *testing.T) {
	tests := []struct {
		name string
		do   func(dir string) error
		want bool
	}{
		{"nothing", func(string) error { return nil }, true},
		{"read", func(dir string) error { _, err := os.ReadFile(filepath.Join(dir, "nginx.conf")); return err }, true},
		{"another file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "other"), nil, 0o644) }, true},
		{"written with the same size", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "conf.d/a.conf"),
				[]byte("server { listen 82; }"), 0o644)
		}, false},
		{"replaced by rename", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "new"),
				[]byte("server { listen 81; }"), 0o644),
				os.Rename(filepath.Join(dir, "new"),
					filepath.Join(dir, "conf.d/a.conf")))
		}, false},
		{"deleted", func(dir string) error { return os.Remove(filepath.Join(dir, "conf.d/a.conf")) }, false},
		{"made unreadable", func(dir string) error { return os.Chmod(filepath.Join(dir, "nginx.conf"), 0) }, false},
		{"one more", func(dir string) error { return os.WriteFile(filepath.Join(dir, "conf.d/b.conf"), nil, 0o644) }, false},
		{"a directory that was not there", func(dir string) error { return os.Mkdir(filepath.Join(dir, "later.d"), 0o755) }, false},
		{"a link of a link's target swapped", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "now")),
				os.Symlink("two", filepath.Join(dir, "now")))
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// the clock of files ticks
			dir, start := t.TempDir(), time.Now().Add(-10*time.Millisecond)
			for name, text := range map[string]string{
				"nginx.conf":    "events {} http { include conf.d/*.conf; include later.d/*.conf; include now/x.conf; }",
				"conf.d/a.conf": "server { listen 81; }", "one/x.conf": "server { listen 91; }", "two/x.conf": "server { listen 92; }",
			} {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
					os.WriteFile(path, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("one", filepath.Join(dir, "now")); err != nil {
				t.Fatal(err)
			}
			c, err := Load(filepath.Join(dir, "nginx.conf"), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			if _, now := c.Modified(); now.Before(start) || now.After(time.Now()) {
				t.Errorf("modified at %v, want a time since %v", now, start)
			}
			if got := c.Unchanged(); got != tt.want {
				t.Errorf("unchanged: %t, want %t", got, tt.want)
			}
		})
	}
	if (Config{}).Unchanged() {
		t.Error("what was never read is unchanged")
	}
}

// TestModified: the last change counts, whatever it was, and it is named.
func TestModified(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, step := range []struct {
		what, want string
		do         func() error
	}{
		{"made", "nginx.conf", func() error {
			return errors.Join(os.Mkdir(path("conf.d"), 0o755),
				os.WriteFile(path("nginx.conf"),
					[]byte("events {} http { include conf.d/*.conf; "+
						"include later.d/*.conf; }"), 0o644))
		}},
		{"a file more", "conf.d", func() error { return os.WriteFile(path("conf.d/a.conf"), []byte("server { listen 81; }"), 0o644) }},
		{"written", "conf.d/a.conf", func() error { return os.WriteFile(path("conf.d/a.conf"), []byte("server { listen 82; }"), 0o644) }},
		{"dated back", "nginx.conf", func() error { return os.Chtimes(path("nginx.conf"), time.Unix(1e9, 0), time.Unix(1e9, 0)) }},
		{"a file less", "conf.d", func() error { return os.Remove(path("conf.d/a.conf")) }},
	} {
		last := time.Now()
		waitForClock(t, path("clock"), last)
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path("nginx.conf"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if name, at := c.Modified(); !strings.HasPrefix(name, path(step.want)) ||
			at.Before(last) || at.After(time.Now()) {
			t.Errorf("%s: %s at %v, want %s after %v", step.what, name, at,
				step.want, last)
		}
	}
	if name, at := (Config{}).Modified(); name != "" || !at.IsZero() {
		t.Errorf("nothing was read, and %q changed at %v", name, at)
	}
}

// waitForClock waits until what is written gets a later time: the kernel's
// clock of files is coarse.
func waitForClock(t *testing.T, file string, after time.Time) {
	t.Helper()
	for {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.ModTime().After(after) {
			return
		}
	}
}
