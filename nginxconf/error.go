package nginxconf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"lasthop/internal/hint"

	"github.com/nginxinc/nginx-go-crossplane"
)

// Error is a reason why a configuration cannot be read as a whole.
type Error = hint.FileError

var (
	errDirectory  = errors.New("is a directory")
	errNotRegular = errors.New("is not a regular file")
	errTooLarge   = errors.New("is too large for a configuration")
	errShorter    = errors.New("became shorter while lasthop read it")
	errManyNames  = errors.New("the patterns match too many files")
)

// fixed are crossplane's messages without a word of the file.
var fixed = []string{crossplane.ErrPrematureLexEnd.Error(),
	`unexpected end of file, expecting "}"`, `unexpected "}"`, `unexpected "{"`,
	`unexpected ";"`, `expected "{" to start lua block`, "invalid number of parameters"}

// unquoted returns crossplane's message without words of the file. A user that
// may write an `include` can name a file that only root may read, and all users
// can see errors.
func unquoted(what string) string {
	switch {
	case slices.Contains(fixed, what):
		return what
	case strings.HasSuffix(what, `is not terminated by ";"`):
		return `a directive is not terminated by ";"`
	case strings.HasSuffix(what, `has no opening "{"`):
		return `a directive has no opening "{"`
	case strings.HasSuffix(what, "is not enclosed in parentheses"):
		return "a condition is not enclosed in parentheses"
	}
	return "the parser does not understand this line"
}

// ioError wraps an error from reading path; at is where the path was named, or
// path itself.
func ioError(at string, line int, path string, err error) *Error {
	e := &Error{File: at, Line: line, What: "read " + path, Err: plain(err),
		Fix: ioHint(path, err)}
	if at == path && line == 0 {
		e.What = "read configuration"
	}
	return e
}

// plain returns the error without the name of the file.
func plain(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func ioHint(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "name NGINX's main file with --nginx-conf, or correct the include; " +
			"`nginx -t` shows what NGINX reads"
	case errors.Is(err, fs.ErrPermission):
		return "run as root, or let this user read " + path
	case errors.Is(err, errDirectory):
		return "name a file: " + path + "/nginx.conf, or an include pattern such as " +
			path + "/*.conf"
	case errors.Is(err, errNotRegular):
		return "NGINX would wait forever here; name a regular file"
	case errors.Is(err, errTooLarge):
		return fmt.Sprintf("check that %s is an NGINX configuration; all files together "+
			"may have %d MB", path, maxBytes>>20)
	case errors.Is(err, errShorter):
		return "if it is being written, try again"
	case errors.Is(err, errManyNames):
		return "correct the include: name fewer files, and no directories whose " +
			"symbolic links form a loop"
	case errors.Is(err, syscall.ELOOP):
		return "correct the symbolic links: they form a loop"
	}
	return "`nginx -t` shows whether NGINX itself can read it"
}
