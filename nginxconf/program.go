package nginxconf

import (
	"bytes"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// built are the paths that NGINX was configured with.
type built struct{ prefix, conf, pid string }

// defaults are configure's own.
var defaults = built{prefix: "/usr/local/nginx", conf: "conf/nginx.conf", pid: "logs/nginx.pid"}

// Programs remembers what program files contain, so that a look reads each of
// them once. Not for concurrent use; the zero value is empty.
type Programs struct {
	known, used map[stamp]built
	read        int64 // bytes in this look
}

// maxPrograms is how much of all programs one look reads. The largest NGINX
// with everything linked into it is a third of that.
const maxPrograms = 64 << 20

const configureMark = "configure arguments:"

// paths returns what `nginx -V` would print, from the program itself. For a
// missing argument it returns configure's default.
func (p *Programs) paths(program string) built {
	if !strings.HasPrefix(program, "/") {
		return defaults
	}
	f, err := (&tree{root: -1}).open(program, 0)
	if err != nil {
		return defaults
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return defaults
	}
	key := stampOf("", st)
	b, ok := p.known[key]
	if !ok {
		r := &io.LimitedReader{R: f, N: maxPrograms - p.read}
		whole := r.N
		b = configured(configureLine(r))
		p.read += whole - r.N
		if r.N == 0 && whole < maxPrograms {
			return b // the next look may read more of it
		}
	}
	if p.used == nil {
		p.used = map[stamp]built{}
	}
	p.used[key] = b
	return b
}

// looked ends a look: it drops what the look has not seen.
func (p *Programs) looked() { p.known, p.used, p.read = p.used, nil, 0 }

// configured reads the arguments of configure: ` --prefix=/p --pid-path='x y'`.
func configured(line string) built {
	b := defaults
	for {
		var more bool
		if _, line, more = strings.Cut(line, " --"); !more {
			return b
		}
		word, _, _ := strings.Cut(line, " ")
		name, value, _ := strings.Cut(word, "=")
		if strings.HasPrefix(value, "'") {
			value, _, _ = strings.Cut(line[len(name)+2:], "'")
		}
		switch name {
		case "prefix":
			b.prefix = value
		case "conf-path":
			b.conf = value
		case "pid-path":
			b.pid = value
		}
	}
}

// maxLine is more than the arguments of any configure.
const maxLine = 16 << 10

// configureLine returns what follows configureMark in a program. It holds only
// a part of the program at a time: any user can run one of any size.
func configureLine(program io.Reader) string {
	buf, kept := make([]byte, 256<<10), 0
	for {
		n, err := io.ReadFull(program, buf[kept:])
		text := buf[:kept+n]
		_, line, _ := bytes.Cut(text, []byte(configureMark))
		line, _, whole := bytes.Cut(line, []byte{0})
		if whole || err != nil {
			return string(line[:min(len(line), maxLine)])
		}
		kept = copy(buf, text[len(text)/2:])
	}
}
