package nginxconf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// changes are what may happen to a directory with a configuration, and whether
// Load would read the same afterwards.
var changes = []struct {
	name string
	do   func(dir string) error
	same bool
}{
	{"nothing", func(string) error { return nil }, true},
	{"read", func(dir string) error { _, err := os.ReadFile(dir + "/nginx.conf"); return err }, true},
	{"another file", func(dir string) error { return os.WriteFile(dir+"/other", nil, 0o644) }, true},
	{"written with the same size", func(dir string) error {
		return os.WriteFile(dir+"/conf.d/a.conf", []byte("server { listen 82; }\n"), 0o644)
	}, false},
	{"replaced by rename", func(dir string) error {
		return errors.Join(os.WriteFile(dir+"/new",
			[]byte("server { listen 81; }\n"), 0o644),
			os.Rename(dir+"/new", dir+"/conf.d/a.conf"))
	}, false},
	{"deleted", func(dir string) error { return os.Remove(dir + "/conf.d/a.conf") }, false},
	{"made unreadable", func(dir string) error { return os.Chmod(dir+"/nginx.conf", 0) }, false},
	{"one more", func(dir string) error { return os.WriteFile(dir+"/conf.d/b.conf", nil, 0o644) }, false},
	{"a directory that was not there", func(dir string) error { return os.Mkdir(dir+"/later.d", 0o755) }, false},
	{"a link of a link's target swapped", func(dir string) error {
		return errors.Join(os.Remove(dir+"/now"), os.Symlink("two", dir+"/now"))
	}, false},
}

// TestUnchanged: it notices every change that makes another configuration of
// the files, and ignores reads.
func TestUnchanged(t *testing.T) {
	for _, tt := range changes {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now().Add(-10 * time.Millisecond) // the clock of files ticks
			dir := write(t, `-- nginx.conf --
events {} http { include conf.d/*.conf; include later.d/*.conf; include now/x.conf; }
-- conf.d/a.conf --
server { listen 81; }
-- one/x.conf --
server { listen 91; }
-- two/x.conf --
server { listen 92; }
`)
			if err := os.Symlink("one", filepath.Join(dir, "now")); err != nil {
				t.Fatal(err)
			}
			c, err := Load(filepath.Join(dir, "nginx.conf"), Options{})
			if err := errors.Join(err, tt.do(dir)); err != nil {
				t.Fatal(err)
			}
			if _, now := c.Modified(); now.Before(start) || now.After(time.Now()) {
				t.Errorf("modified at %v, want a time since %v", now, start)
			}
			if got := c.Unchanged(); got != tt.same {
				t.Errorf("unchanged: %t, want %t", got, tt.same)
			}
		})
	}
	if (Config{}).Unchanged() {
		t.Error("what was never read is unchanged")
	}
}

// TestSameNames: other addresses of a host name make another configuration
// of the same files. Another order does not, nor a name server that is down.
func TestSameNames(t *testing.T) {
	dir := write(t, "-- nginx.conf --\nevents {} stream { server { listen a.example:1; "+
		"listen a.example:2; } server { listen b.example:1; } }\n")
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	answers := map[string][]netip.Addr{"a.example": addrs("2001:db8::1", "192.0.2.2",
		"192.0.2.1")}
	asked := 0
	c, err := Load(filepath.Join(dir, "nginx.conf"),
		Options{Resolve: func(host string) ([]netip.Addr, error) {
			asked++
			return answers[host], nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]netip.Addr{"a.example": addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"),
		"b.example": nil}
	if diff := cmp.Diff(want, c.Names,
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" ||
		asked != 2 {
		t.Errorf("asked %d times, want 2; names: -want +got\n%s", asked, diff)
	}
	for _, tt := range []struct {
		name string
		a, b []string
		same bool
	}{
		{"the same", []string{"2001:db8::1", "192.0.2.2", "192.0.2.1"}, nil, true},
		{"in another order", []string{"192.0.2.2", "192.0.2.1", "2001:db8::1"}, nil, true},
		{"no answer", nil, nil, true},
		{"another address", []string{"192.0.2.3", "192.0.2.1", "2001:db8::1"}, nil, false},
		{"one less", []string{"192.0.2.1", "2001:db8::1"}, nil, false},
		{"one that had none", []string{"2001:db8::1", "192.0.2.2", "192.0.2.1"}, []string{"192.0.2.1"}, false},
	} {
		answers = map[string][]netip.Addr{"a.example": addrs(tt.a...),
			"b.example": addrs(tt.b...)}
		got := c.SameNames(func(host string) ([]netip.Addr, error) {
			return answers[host], nil
		})
		if got != tt.same {
			t.Errorf("%s: the same: %t, want %t", tt.name, got, tt.same)
		}
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
