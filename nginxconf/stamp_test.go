package nginxconf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestUnchanged: whatever makes another configuration of the files is noticed, and reading them is not.
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
			return os.WriteFile(filepath.Join(dir, "conf.d/a.conf"), []byte("server { listen 82; }"), 0o644)
		}, false},
		{"replaced by rename", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "new"), []byte("server { listen 81; }"), 0o644), os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "conf.d/a.conf")))
		}, false},
		{"deleted", func(dir string) error { return os.Remove(filepath.Join(dir, "conf.d/a.conf")) }, false},
		{"made unreadable", func(dir string) error { return os.Chmod(filepath.Join(dir, "nginx.conf"), 0) }, false},
		{"one more", func(dir string) error { return os.WriteFile(filepath.Join(dir, "conf.d/b.conf"), nil, 0o644) }, false},
		{"a directory that was not there", func(dir string) error { return os.Mkdir(filepath.Join(dir, "later.d"), 0o755) }, false},
		{"a link of a link's target swapped", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "now")), os.Symlink("two", filepath.Join(dir, "now")))
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, start := t.TempDir(), time.Now().Add(-10*time.Millisecond) // the clock of files ticks
			for name, text := range map[string]string{
				"nginx.conf":    "events {} http { include conf.d/*.conf; include later.d/*.conf; include now/x.conf; }",
				"conf.d/a.conf": "server { listen 81; }", "one/x.conf": "server { listen 91; }", "two/x.conf": "server { listen 92; }",
			} {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
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
			if now := c.Modified(); now.Before(start) || now.After(time.Now()) {
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
