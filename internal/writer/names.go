package writer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// NamesDir is where iproute2 reads names of tables in addition to its own file,
// from 4.4 on.
const NamesDir = "/etc/iproute2/rt_tables.d"

const namesTime = 100 * time.Millisecond // for the filesystem to take the names

var errNamesStuck = errors.New("write names of tables: the filesystem does not answer")

// NameTables gives the tables of the paths names like lasthop-eth1, so that
// people can read `ip rule` and `ip route show table lasthop-eth1`. It writes
// one file of its own, only if that has to change, and removes it when no table
// has a name. It does not wait for a filesystem that hangs.
func (w *Writer) NameTables(paths []routing.Path) error {
	if w.options.Names == "" {
		return nil
	}
	select {
	case w.naming <- struct{}{}:
	default:
		return errNamesStuck
	}
	err := Within(namesTime, func() error {
		defer func() { <-w.naming }()
		return writeTableNames(w.options.Names, paths)
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errNamesStuck
	}
	return err
}

func writeTableNames(dir string, paths []routing.Path) error {
	text := tableNames(paths)
	path := filepath.Join(dir, "lasthop.conf")
	old, err := os.ReadFile(path)
	if bytes.Equal(old, text) && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	if len(text) == 0 && os.Remove(path) == nil {
		return nil
	}
	if err == nil && unix.Access(dir, unix.W_OK) != nil {
		// The daemon's own user may write only the file that was made
		// for it.
		err = os.WriteFile(path, text, 0o644)
	} else {
		err = replaceFile(path, text)
	}
	if err != nil {
		return fmt.Errorf("write names of tables: %w", err)
	}
	return nil
}

// replaceFile writes a file that all users may read, whatever the umask. It
// renames, since the file may be another user's.
func replaceFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := path + ".new"
	err := os.WriteFile(next, text, 0o644)
	if err == nil {
		err = os.Chmod(next, 0o644)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next) // empty if the disk is full
	}
	return err
}

// plainName is what a name of a table may be made of; iproute2 splits at spaces
// and stops at "#".
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// tableNames is the text of the file.
func tableNames(paths []routing.Path) []byte {
	var text bytes.Buffer
	var named []uint32
	for _, p := range paths {
		if p.Table == 0 || slices.Contains(named, p.Table) ||
			!plainName.MatchString(p.Link) {
			continue
		}
		name := "lasthop-" + p.Link
		if bytes.Contains(text.Bytes(), []byte(" "+name+"\n")) {
			name = fmt.Sprintf("%s-%d", name, p.Table) // a link with two gateways
		}
		named = append(named, p.Table)
		fmt.Fprintf(&text, "%d %s\n", p.Table, name)
	}
	return text.Bytes()
}
