package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lasthop/internal/hint"
	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process writes.
var ErrLocked = errors.New("another lasthop works in this network namespace")

// Scarce reports whether an error means that the machine has run out of a
// resource, or has lost a disk: the request is not wrong, and the fault may
// pass.
func Scarce(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EMFILE, unix.ENFILE,
		unix.ENOMEM, unix.ENOBUFS, unix.EAGAIN, unix.EIO, unix.ESTALE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// lock makes this process the only writer of a network namespace until it ends,
// or releases it. The file stays: removing it would let two processes hold
// locks on two files of the same name.
type lock struct {
	dir, path string
	fd        int // -1 while it is not held
}

func newLock(dir string, inode uint64) *lock {
	return &lock{dir, filepath.Join(dir, fmt.Sprintf("netns-%d.lock", inode)), -1}
}

// take takes the lock, unless it is held by way of the present file: another
// program may have removed the locked file. It returns ErrLocked if another
// process has it. After an error a held lock stays held.
func (l *lock) take() error {
	if l.held() {
		return nil
	}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return hint.New(fmt.Errorf("make the directory of the lock: %w", err), l.hint(err))
	}
	// A lock needs only read access: root's file must not keep the daemon
	// out, which runs as a user of its own.
	fd, err := unix.Open(l.path, unix.O_CREAT|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW,
		0o600)
	if err != nil {
		return hint.New(fmt.Errorf("open the lock %s: %w", l.path, err), l.hint(err))
	}
	if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
		l.release()
		l.fd = fd
		return nil
	}
	_ = unix.Close(fd)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = hint.New(ErrLocked, "wait for it; it holds "+l.path)
	}
	return err
}

// held reports whether the file that is there is the one that is locked.
func (l *lock) held() bool {
	var have, there unix.Stat_t
	return l.fd >= 0 && unix.Fstat(l.fd, &have) == nil &&
		unix.Lstat(l.path, &there) == nil && have.Dev == there.Dev && have.Ino == there.Ino
}

func (l *lock) release() {
	if l.fd < 0 {
		return
	}
	// A child that is being started may have a copy of fd, which would keep
	// the lock for a moment.
	_ = unix.Flock(l.fd, unix.LOCK_UN)
	_ = unix.Close(l.fd)
	l.fd = -1
}

// hint returns the remedy if the lock cannot be made.
func (l *lock) hint(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run as root"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room there: df " + routing.ShellWord(l.dir) + "; df -i " +
			routing.ShellWord(l.dir) + "; or name another directory with --run-dir"
	}
	return "name a writable directory with --run-dir"
}
