package writer

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

func TestTableNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rt_tables.d")
	w := open(t, newMachine(routing.State{}), Options{Names: dir})
	write := func(paths ...routing.Path) string {
		t.Helper()
		if err := w.NameTables(paths); err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(filepath.Join(dir, "lasthop.conf"))
		return string(data)
	}
	got := write(routing.Path{Link: "eth1", Table: 20001},
		routing.Path{Link: "eth1", Table: 20001, Family: routing.IPv6},
		routing.Path{Link: "eth1", Table: 20002},
		routing.Path{Link: "eth2"}, routing.Path{Link: "bad name#", Table: 20003})
	if want := "20001 lasthop-eth1\n20002 lasthop-eth1-20002\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	info, err := os.Stat(filepath.Join(dir, "lasthop.conf"))
	if err != nil {
		t.Fatal(err)
	}
	write(routing.Path{Link: "eth1", Table: 20001}, routing.Path{Link: "eth1", Table: 20002})
	if again, err := os.Stat(filepath.Join(dir, "lasthop.conf")); err != nil ||
		!os.SameFile(info, again) {
		t.Errorf("the same names were written again: %v", err)
	}
	if got := write(); got != "" {
		t.Errorf("without tables: %q", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestUmask: other users may read what is for them, whatever the umask.
func TestUmask(t *testing.T) {
	run, names := t.TempDir(), t.TempDir()
	w := open(t, newMachine(routing.State{}), Options{RunDir: run, Names: names, Inode: 7})
	defer unix.Umask(unix.Umask(0o077))
	if err := w.NameTables([]routing.Path{{Link: "eth1", Table: 20001}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(change(routing.State{}, path(1))); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(names, "lasthop.conf"), GroupsFile(run, 7)} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode(); mode != 0o644 {
			t.Errorf("%s: mode %v, want 0644", file, mode)
		}
	}
}

// TestTableNamesStuck: a filesystem that hangs keeps a writer waiting for a
// moment, once; when it answers again the names are written. A pipe without a
// writer in place of the file is such a filesystem.
func TestTableNamesStuck(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "lasthop.conf")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, newMachine(routing.State{}), Options{Names: dir})
	paths := []routing.Path{{Link: "eth1", Table: 20001}}
	start := time.Now()
	for range 10 {
		if err := w.NameTables(paths); err == nil {
			t.Fatal("no error, though nothing can have been written")
		}
	}
	if took := time.Since(start); took > 5*namesTime {
		t.Errorf("ten times took %v", took)
	}
	f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // lets the reader go on
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	w.naming <- struct{}{} // once the goroutine has ended
	<-w.naming
	if err := w.NameTables(paths); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(pipe); err != nil || string(data) != "20001 lasthop-eth1\n" {
		t.Errorf("the file holds %q, %v", data, err)
	}
}
