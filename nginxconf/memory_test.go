package nginxconf

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A small file costs little memory, however often it is read: people have
// thousands of them.
func TestLoadMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nginx.conf")
	text := "events {}\nhttp { server { listen 192.0.2.1:80; } }\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const times, most = 50, 48 << 10 // bytes a file
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		if _, err := Load(file, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / times; got > most {
		t.Errorf("%d bytes for a small file, want at most %d", got, most)
	} else {
		t.Logf("%d bytes", got)
	}
}
