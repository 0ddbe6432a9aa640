package writer

import (
	"os"
	"time"
)

// Within runs f in a goroutine of its own, and waits for its end only for the
// given time: then it returns os.ErrDeadlineExceeded, and f goes on. It is for
// readers, disks and programs that may be stuck.
func Within(limit time.Duration, f func() error) error {
	doneC := make(chan error, 1)
	go func() { doneC <- f() }()
	select {
	case err := <-doneC:
		return err
	case <-time.After(limit):
		return os.ErrDeadlineExceeded
	}
}
