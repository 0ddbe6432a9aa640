package main

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
	"time"
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
	type result struct {
		n   int
		err error
	}
	doneC := make(chan result, 1)
	p = bytes.Clone(p)
	go func() {
		n, err := h.Writer.Write(p)
		doneC <- result{n, err}
	}()
	select {
	case r := <-doneC:
		return r.n, r.err
	case <-time.After(time.Second):
		h.stuck.Store(true)
		return 0, os.ErrDeadlineExceeded
	}
}
