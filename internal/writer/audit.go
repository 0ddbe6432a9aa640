package writer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"lasthop/report"
	"lasthop/routing"
)

// syslogPaths are where log daemons listen, as in log/syslog of the standard
// library. That package writes without a deadline: a datagram socket whose
// program does not read would keep it waiting for ever.
var syslogPaths = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

const (
	daemonNotice = 3<<3 | 5               // facility daemon, severity notice
	queuedMost   = 64                     // changes whose lines wait
	lineTime     = 50 * time.Millisecond  // for the log to take one line
	flushTime    = 100 * time.Millisecond // at the end, for a log that takes none
	flushRounds  = 10                     // of flushTime, for a log that takes lines
)

// audit tells the system's log who changed what. The lines go through a queue
// to a task of their own.
type audit struct {
	log    *slog.Logger
	paths  []string
	queueC chan []string
	ended  chan struct{}
	queued atomic.Int64 // lines
	lost   atomic.Int64 // lines; 0 again once they are told
	conn   net.Conn     // of the task; nil if there is none
}

func newAudit(paths []string, log *slog.Logger) *audit {
	if paths == nil {
		paths = syslogPaths
	}
	a := &audit{log: log, paths: paths, queueC: make(chan []string, queuedMost),
		ended: make(chan struct{})}
	go a.run()
	return a
}

// record queues the lines of a change. It does not wait.
func (a *audit) record(lines []string) {
	n := int64(len(lines))
	a.queued.Add(n)
	select {
	case a.queueC <- lines:
	default:
		a.queued.Add(-n)
		a.lost.Add(n)
	}
}

// close ends the task and returns how many lines are lost.
func (a *audit) close() int64 {
	close(a.queueC)
	for range flushRounds {
		queued, lost := a.queued.Load(), a.lost.Load()
		select {
		case <-a.ended:
			return a.lost.Load()
		case <-time.After(flushTime):
		}
		if a.queued.Load() == queued || a.lost.Load() > lost {
			break
		}
	}
	return a.lost.Load() + a.queued.Load()
}

// run hands the lines to the system's log until the queue is closed.
func (a *audit) run() {
	defer close(a.ended)
	for lines := range a.queueC {
		for i, line := range lines {
			err := a.send(line)
			if err == nil && a.conn == nil { // no log daemon: none for the others
				a.queued.Add(int64(i - len(lines)))
				break
			}
			a.queued.Add(-1)
			if err != nil {
				a.lost.Add(1)
			} else if lost := a.lost.Swap(0); lost > 0 {
				a.log.Warn("audit lines lost: the system's log "+
					"did not take them in time", "lines", lost)
			}
		}
	}
	if a.conn != nil {
		a.conn.Close()
	}
}

// send writes one line. The connection of the line before may be one to a log
// daemon that has ended since: then there is a second try. A machine without a
// log daemon is no reason to complain.
func (a *audit) send(line string) (err error) {
	for range 2 {
		if a.conn == nil {
			if a.conn, err = dialSyslog(a.paths); a.conn == nil {
				return err
			}
		}
		_ = a.conn.SetWriteDeadline(time.Now().Add(lineTime))
		_, err = fmt.Fprintf(a.conn, "<%d>%s lasthop[%d]: %s\n", daemonNotice,
			time.Now().Format(time.Stamp), os.Getpid(), line)
		if err == nil {
			return nil
		}
		a.conn.Close()
		a.conn = nil
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return err
}

// dialSyslog opens the first socket that a log daemon has opened: nil, and no
// error, if none has.
func dialSyslog(paths []string) (_ net.Conn, failed error) {
	for _, network := range []string{"unixgram", "unix"} {
		for _, path := range paths {
			c, err := net.DialTimeout(network, path, lineTime)
			switch {
			case err == nil:
				return c, nil
			case !errors.Is(err, fs.ErrNotExist) &&
				!errors.Is(err, syscall.ECONNREFUSED) &&
				!errors.Is(err, syscall.EPROTOTYPE):
				failed = err
			}
		}
	}
	return nil, failed
}

// auditLines are a line with the person and the digest, one for each write, and
// one for what failed.
func (c Change) auditLines(done []routing.Op, err error) []string {
	command := c.Command
	if c.Cause != "" {
		command += " (" + strings.ReplaceAll(report.EscapeText(c.Cause), "\n", " ") + ")"
	}
	lines := []string{fmt.Sprintf("%s by %s: %d changes, digest %s", command,
		cmp.Or(c.By, Self()), len(done), c.Digest)}
	for _, op := range done {
		lines = append(lines, report.Line(op.Command()))
	}
	if err != nil {
		lines = append(lines, "failed: "+report.Escape(err.Error()))
	}
	return lines
}
