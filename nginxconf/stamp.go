package nginxconf

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// stamp distinguishes the states of a file or directory: a write changes the
// time of change, a replacement the inode.
type stamp struct {
	name                       string
	dev, ino                   uint64
	size, seconds, nanoseconds int64
}

func stampOf(name string, st unix.Stat_t) stamp {
	return stamp{name, st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec}
}

// Unchanged reports whether Load would read the same files now: every file that
// it read and every directory that it listed has the same state. A file costs a
// few microseconds.
func (c Config) Unchanged() bool {
	same := make(chan bool, 1)
	err := within(c.options.Hung, loadTime, func() { same <- c.sameFiles() })
	return err == nil && len(c.stamps) > 0 && <-same
}

func (c Config) sameFiles() bool {
	t, err := openTree(c.options.Root)
	if err != nil {
		return false
	}
	defer t.close()
	return !slices.ContainsFunc(c.stamps, func(old stamp) bool {
		var st unix.Stat_t
		fd, err := t.openat(old.name, unix.O_PATH|unix.O_CLOEXEC)
		if err == nil {
			err = unix.Fstat(fd, &st)
			_ = unix.Close(fd)
		}
		if err != nil {
			return old != stamp{name: old.name}
		}
		return stampOf(old.name, st) != old
	})
}

// SameNames reports whether every host name still has its addresses, asking
// resolve. A name that does not resolve now counts as unchanged: NGINX refuses
// to load a configuration with such a name, and keeps the one that it has.
func (c Config) SameNames(resolve func(host string) ([]netip.Addr, error)) bool {
	o := Options{Resolve: resolve}
	for host, addrs := range c.Names {
		if now, err := o.ask(host); err == nil && !slices.Equal(now, addrs) {
			return false
		}
	}
	return true
}

// Modified returns which of the files and listed directories that Load read was
// changed last, and when: written, replaced, renamed or given other rights. It
// ignores missing files.
func (c Config) Modified() (name string, at time.Time) {
	for _, s := range c.stamps {
		if t := time.Unix(s.seconds, s.nanoseconds); s.ino != 0 && t.After(at) {
			name, at = s.name, t
		}
	}
	return name, at
}
