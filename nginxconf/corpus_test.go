package nginxconf

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProveCorpus does what TestSockets does for any directory, CORPUS=DIR, or
// for the nginx below it. Files that NGINX refuses are adapted where that
// leaves the listens alone, and counted as refused where it does not help.
func TestProveCorpus(t *testing.T) {
	dir := os.Getenv("CORPUS")
	if dir == "" {
		t.Skip("CORPUS names no directory")
	}
	if below := filepath.Join(dir, "nginx"); exists(below) {
		dir = below
	}
	needNGINX(t)
	names := regularFiles(t, dir)
	if len(names) == 0 {
		t.Fatal("no files in ", dir)
	}
	var n tally
	t.Run("files", func(t *testing.T) {
		for _, name := range names {
			t.Run(strings.TrimPrefix(name, dir+"/"), func(t *testing.T) {
				t.Parallel()
				proveFile(t, &n, name)
			})
		}
	})
	fmt.Printf("%v (of %d files of %s)\n", &n, len(names), dir)
	if n.differing > 0 {
		t.Errorf("%v: want none differing", &n)
	}
}

func proveFile(t *testing.T, n *tally, name string) {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const maxFits = 30
	var last string
	original := globals.ReplaceAllString(string(data), "")
	for _, wrap := range wraps(original) {
		tr := newTrial(t, nil)
		cert := writeCertificate(t, tr.dir)
		text, ok := wrap[0]+original+wrap[1], true
		for i := 0; ok && i < maxFits; i++ {
			if err := os.WriteFile(filepath.Join(tr.dir, "nginx.conf"), []byte(text),
				0o644); err != nil {
				t.Fatal(err)
			}
			var got []string
			if got, last = tr.start(t, modules()+"error_log stderr;"); last == "" {
				proveAccepted(t, n, tr, got)
				return
			}
			if strings.Contains(last, "directive is not allowed here") &&
				!module.MatchString(original) ||
				strings.Contains(last, `no "events" section`) {
				break // the next wrap
			}
			text, ok = tr.fit(text, last, cert)
		}
	}
	n.count(&n.refused)
	t.Log("refused: ", last)
}

func proveAccepted(t *testing.T, n *tally, tr *trial, got []string) {
	if diff := tr.compare(got); diff != "" {
		n.count(&n.differing)
		t.Errorf("-predicted +opened\n%s", diff)
		return
	}
	n.count(&n.matched)
}

func regularFiles(t *testing.T, dir string) []string {
	var names []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestTrees loads every file below CORPUS/nginx-trees as a main file. Most are
// refused; none may hang, panic or fail without saying where.
func TestTrees(t *testing.T) {
	dir := filepath.Join(os.Getenv("CORPUS"), "nginx-trees")
	if !exists(dir) {
		t.Skip(dir, " is not here")
	}
	loaded, failed := 0, 0
	none := func(string) ([]netip.Addr, error) { return nil, errors.New("not asked") }
	for _, name := range regularFiles(t, dir) {
		start := time.Now()
		_, err := Load(name, Options{Resolve: none})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if err == nil {
			loaded++
			continue
		}
		failed++
		if e, ok := errors.AsType[*Error](err); !ok || e.File == "" || e.Hint() == "" ||
			strings.Contains(e.What, "parser failed") {
			t.Errorf("%s: %v, without place or hint", name, err)
		}
	}
	fmt.Printf("loaded %d, refused %d\n", loaded, failed)
	if loaded == 0 {
		t.Error("nothing was loaded")
	}
}
