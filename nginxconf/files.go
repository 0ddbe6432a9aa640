package nginxconf

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile is well above any real configuration (50,000 servers take 30 MB) and
// below what hurts.
const maxFile = 256 << 20

// tree opens files below a root.
type tree struct {
	root int      // O_PATH descriptor, or -1 for our own root
	seen *[]stamp // if not nil: what files and listed directories were like
}

func openTree(root string) (tree, error) {
	if root == "" {
		return tree{root: -1}, nil
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return tree{}, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	return tree{root: fd}, nil
}

func (t tree) close() {
	if t.root >= 0 {
		_ = unix.Close(t.root)
	}
}

// open never blocks: a FIFO without a writer is opened at once because of
// O_NONBLOCK.
func (t tree) open(name string) (*os.File, error) {
	fd, err := t.openat(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (t tree) openat(name string, flags int) (fd int, err error) {
	for {
		if t.root < 0 {
			fd, err = unix.Open(name, flags, 0)
		} else {
			how := unix.OpenHow{Flags: uint64(flags),
				Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
			fd, err = unix.Openat2(t.root, name, &how)
		}
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: openat2 raced with a rename
			return fd, err
		}
	}
}

// read returns the whole of a file, as NGINX would see it: NGINX takes the size
// from fstat(2), so a device is empty.
func (t tree) read(name string) ([]byte, error) {
	f, err := t.open(name)
	t.note(name, f)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch m := st.Mode(); {
	case m.IsDir():
		return nil, errDirectory
	case m&fs.ModeDevice != 0:
		return nil, nil
	case !m.IsRegular():
		return nil, errNotRegular
	case st.Size() > maxFile:
		return nil, errTooLarge
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// exists is what glob(3) asks for a path without a pattern in it: dangling
// links count.
func (t tree) exists(name string) bool {
	fd, err := t.openat(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		t.note(name, nil)
		return false
	}
	_ = unix.Close(fd)
	return true
}

// list returns the sorted names in a directory. What is not there, or no
// directory, has none.
func (t tree) list(dir string) ([]string, error) {
	f, err := t.open(dir)
	t.note(dir, f)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) ||
		errors.Is(err, unix.ENXIO) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.IsDir() {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// tidy cleans a path for people, but leaves one with ".." in it to the kernel:
// links change what that means.
func tidy(name string) string {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return name
	}
	return path.Clean(name)
}
