package daemon

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"lasthop/internal/journal"
	"lasthop/internal/writer"
)

// easyLog is a stream of lines whose reader may be stuck or gone, and whose
// disk may be full. A task of its own writes a line that is not taken in time;
// lines that come meanwhile are lost, and so is a line that cannot be written.
// The caller must not write from two goroutines at once.
type easyLog struct {
	w       io.Writer
	warning string        // in front of a line of its own: a priority, for the journal
	busy    chan struct{} // full while a line is being written
	lost    atomic.Int64
}

// lineTime is how long a line may delay the caller.
const lineTime = 50 * time.Millisecond

func newEasyLog(w io.Writer, p journal.Place) *easyLog {
	l := &easyLog{w: w, busy: make(chan struct{}, 1)}
	if p.Stream {
		l.warning = journal.Prefix(slog.LevelWarn)
	}
	return l
}

func (l *easyLog) Write(line []byte) (int, error) {
	select {
	case l.busy <- struct{}{}:
	default:
		l.lost.Add(1)
		return len(line), nil
	}
	text, lost := bytes.Clone(line), l.lost.Swap(0)
	if lost > 0 {
		text = fmt.Appendf(text, `%slevel=WARN msg="log lines lost: the log did not `+
			"take them in time\" lines=%d\n", l.warning, lost)
	}
	_ = writer.Within(lineTime, func() error { // there is no other place to report its failure
		defer func() { <-l.busy }()
		_, err := l.w.Write(text)
		if err != nil {
			l.lost.Add(lost + 1)
		}
		return err
	})
	return len(line), nil
}
