package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// tableNamesDir is where iproute2 reads names of tables beside its own file;
// 4.4 and later do.
const tableNamesDir = "/etc/iproute2/rt_tables.d"

// plainName is what a name of a table may be made of; iproute2 splits at spaces
// and stops at "#".
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// writeTableNames gives the tables names like lasthop-eth1, so that `ip rule`
// and `ip route show table lasthop-eth1` speak to people. It writes one file of
// its own, only if that has to change, and removes it when there is no table.
func writeTableNames(dir string, paths []routing.Path) error {
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
	path := filepath.Join(dir, "lasthop.conf")
	old, err := os.ReadFile(path)
	if bytes.Equal(old, text.Bytes()) && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	if text.Len() == 0 && os.Remove(path) == nil {
		return nil
	}
	// the daemon's own user may write the file that was made for it, and no
	// other
	if err == nil && unix.Access(dir, unix.W_OK) != nil {
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write names of tables: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write names of tables: %w", err)
	}
	if err := os.WriteFile(path+".new", text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write names of tables: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write names of tables: %w", err)
	}
	return nil
}

// nameTables writes the names where they are wanted and the tables are those of
// this machine's own namespace.
func (a *app) nameTables(s settings, paths []routing.Path) error {
	if a.flags.netns != "" {
		return nil
	}
	if !s.tableNames {
		paths = nil // they may have been wanted before
	}
	return writeTableNames(tableNamesDir, paths)
}
