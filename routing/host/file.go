package host

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// fileMost bounds a file that another program keeps. The files read here have a
// few kilobytes; dhclient's may have one lease for each renewal.
const fileMost = 4 << 20

// errOddFile means that a path is no regular file, or a file that is too long.
var errOddFile = errors.New("no regular file of at most 4 MiB")

// readFile reads a file that another program keeps, and returns when it was
// written. That program may have fewer privileges than lasthop. A FIFO or a
// device in the file's place does not make lasthop wait, and a file without end
// does not fill its memory.
func readFile(path string) (data []byte, written time.Time, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, written, err
	}
	if !info.Mode().IsRegular() {
		return nil, written, errOddFile
	}
	data, err = io.ReadAll(io.LimitReader(f, fileMost+1))
	if len(data) > fileMost {
		err = errOddFile
	}
	return data, info.ModTime(), err
}

// eachFile calls f with each file of a pattern that can be read.
func eachFile(root, pattern string, f func(name string, data []byte, written time.Time)) {
	files, _ := filepath.Glob(filepath.Join(root, pattern)) // only a bad pattern is an error
	for _, file := range files {
		if data, written, err := readFile(file); err == nil {
			f(filepath.Base(file), data, written)
		}
	}
}
