package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// lock makes this process the only writer of the network namespace until it ends. The file stays: removing it would let two
// processes hold locks on two files of the same name.
func (a *app) lock(k *host.Kernel) error {
	if err := os.MkdirAll(a.flags.runDir, 0o755); err != nil {
		return hint(fmt.Errorf("make the directory of the lock: %w", err), "run as root")
	}
	path := filepath.Join(a.flags.runDir, fmt.Sprintf("netns-%d.lock", k.Inode()))
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return hint(fmt.Errorf("open the lock %s: %w", path, err), "run as root")
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) // held until the process ends
	if errors.Is(err, unix.EWOULDBLOCK) {
		return hint(errors.New("another lasthop is at work in this network namespace"), "wait for it; it holds "+path)
	}
	return err
}
