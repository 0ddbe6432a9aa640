package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lasthop/internal/hint"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process writes.
var ErrLocked = errors.New("another lasthop is at work in this network namespace")

// lock makes this process the only writer of a network namespace until it
// ends, or unlocks. The file stays: removing it would let two processes hold
// locks on two files of the same name. It returns ErrLocked if another process
// has it.
func lock(dir string, inode uint64) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, hint.New(fmt.Errorf("make the directory of the lock: %w", err),
			lockHint(err))
	}
	path := filepath.Join(dir, fmt.Sprintf("netns-%d.lock", inode))
	// Reading is enough for a lock: root's file must not keep the daemon
	// out, which runs as a user of its own.
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, hint.New(fmt.Errorf("open the lock %s: %w", path, err), lockHint(err))
	}
	if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return func() {
			// A child that is being started may have a copy of fd,
			// which would keep the lock for a moment.
			_ = unix.Flock(fd, unix.LOCK_UN)
			_ = unix.Close(fd)
		}, nil
	}
	_ = unix.Close(fd)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = hint.New(ErrLocked, "wait for it; it holds "+path)
	}
	return nil, err
}

// lockHint says what helps where the lock cannot be made.
func lockHint(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "run as root"
	}
	return "name a directory that can be written with --run-dir"
}
