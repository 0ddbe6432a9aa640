// Package hint is an error with a remedy: what went wrong, and what the user
// can do about it. Packages that import nothing of lasthop give their errors a
// method Hint of their own; Of finds either kind.
package hint

import "errors"

type hinted struct {
	error
	remedy string
}

func (e hinted) Hint() string  { return e.remedy }
func (e hinted) Unwrap() error { return e.error }

// New returns err with a remedy: a command, a flag or a sentence without a
// period. It returns nil for no error.
func New(err error, remedy string) error {
	if err == nil {
		return nil
	}
	return hinted{err, remedy}
}

// Cut takes off the remedy that New has put on err: it returns the remedy and
// the error below, or "" and err itself.
func Cut(err error) (remedy string, below error) {
	if h, ok := err.(hinted); ok {
		return h.remedy, h.error
	}
	return "", err
}

// Of returns the remedy nearest to the outside of err, "" if it has none.
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
