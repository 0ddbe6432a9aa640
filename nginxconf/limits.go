package nginxconf

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Limits of one Load, against accidents and attacks. They leave room for 50,000
// servers, with which NGINX itself takes gigabytes, and bound Load to 256 MiB.
const (
	loadTime    = 8 * time.Second // for files and parsing, not for host names
	maxIncludes = 100             // includes inside of includes
	maxBytes    = 64 << 20        // of all files
	maxNames    = 1 << 17         // of files and directories that patterns match
	maxKept     = 3_500_000       // what matters of all files, see scanner.kept
	maxVisits   = 1 << 22         // directives, each time that its file is included
	maxResults  = 150_000         // addresses, binds with their upstreams, warnings
)

func tooMuch(file string, line int) *Error {
	return &Error{File: file, Line: line, What: "too many directives",
		Fix: "look for files that include each other many times, or for one that is not " +
			"an NGINX configuration"}
}

// Hung counts the calls of Load and Unchanged that were given up because a file
// system does not answer. Each holds a thread until the file system answers;
// further calls are refused when there are more than a few. The zero value is
// ready.
type Hung struct{ n atomic.Int32 }

const maxHung = 8

// within calls f, and returns errSlow if it takes longer than limit. Then f
// goes on by itself, so what it writes must be its own. It returns errHung if
// too many calls hang already.
func within(h *Hung, limit time.Duration, f func()) error {
	if h == nil {
		h = &Hung{}
	}
	if h.n.Load() >= maxHung {
		return errHung
	}
	const running, ended, givenUp = 0, 1, 2
	var state atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
		if !state.CompareAndSwap(running, ended) {
			h.n.Add(-1)
		}
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
	}
	h.n.Add(1)
	if !state.CompareAndSwap(running, givenUp) {
		h.n.Add(-1)
		return nil
	}
	return errSlow
}

// Within calls f, which uses files, and returns an error if it takes longer
// than Load may, or if too many calls hang already. f then goes on by itself.
func (h *Hung) Within(f func()) error { return within(h, loadTime, f) }

// Any reports whether a call that was given up has not ended.
func (h *Hung) Any() bool { return h.n.Load() > 0 }

// place is what a Load is working on.
type place struct {
	file        string // with line: where path was named
	line        int
	path        string
	files, sums []string // that were read
	dirs        []string // that were listed
}

var (
	errSlow = fmt.Errorf("it takes longer than %v", loadTime)
	errHung = errors.New("earlier reads of files have not ended yet")
)

// overdue returns the error of a Load that was given up.
func overdue(p *place, slow error) *Error {
	e := ioError(p.file, p.line, p.path, slow)
	e.Fix = "check whether its disk or network file system answers"
	if slow == errHung {
		e.Fix += "; if it does not: correct nginx.conf, then systemctl restart lasthop"
	}
	e.Fix += "; what is installed stays as it is"
	return e
}
