package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A file that a program with fewer privileges replaces neither makes a reader
// wait nor fills its memory; the files next to it are read.
func TestOddFiles(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run/systemd/netif/links")
	if err := os.MkdirAll(filepath.Join(dir, "4"), 0o755); err != nil {
		t.Fatal(err)
	}
	line := []byte("NETWORK_FILE=/etc/systemd/network/eth0.network\n")
	long := filepath.Join(dir, "3")
	for _, err := range []error{
		unix.Mkfifo(filepath.Join(dir, "1"), 0o644),
		os.Symlink("/dev/zero", filepath.Join(dir, "2")),
		os.WriteFile(long, line, 0o644), os.Truncate(long, fileMost+1),
		os.WriteFile(filepath.Join(dir, "5"), line, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	links := []routing.Link{{Index: 1, Name: "fifo"}, {Index: 2, Name: "device"},
		{Index: 3, Name: "long"}, {Index: 4, Name: "directory"}, {Index: 5, Name: "eth0"}}
	got := make(chan map[string]string, 1)
	go func() { got <- NetworkFiles(root, links) }()
	select {
	case files := <-got:
		want := map[string]string{"eth0": "/etc/systemd/network/eth0.network"}
		if diff := cmp.Diff(want, files); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("reading waits for a FIFO or a device")
	}
}
