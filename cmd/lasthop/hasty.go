package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"lasthop/internal/writer"
)

// hasty is a stream whose reader may be stuck. It waits for the reader for a
// second altogether: an exit code must not wait for a full pipe.
type hasty struct {
	io.Writer
	stuck atomic.Bool
}

func (h *hasty) Write(p []byte) (int, error) {
	if h.stuck.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	p = bytes.Clone(p)
	err := writer.Within(time.Second, func() error {
		_, err := h.Writer.Write(p)
		return err
	})
	if err != nil {
		h.stuck.Store(errors.Is(err, os.ErrDeadlineExceeded))
		return 0, err
	}
	return len(p), nil
}
