package nginxconf

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"lasthop/internal/hint"

	"github.com/nginxinc/nginx-go-crossplane"
)

// Load reads the configuration whose main file is path. Includes are relative
// to the directory of path as written, as for NGINX. It follows no loop, waits
// for no FIFO, gives up if a disk does not answer, and limits all that a file
// can ask of it. Every error is an *Error with file, line and hint. With an
// error the Config holds only Files, Sums and Dirs: what to watch until the
// administrator fixes it.
func Load(path string, o Options) (Config, error) {
	l := newLoader(o)
	l.place.Store(&place{file: path, path: path})
	c, err := l.run(func() error { return l.read(path) })
	if err == nil && o.Resolve == nil && len(c.Names) > 0 {
		l = l.again(resolveAll(c.Names))
		c, err = l.run(l.visit)
	}
	c.options = o
	return c, err
}

// run does a part of Load in the remaining time.
func (l *loader) run(f func() error) (Config, error) {
	var err error
	if slow := within(l.options.Hung, loadTime, func() { err = f() }); slow != nil {
		l.late.Store(true)
		p := l.place.Load()
		return Config{Files: p.files, Sums: p.sums, Dirs: p.dirs}, overdue(p, slow)
	}
	if err != nil {
		return Config{Files: l.config.Files, Sums: l.config.Sums, Dirs: l.config.Dirs}, err
	}
	return l.config, nil
}

// read reads all files. Only this part waits for the disk.
func (l *loader) read(path string) error {
	name, err := absolute(path, l.options.Root)
	if err != nil {
		return ioError(path, 0, path, err)
	}
	if l.tree, err = openTree(l.options.Root); err != nil {
		return ioError(l.options.Root, 0, l.options.Root, err)
	}
	defer l.tree.close()
	l.tree.stopped = l.late.Load
	l.main, l.base = name, name[:strings.LastIndex(name, "/")+1]
	err = l.visit()
	l.config.Dirs, l.config.stamps = slices.Sorted(slices.Values(l.tree.dirs)), l.tree.seen
	return err
}

// again returns a loader that visits what was read, with the system's answers.
func (l *loader) again(resolve func(string) ([]netip.Addr, error)) *loader {
	n := newLoader(l.options)
	n.options.Resolve = resolve
	n.tree, n.main, n.base, n.parsed, n.globbed = l.tree, l.main, l.base, l.parsed, l.globbed
	c := l.config
	n.config = Config{Files: c.Files, Sums: c.Sums, Dirs: c.Dirs, stamps: c.stamps}
	n.place.Store(l.place.Load())
	return n
}

// visit visits the main file and all that it includes.
func (l *loader) visit() error {
	main, err := l.file(l.main, &directive{})
	if err != nil {
		return err
	}
	err = l.block(block{src: main, list: main.list, files: &chain{name: l.main}}, &scope{})
	if err != nil {
		return err
	}
	if !l.events {
		return noEvents(main)
	}
	if err := l.finishBinds(); err != nil {
		return err
	}
	l.shareIPv6Only()
	return nil
}

func noEvents(main source) *Error {
	e := &Error{File: main.name, What: `has no "events" section`,
		Fix: "name NGINX's main file, not one that it includes; if it is " +
			"being written, try again"}
	if main.empty {
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
	// Set at the start.
	options    Options
	tree       *tree
	main, base string // base is what relative includes are relative to; ends with a slash

	// What was read: files by name, and patterns.
	parsed  map[string]source
	globbed map[string][]string
	cost    int // of parsed, see scanner.kept

	// What was visited.
	config    Config
	events    bool
	visits    int
	upstreams map[upstreamKey][]string
	binds     []*bind
	results   int // addresses, warnings, binds with their upstreams

	// Of the caller's wait.
	place atomic.Pointer[place]
	late  atomic.Bool // the caller waits no more
}

func newLoader(o Options) *loader {
	return &loader{options: o, parsed: map[string]source{}, globbed: map[string][]string{},
		upstreams: map[upstreamKey][]string{}}
}

// at records what is read next, and where that is named.
func (l *loader) at(from *directive, path string) {
	p := &place{file: path, path: path, files: l.config.Files, sums: l.config.Sums,
		dirs: l.tree.dirs}
	if from.Directive != nil {
		p.file, p.line = from.file, from.Line
	}
	l.place.Store(p)
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

// module is "http", "stream", "mail", or the name of another outermost block.
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

// block visits the directives of a block, and in their places those of included
// files.
func (l *loader) block(b block, s *scope) error {
	for _, c := range b.list {
		if !l.visiting(1 + len(b.context)/8) {
			return tooMuch(b.src.name, c.Line)
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
		return &Error{File: d.file, Line: d.Line, What: "include takes one file name",
			Fix: "write `include FILE;`"}
	}
	pattern := d.args[0]
	if !strings.HasPrefix(pattern, "/") {
		pattern = l.base + pattern
	}
	names := []string{tidy(pattern)}
	if hasPattern(pattern) {
		var err error
		if names, err = l.glob(tidy(pattern), d); err != nil {
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

// glob returns the files that match a pattern. It expands each pattern once.
func (l *loader) glob(pattern string, from *directive) ([]string, error) {
	if names, ok := l.globbed[pattern]; ok {
		return names, nil
	}
	l.at(from, pattern)
	names, err := l.tree.glob(pattern)
	l.globbed[pattern] = names
	return names, err
}

func (l *loader) included(b block, d *directive, name string, s *scope) error {
	if !l.visiting(b.files.depth) {
		return tooMuch(d.file, d.Line)
	}
	for c := b.files; c != nil; c = c.up {
		if c.name == name || b.files.depth >= maxIncludes {
			return &Error{File: d.file, Line: d.Line, What: "include loop: " + name +
				" is included from itself",
				Fix: "remove the include"}
		}
	}
	src, err := l.file(name, d)
	if err != nil {
		return err
	}
	files := &chain{name: name, depth: b.files.depth + 1, up: b.files}
	return l.block(block{src: src, list: src.list, context: b.context, files: files}, s)
}

// file reads and parses a file, once.
func (l *loader) file(name string, from *directive) (source, error) {
	if s, ok := l.parsed[name]; ok {
		return s, nil
	}
	l.at(from, name)
	l.tree.readNothing = func() { l.readsNothing(name, from) }
	data, err := l.tree.read(name)
	if err != nil {
		return source{}, readError(name, from, err)
	}
	l.config.Files = append(l.config.Files, name)
	l.config.Sums = append(l.config.Sums, fmt.Sprintf("%x", sha256.Sum256(data)))
	s, cost, warnings, err := parse(name, data)
	if err != nil {
		return source{}, err
	}
	if l.cost += cost; l.cost > maxKept {
		return source{}, tooMuch(name, 0)
	}
	l.parsed[name] = s
	l.config.Warnings = append(l.config.Warnings, warnings...)
	return s, nil
}

func readError(name string, from *directive, err error) error {
	if from.Directive == nil {
		return ioError(name, 0, name, err)
	}
	return ioError(from.file, from.Line, name, err)
}

func (l *loader) readsNothing(name string, from *directive) {
	if from.Directive != nil {
		l.warn(from, "reads-nothing", "include "+name+": NGINX reads nothing of it",
			"it is a device, or a file whose size is 0: name another one")
	}
}

// visiting reports whether a visit of so many things is within the limits.
func (l *loader) visiting(things int) bool {
	l.visits += things
	return l.visits <= maxVisits && l.results <= maxResults && !l.late.Load()
}

// resolved returns the addresses of a host name. NGINX asks once per load too.
func (l *loader) resolved(host string) ([]netip.Addr, error) {
	if addrs, ok := l.config.Names[host]; ok && len(addrs) > 0 {
		return addrs, nil
	}
	var addrs []netip.Addr
	err := errNotAsked
	if l.options.Resolve != nil {
		addrs, err = l.options.ask(host)
	}
	if l.config.Names == nil {
		l.config.Names = map[string][]netip.Addr{}
	}
	l.config.Names[host] = addrs
	return addrs, err
}

// shareIPv6Only copies ipv6only=off of one listen to the other listens of the
// same socket, as NGINX does.
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
