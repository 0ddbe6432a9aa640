package nginxconf

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree opens files below a root, within limits.
type tree struct {
	root        int     // O_PATH descriptor, or -1 for the process's own root
	seen        []stamp // the states of files and listed directories
	dirs        []string
	listed      map[string]bool // of dirs
	bytes       int64           // that were read
	names       int             // that patterns matched
	stopped     func() bool
	readNothing func()
}

func openTree(root string) (*tree, error) {
	t := &tree{root: -1, listed: map[string]bool{}, stopped: func() bool { return false },
		readNothing: func() {}}
	if root == "" {
		return t, nil
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	t.root = fd
	return t, nil
}

func (t *tree) close() {
	if t.root >= 0 {
		_ = unix.Close(t.root)
	}
}

// open opens a file or a directory that look has checked: opening a device or a
// FIFO may have effects.
func (t *tree) open(name string, flags int) (*os.File, error) {
	fd, err := t.openReading(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openReading is open, and returns the descriptor.
func (t *tree) openReading(name string, flags int) (fd int, err error) {
	fd, err = t.openat(name,
		flags|unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY)
	if err != nil {
		err = &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, err
}

func (t *tree) openat(name string, flags int) (fd int, err error) {
	for {
		if t.root < 0 {
			fd, err = unix.Open(name, flags, 0)
		} else {
			how := unix.OpenHow{Flags: uint64(flags),
				Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
			fd, err = unix.Openat2(t.root, name, &how)
		}
		// a sandbox of systemd 247 returns EPERM
		if t.root >= 0 && (err == unix.ENOSYS || err == unix.EPERM) {
			fd, err = openInRoot(t.root, name, flags)
		}
		switch err {
		default:
			return fd, err
		case unix.EINTR:
		case unix.EAGAIN: // it raced with a rename, or another program has a lease
			time.Sleep(time.Millisecond)
		}
	}
}

// look returns the state of a file without opening it, and records it; proc
// reports that it is one of /proc.
func (t *tree) look(name string) (st unix.Stat_t, proc bool, err error) {
	fd, err := t.openat(name, unix.O_PATH|unix.O_CLOEXEC)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		t.seen = append(t.seen, stamp{name: name})
		return st, false, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	t.seen = append(t.seen, stampOf(name, st))
	var of unix.Statfs_t
	proc = st.Size == 0 && unix.Fstatfs(fd, &of) == nil && of.Type == unix.PROC_SUPER_MAGIC
	return st, proc, nil
}

// read returns the whole of a file, as NGINX would see it: NGINX takes the size
// from fstat(2) and reads no more, so a device is empty, and so are the files
// of /proc whose reader would wait forever.
func (t *tree) read(name string) ([]byte, error) {
	st, proc, err := t.look(name)
	if err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil, errDirectory
	case unix.S_IFCHR, unix.S_IFBLK:
		if st.Rdev != unix.Mkdev(1, 3) { // /dev/null
			t.readNothing()
		}
		return nil, nil
	case unix.S_IFREG:
	default:
		return nil, errNotRegular
	}
	if st.Size == 0 {
		if proc {
			t.readNothing()
		}
		return nil, nil
	}
	return t.readRegular(name)
}

func (t *tree) readRegular(name string) ([]byte, error) {
	fd, err := t.openReading(name, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG: // it has been replaced
		return nil, errNotRegular
	case st.Size > maxBytes-t.bytes:
		return nil, errTooLarge
	}
	t.bytes += st.Size
	data := make([]byte, st.Size)
	for rest := data; len(rest) > 0; {
		n, err := unix.Read(fd, rest)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return data, &fs.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return data, errShorter
		default:
			rest = rest[n:]
		}
	}
	return data, nil
}

// exists does what glob(3) does for a path without a pattern: dangling links
// count.
func (t *tree) exists(name string) bool {
	fd, err := t.openat(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		t.seen = append(t.seen, stamp{name: name})
		return false
	}
	_ = unix.Close(fd)
	return true
}

// list returns the sorted names in a directory. A missing directory, or another
// kind of file, has none.
func (t *tree) list(dir string) ([]string, error) {
	st, _, err := t.look(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) ||
		err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := t.open(dir, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxNames - t.names + 1)
	if err == io.EOF {
		err = nil
	}
	if err == nil {
		err = t.count(len(names))
	}
	slices.Sort(names)
	return names, err
}

// count counts names that patterns matched.
func (t *tree) count(n int) error {
	if t.names += n; t.names > maxNames {
		return errManyNames
	}
	if t.stopped() {
		return errSlow
	}
	return nil
}

// tidy cleans a path for people, but leaves one with ".." in it to the kernel:
// links change its meaning.
func tidy(name string) string {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return name
	}
	return path.Clean(name)
}
