package writer

import (
	"fmt"
	"os"
	"strings"

	"lasthop/report"
)

// Person is the user that asked for a change, as logs show it: "alice" if alice
// used sudo, "root", "uid 1000", "alice via lasthop" if another user than root
// says that it works for alice. Its text is escaped and short. The zero value
// is lasthop itself.
type Person string

// Self returns the user that started this process.
func Self() Person { return Asker(os.Getuid(), Sudoer()) }

// Sudoer returns the user that became the user of this process with sudo, ""
// for none. It is a claim of the environment: a client of the daemon sends it
// along.
func Sudoer() string { return os.Getenv("SUDO_USER") }

// Asker returns the user behind a process: the kernel reports its user id, the
// process itself names the user of sudo. Root's claim is believed.
func Asker(uid int, sudoer string) Person {
	user := userName(uid)
	switch {
	case sudoer == "" || sudoer == user:
		return short(user)
	case uid == 0:
		return short(sudoer)
	}
	return short(sudoer) + " via " + short(user)
}

// short bounds and escapes a name.
func short(name string) Person {
	const most = 32 // of useradd; LDAP may have longer ones
	runes := []rune(name)
	if len(runes) > most {
		return Person(report.Escape(string(runes[:most])) + "…")
	}
	return Person(report.Escape(name))
}

// userName returns the name of a local user. It does not ask other sources of
// names (LDAP), which may delay a lookup.
func userName(uid int) string {
	data, _ := os.ReadFile("/etc/passwd")
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == fmt.Sprint(uid) {
			return f[0]
		}
	}
	return fmt.Sprint("uid ", uid)
}
