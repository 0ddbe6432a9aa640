package main

import (
	"cmp"
	"fmt"
	"log/syslog"
	"os"
	"os/user"

	"lasthop/report"
	"lasthop/routing"
)

// audit tells the system's log who changed what: a line with the digest and the
// user, then one for each change. A machine without a log daemon is no reason
// to fail.
func audit(command, digest string, done []routing.Op, err error) {
	if len(done) == 0 && err == nil {
		return
	}
	w, dialErr := syslog.New(syslog.LOG_NOTICE|syslog.LOG_DAEMON, "lasthop")
	if dialErr != nil {
		return
	}
	defer w.Close()
	for _, line := range auditLines(command, digest, done, err) {
		_ = w.Notice(line) // the log is told, not asked
	}
}

func auditLines(command, digest string, done []routing.Op, err error) []string {
	lines := []string{fmt.Sprintf("%s by %s: %d changes, digest %s", command,
		report.Escape(who()), len(done), digest)}
	for _, op := range done {
		lines = append(lines, report.Escape(op.String()))
	}
	if err != nil {
		lines = append(lines, "failed: "+report.Escape(err.Error()))
	}
	return lines
}

// who is the person behind sudo, or the user.
func who() string {
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return cmp.Or(os.Getenv("SUDO_USER"), name, fmt.Sprint("uid ", os.Getuid()))
}
