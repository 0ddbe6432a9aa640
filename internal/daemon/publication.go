package daemon

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"lasthop/report"
)

// publication is a status, and the answers made from it. Each answer is encoded
// at its first request, once for users that may see everything and once for all
// other users, and all readers share the bytes.
type publication struct {
	status report.Status
	public func() report.Status // the part that all users may see

	mu      sync.Mutex
	answers map[answerKey]func() ([]byte, error)
}

// answerKey identifies an answer: its encoding, and its audience.
type answerKey struct {
	encoding   string
	privileged bool
}

// encodings of a status.
var encodings = map[string]func(report.Status) ([]byte, error){
	"application/json": func(s report.Status) ([]byte, error) {
		var b bytes.Buffer
		err := s.JSON(&b)
		return b.Bytes(), err
	},
	gobType: func(s report.Status) ([]byte, error) {
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(s)
		return b.Bytes(), err
	},
}

func newPublication(s report.Status) *publication {
	return &publication{status: s, answers: map[answerKey]func() ([]byte, error){},
		public: sync.OnceValue(func() report.Status { return s.Public(newReaders().may) })}
}

// seenBy returns what a visitor may see.
func (p *publication) seenBy(v visitor) report.Status {
	if v.privileged() {
		return p.status
	}
	return p.public()
}

// answer returns the status for a visitor in one of the encodings. The caller
// must not change it.
func (p *publication) answer(v visitor, encoding string) ([]byte, error) {
	p.mu.Lock()
	key := answerKey{encoding, v.privileged()}
	encode := p.answers[key]
	if encode == nil {
		encode = sync.OnceValues(func() ([]byte, error) {
			s := p.seenBy(v)
			s.Lasthop = report.BuildVersion().Lasthop
			return encodings[encoding](s)
		})
		p.answers[key] = encode
	}
	p.mu.Unlock()
	return encode()
}

// readers knows which files all users may read. It remembers the directories.
type readers struct{ dirs map[string]bool }

func newReaders() readers { return readers{map[string]bool{}} }

// may is a report.Readers: all users may read a file by its own rights and by
// those of the directories on the way to it, as written and with the links
// resolved.
func (r readers) may(root, file string) (everybody, gone bool) {
	path, err := filepath.Abs(filepath.Join(root, file))
	if file == "" || err != nil || root == "" && strings.HasPrefix(path, "/proc/") {
		return false, false
	}
	const read, search = 0o004, 0o001
	dir := filepath.Dir(path)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for info, err = os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir != "/"; {
			dir = filepath.Dir(dir)
			info, err = os.Stat(dir)
		}
		return false, err == nil && info.Mode()&read != 0 && r.enter(root, dir)
	case err != nil || info.Mode()&read == 0 || info.IsDir() && info.Mode()&search == 0:
		return false, false
	}
	if real, err := filepath.EvalSymlinks(path); root == "" && real != path {
		return err == nil && r.enter("", dir) && r.enter("", filepath.Dir(real)), false
	}
	return r.enter(root, dir), false
}

// enter reports whether all users may enter a directory, and those above it up
// to the root.
func (r readers) enter(root, dir string) bool {
	if may, known := r.dirs[dir]; known {
		return may
	}
	info, err := os.Stat(dir)
	may := err == nil && info.Mode()&0o001 != 0
	if may && dir != "/" && dir != root {
		may = r.enter(root, filepath.Dir(dir))
	}
	r.dirs[dir] = may
	return may
}
