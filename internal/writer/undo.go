package writer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lasthop/report"
	"lasthop/routing"
)

// KeepUndo keeps a script that undoes the changes of a plan, and returns its
// path. `sh PATH undo` runs it.
func (w *Writer) KeepUndo(p report.Plan, back routing.Diff) (path string, err error) {
	var script bytes.Buffer
	if err := report.Script(&script, p, back); err != nil {
		return "", err
	}
	// Not in the directory of the daemon's user: root will run it.
	dir := w.options.RunDir + "-undo"
	digest := strings.TrimPrefix(p.Digest, "sha256:")
	path = filepath.Join(dir, fmt.Sprintf("undo-%s.sh", digest[:12]))
	if err = os.MkdirAll(dir, 0o755); err == nil {
		err = os.WriteFile(path, script.Bytes(), 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("keep the undo script: %w", err)
	}
	return path, nil
}
