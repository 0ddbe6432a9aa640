package nginxconf

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"lasthop/internal/hint"

	"github.com/nginxinc/nginx-go-crossplane"
)

// Limits for configurations that are no accident. NGINX has none and crashes.
const (
	maxDepth      = 100     // includes inside of includes
	maxDirectives = 1 << 26 // read in all, each time that its file is included
)

// Load reads the configuration whose main file is path. Includes are relative
// to the directory of path as written, as for NGINX. It never blocks on a FIFO
// and follows no loop; every error is an *Error with file, line and hint. With
// an error the Config holds Files, Sums and Dirs alone: what to watch until
// somebody mends it.
func Load(path string, o Options) (Config, error) {
	if o.Resolve == nil {
		o.Resolve = resolve
	}
	name, err := absolute(path, o.Root)
	if err != nil {
		return Config{}, ioError(path, 0, path, err)
	}
	t, err := openTree(o.Root)
	if err != nil {
		return Config{}, ioError(o.Root, 0, o.Root, err)
	}
	defer t.close()
	var stamps []stamp
	t.seen = &stamps
	l := loader{tree: t, options: o, base: name[:strings.LastIndex(name, "/")+1],
		parsed: map[string]source{}, content: map[string][]byte{},
		dirs: map[string]bool{}, upstreams: map[upstreamKey][]string{}}
	err = l.load(name)
	l.config.Dirs = slices.Sorted(maps.Keys(l.dirs))
	if err != nil {
		return Config{Files: l.config.Files, Sums: l.config.Sums, Dirs: l.config.Dirs}, err
	}
	l.config.options, l.config.stamps = o, stamps
	return l.config, nil
}

func (l *loader) load(name string) error {
	main, err := l.file(name, nil, &directive{})
	if err != nil {
		return err
	}
	if err := l.block(block{src: main, list: main.list, files: &chain{name: name}},
		&scope{}); err != nil {
		return err
	}
	if !l.events {
		return noEvents(name, l.content[name])
	}
	l.finishBinds()
	l.shareIPv6Only()
	return nil
}

func noEvents(name string, data []byte) *Error {
	e := &Error{File: name, What: `has no "events" section`,
		Fix: "name NGINX's main file, not one that it includes; if it is " +
			"being written, try again"}
	if len(strings.TrimSpace(string(data))) == 0 {
		e.What = "is empty"
	}
	return e
}

func absolute(path, root string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return tidy(path), nil
	}
	if path == "" {
		return "", fs.ErrNotExist
	}
	if root != "" {
		return tidy("/" + path), nil
	}
	wd, err := os.Getwd()
	return tidy(wd + "/" + path), err
}

// loader is the state of one Load.
type loader struct {
	tree      tree
	options   Options
	base      string // what relative includes are relative to; ends with a slash
	config    Config
	events    bool
	steps     int
	content   map[string][]byte
	parsed    map[string]source // by context and file
	dirs      map[string]bool
	upstreams map[upstreamKey][]string
	binds     []*bind
}

// chain is the way of includes to a file.
type chain struct {
	name  string
	depth int
	up    *chain
}

// block is the inside of a block, or a file.
type block struct {
	src     source
	list    crossplane.Directives
	context []string // the names of the blocks around it: ["http", "server"]
	files   *chain
}

// module is "http", "stream", "mail", or what else the outermost block is.
func (b block) module() string {
	if len(b.context) == 0 {
		return ""
	}
	return b.context[0]
}

// directive is one directive with its arguments as NGINX sees them.
type directive struct {
	*crossplane.Directive
	args []string
	file string
}

func (d *directive) origin() string { return hint.Origin(d.file, d.Line) }

// block visits the directives of a block, those of included files in their
// places.
func (l *loader) block(b block, s *scope) error {
	for _, c := range b.list {
		l.steps++
		if l.steps > maxDirectives {
			return &Error{File: b.src.name, Line: c.Line, What: "too many directives",
				Fix: "look for files that include each other many times"}
		}
		if c.IsMapBlockParameter {
			continue
		}
		d := &directive{Directive: c, args: b.src.args(c), file: b.src.name}
		var err error
		switch {
		case c.Directive == "include":
			err = l.include(b, d, s)
		case c.Block != nil:
			err = l.enter(b, d, s)
		default:
			l.simple(b, d, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// include visits the files that an include names.
func (l *loader) include(b block, d *directive, s *scope) error {
	if len(d.args) != 1 || d.args[0] == "" {
		return &Error{File: d.file, Line: d.Line, What: "include wants one file name",
			Fix: "write `include FILE;`"}
	}
	pattern := d.args[0]
	if !strings.HasPrefix(pattern, "/") {
		pattern = l.base + pattern
	}
	names := []string{tidy(pattern)}
	if hasPattern(pattern) {
		var err error
		names, err = l.tree.glob(tidy(pattern), func(dir string) { l.dirs[dir] = true })
		if err != nil {
			return ioError(d.file, d.Line, pattern, err)
		}
	}
	for _, name := range names {
		if err := l.included(b, d, name, s); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) included(b block, d *directive, name string, s *scope) error {
	for c := b.files; c != nil; c = c.up {
		if c.name == name || b.files.depth >= maxDepth {
			return &Error{File: d.file, Line: d.Line, What: "include loop: " + name +
				" is included from itself",
				Fix: "remove the include"}
		}
	}
	src, err := l.file(name, b.context, d)
	if err != nil {
		return err
	}
	files := &chain{name: name, depth: b.files.depth + 1, up: b.files}
	return l.block(block{src: src, list: src.list, context: b.context, files: files}, s)
}

// file reads and parses a file, once for each context.
func (l *loader) file(name string, context []string, from *directive) (source, error) {
	key := strings.Join(context, "{") + "\x00" + name
	if s, ok := l.parsed[key]; ok {
		return s, nil
	}
	data, ok := l.content[name]
	if !ok {
		var err error
		if data, err = l.tree.read(name); err != nil {
			return source{}, readError(name, from, err)
		}
		l.content[name] = data
		l.config.Files = append(l.config.Files, name)
		l.config.Sums = append(l.config.Sums, fmt.Sprintf("%x", sha256.Sum256(data)))
	}
	s, warnings, err := parse(name, data, context)
	if err != nil {
		return source{}, err
	}
	l.parsed[key] = s
	l.config.Warnings = append(l.config.Warnings, warnings...)
	return s, nil
}

func readError(name string, from *directive, err error) error {
	if from.Directive == nil {
		return ioError(name, 0, name, err)
	}
	return ioError(from.file, from.Line, name, err)
}

// resolved returns the addresses of a host name. NGINX asks once per load too.
func (l *loader) resolved(host string) ([]netip.Addr, error) {
	if addrs := l.config.Names[host]; len(addrs) > 0 {
		return addrs, nil
	}
	addrs, err := l.options.ask(host)
	if l.config.Names == nil {
		l.config.Names = map[string][]netip.Addr{}
	}
	l.config.Names[host] = addrs
	return addrs, err
}

// shareIPv6Only gives ipv6only=off of one listen to the others of the same
// socket, as NGINX does.
func (l *loader) shareIPv6Only() {
	type socket struct {
		addr        netip.Addr
		first, last uint16
		transport   string
		context     string
	}
	key := func(x Listen) socket {
		return socket{x.Addr, x.First, x.Last, x.Transport, x.Context}
	}
	dual := map[socket]bool{}
	for _, x := range l.config.Listens {
		if x.Addr.Is6() && !x.IPv6Only {
			dual[key(x)] = true
		}
	}
	for i, x := range l.config.Listens {
		if dual[key(x)] {
			l.config.Listens[i].IPv6Only = false
		}
	}
}
