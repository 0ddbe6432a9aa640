package writer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"lasthop/internal/journal"
	"lasthop/report"
	"lasthop/routing"
)

// syslogPaths are where log daemons listen, as in log/syslog of the standard
// library. That package writes without a deadline: a datagram socket whose
// program does not read would block it for ever.
var syslogPaths = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

const (
	daemonNotice = 3<<3 | 5              // facility daemon, severity notice
	queuedMost   = 64                    // changes whose lines wait
	lineTime     = 50 * time.Millisecond // for the log to take one line
)

// newAudit reports changes and their users to the system's log, at the first of
// these sockets.
func newAudit(paths []string) *journal.Queue {
	if paths == nil {
		paths = syslogPaths
	}
	return journal.NewQueue(queuedMost, lineTime,
		func() (net.Conn, error) { return dialSyslog(paths) },
		func(lost int) []byte {
			return syslogLines(fmt.Sprintf("%d audit lines lost", lost))[0]
		})
}

// syslogLines are lines as syslog(3) sends them.
func syslogLines(lines ...string) (out [][]byte) {
	for _, line := range lines {
		out = append(out, fmt.Appendf(nil, "<%d>%s lasthop[%d]: %s\n", daemonNotice,
			time.Now().Format(time.Stamp), os.Getpid(), line))
	}
	return out
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

// auditLines are a line with the user and the digest, one for each write, and
// one for each failure.
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
