package writer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// Hasty is a stream whose reader may be stuck. It waits for the reader for a
// second altogether: an exit code must not wait for a full pipe.
type Hasty struct {
	io.Writer
	stuck atomic.Bool
}

func (h *Hasty) Write(p []byte) (int, error) {
	if h.stuck.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	p = bytes.Clone(p)
	err := Within(time.Second, func() error {
		_, err := h.Writer.Write(p)
		return err
	})
	if err != nil {
		h.stuck.Store(errors.Is(err, os.ErrDeadlineExceeded))
		return 0, err
	}
	return len(p), nil
}
