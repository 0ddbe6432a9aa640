// Package nginxconf finds what an NGINX listens on, from its configuration, and
// where the running masters and their configurations are.
//
// The configuration is the only source that names the true addresses. `listen
// 443; listen 10.0.0.5:443;` opens one socket, *:443, and NGINX distinguishes
// the two by getsockname(2) for each connection: no dump of sockets shows
// 10.0.0.5. `nginx -T` is not suited to read the configuration: it binds every
// address for some milliseconds, creates the pid file and shows the files, not
// what was loaded.
//
// Load reads the main file and all that it includes. It returns every `listen`
// of every server block (of http, stream, mail, or of a third-party module such
// as rtmp), every *_bind directive (the source addresses of NGINX's own
// connections) and the names of all files and directories that were read, so
// that a watcher can watch them.
//
// A scanner of lasthop reads each file as NGINX's lexer does (scan.go, lua.go),
// and leaves out what opens no socket. NGINX's own crossplane parses the
// result, one file at a time and with its directive tables switched off: a
// table that does not know a module must not cost a listener. Alone, crossplane
// takes gigabytes for a file of nested blocks and minutes for one long word,
// keeps the whole contents of a file, and treats a brace inside of a word or of
// a Lua string as the end of a block. This package follows includes itself,
// because crossplane parses an included file once with its first context, keeps
// all files open, cannot tell a read error from an empty file and expands
// patterns in another way than glob(3).
//
// A configuration may be anything: the package reads only regular files, no
// further than their size, and within the limits of limits.go.
//
// What NGINX would refuse to load is an *Error with file, line and a hint if
// the tree cannot be trusted (missing or truncated files, loops), and a Warning
// if the other parts of it can (a name that does not resolve). A caller must
// keep what it has when Load fails, and when Load finds nothing while NGINX
// runs.
package nginxconf

import "net/netip"

// Config is the contents of one main file and its includes.
type Config struct {
	// in the order of the files; a directive that gives several addresses
	// gives one Listen for each
	Listens []Listen
	Unix    int // directives that listen on a Unix socket, which give no Listen
	Binds   []Bind
	// every file that was read, the main file first; absolute, below
	// Options.Root
	Files []string
	Sums  []string // the SHA-256 of each of Files as it was read, in hexadecimal digits
	Dirs  []string // every directory that was listed for an include pattern; sorted
	// the `pid` directive as written, relative to NGINX's prefix; "" if
	// there is none
	PIDFile  string
	Warnings []Warning
	// Names are the host names of all listens and the addresses that each
	// had when Load asked: sorted, each once; none if it did not resolve.
	Names map[string][]netip.Addr

	options Options
	stamps  []stamp // of Files and Dirs
}

// Listen is one address of one listen directive.
type Listen struct {
	Addr        netip.Addr // 0.0.0.0 and :: are the wildcards
	First, Last uint16     // ports; equal unless a range was written. Never 0
	Transport   string     // "tcp" or "udp"; QUIC is udp
	Context     string     // "http", "stream", "mail", or the block of another module: "rtmp"
	// the address as written, "*:80"; the implied default if an http server
	// has no listen
	Text     string
	Params   []string // the arguments after the address, as written: "ssl", "reuseport"
	Origin   string   // file:line of the directive, of the server block for an implied one
	IPv6Only bool     // an IPv6 socket that takes no IPv4
	Host     string   // the host name that Addr was resolved from; else ""
	Servers  []string // the names of its server
}

// Bind is one *_bind directive: a source address of NGINX's connections to
// upstreams.
type Bind struct {
	Directive string // "proxy_bind"
	Context   string // "http" or "stream"
	// $server_addr gives a Bind for each address that the server listens
	// on; the zero Addr if it is known only at run time ($remote_addr)
	Addr        netip.Addr
	Text        string // the value as written
	Transparent bool
	// the literal addresses that are reached from it: sorted, each once
	Upstreams []netip.Addr
	Origin    string
}

// Warning is something in a configuration that does not stop lasthop, but that
// an operator should know.
type Warning struct {
	// stable: "unresolved-host", "no-port", "bad-listen", "no-listen",
	// "reads-nothing", "parser"
	Code    string
	Message string
	Hint    string
	Origin  string // file:line
}

// Options are the circumstances that the configuration is read in. The zero
// value is right for an NGINX on this machine that was started by root.
type Options struct {
	// Root is the directory below which paths and symbolic links are
	// resolved, as in a chroot; "" is the process's own root. For an NGINX
	// in a container it is /proc/PID/root.
	Root string
	// UID is the user that starts NGINX: an http server without listen gets
	// port 80 for 0 and 8000 for other users.
	UID int
	// Resolve returns the addresses of a host name; nil is the resolver of
	// the system, which is asked for all names at the same time.
	Resolve func(host string) ([]netip.Addr, error)
	// Hung is shared by all calls of a long-running program; nil is one of
	// the call's own.
	Hung *Hung
}
