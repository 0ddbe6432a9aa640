package nginxconf

import (
	"strings"

	"golang.org/x/sys/unix"
)

const (
	mostLinks = 40  // symbolic links of one name, as the kernel's own limit
	mostDeep  = 100 // directories of one name
)

// openInRoot is openat2(2) with RESOLVE_IN_ROOT, for kernels before 5.6 and for
// sandboxes that forbid it (RestrictSUIDSGID= of systemd). It opens each
// directory of a name by its descriptor and goes back to one that it has open
// for "..", so no user gets it out of the root by renaming directories or
// replacing links meanwhile. A link of /proc that is no name of a file leads to
// what its text names below the root. It returns EAGAIN if the file has become
// a link meanwhile.
func openInRoot(root int, name string, flags int) (int, error) {
	dirs := []int{root}
	back := func(to int) {
		for len(dirs) > to {
			_ = unix.Close(dirs[len(dirs)-1])
			dirs = dirs[:len(dirs)-1]
		}
	}
	defer back(1)
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		one := rest[0]
		rest = rest[1:]
		top := dirs[len(dirs)-1]
		switch one {
		case "", ".":
			continue
		case "..":
			back(max(1, len(dirs)-1))
			continue
		}
		fd, target, err := step(top, one, len(rest) > 0)
		switch {
		case err != nil:
			return -1, err
		case target != "":
			if links++; links > mostLinks {
				return -1, unix.ELOOP
			}
			if target[0] == '/' {
				back(1)
			}
			rest = append(strings.Split(target, "/"), rest...)
		case len(rest) == 0:
			return reopen(fd, top, one, flags)
		case len(dirs) > mostDeep:
			_ = unix.Close(fd)
			return -1, unix.ENAMETOOLONG
		default:
			dirs = append(dirs, fd)
		}
	}
	return unix.Openat(dirs[len(dirs)-1], ".", flags, 0)
}

// step opens one name of a directory as O_PATH. For a symbolic link it returns
// only the target. Every part of the path except the last must be a directory.
func step(dir int, name string, onTheWay bool) (fd int, target string, err error) {
	fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	kind := st.Mode & unix.S_IFMT
	switch {
	case err == nil && onTheWay && kind != unix.S_IFDIR && kind != unix.S_IFLNK:
		err = unix.ENOTDIR
	case err == nil && kind != unix.S_IFLNK:
		return fd, "", nil
	}
	defer unix.Close(fd)
	if err != nil {
		return -1, "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return -1, string(buf[:max(n, 0)]), err
}

// reopen opens an O_PATH descriptor again with the given flags.
func reopen(fd, dir int, name string, flags int) (int, error) {
	if flags&unix.O_PATH != 0 {
		return fd, nil
	}
	defer unix.Close(fd)
	again, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW, 0)
	if err == unix.ELOOP {
		err = unix.EAGAIN
	}
	return again, err
}
