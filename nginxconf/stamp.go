package nginxconf

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// stamp tells a state of a file or directory from every other: a write changes
// the time of change, a replacement the inode.
type stamp struct {
	name                       string
	dev, ino                   uint64
	size, seconds, nanoseconds int64
}

// note keeps what a file is like that was opened; f is nil if it could not be.
func (t tree) note(name string, f *os.File) {
	if t.seen == nil {
		return
	}
	fd := -1
	if f != nil {
		fd = int(f.Fd())
	}
	*t.seen = append(*t.seen, stampOf(name, fd))
}

func stampOf(name string, fd int) stamp {
	var st unix.Stat_t
	if fd < 0 || unix.Fstat(fd, &st) != nil {
		return stamp{name: name}
	}
	return stamp{name, st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec}
}

// Unchanged reports whether Load would read the same now: every file that it
// read and every directory that it listed is still what it was, and every host
// name still has the same addresses. A file costs a few microseconds. The names
// are asked for again, one after the other, if no file has changed.
func (c Config) Unchanged() bool {
	return len(c.stamps) > 0 && c.sameFiles() && c.sameNames()
}

func (c Config) sameFiles() bool {
	t, err := openTree(c.options.Root)
	if err != nil {
		return false
	}
	defer t.close()
	return !slices.ContainsFunc(c.stamps, func(old stamp) bool {
		fd, err := t.openat(old.name, unix.O_PATH|unix.O_CLOEXEC)
		if err != nil {
			return old != stamp{name: old.name}
		}
		defer unix.Close(fd)
		return stampOf(old.name, fd) != old
	})
}

// sameNames counts a name that does not resolve now as unchanged: NGINX refuses
// to load a configuration with such a name, and keeps the one that it has.
func (c Config) sameNames() bool {
	for host, addrs := range c.Names {
		if now, err := c.options.ask(host); err == nil && !slices.Equal(now, addrs) {
			return false
		}
	}
	return true
}

// Modified returns which of the files and listed directories that Load read was
// changed last, and when: written, replaced, renamed or given other rights.
// What is not there counts for nothing.
func (c Config) Modified() (name string, at time.Time) {
	for _, s := range c.stamps {
		if t := time.Unix(s.seconds, s.nanoseconds); s.ino != 0 && t.After(at) {
			name, at = s.name, t
		}
	}
	return name, at
}
