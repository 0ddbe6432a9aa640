package hint

import "strconv"

// FileError is a reason why an input cannot be read.
type FileError struct {
	File string
	Line int // 0 for the file as a whole
	What string
	Fix  string // what the user can do; may be ""
	Err  error  // may be nil
}

func (e *FileError) Error() string {
	s := Origin(e.File, e.Line) + ": " + e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *FileError) Unwrap() error { return e.Err }

// Hint returns what the user can do about it.
func (e *FileError) Hint() string { return e.Fix }

// Origin is file:line, or only the file for line 0.
func Origin(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}
