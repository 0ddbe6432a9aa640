package nginxconf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// scope is what the visit of one block collects.
type scope struct {
	server   *server      // the innermost server block around; nil outside
	upstream *upstreamKey // the upstream block that this is the inside of
	binds    []*bind      // of this block
	// of this block and the blocks inside of it that have no bind of their
	// own
	passes []pass
}

// server is one server block of http, stream, mail or a third-party module.
type server struct {
	names   []string
	listens []Listen
	has     bool // a listen directive, even one of a Unix socket
}

// enter visits a block.
func (l *loader) enter(b block, d *directive, outer *scope) error {
	in := scope{server: outer.server}
	inner := block{src: b.src, list: d.Block, files: b.files,
		context: append(slices.Clip(b.context), d.Directive.Directive)}
	isServer := d.Directive.Directive == "server" && listening(b.module())
	if isServer {
		in.server = &server{}
	}
	if len(b.context) == 0 && d.Directive.Directive == "events" {
		l.events = true
	}
	if d.Directive.Directive == "upstream" && len(d.args) > 0 {
		in.upstream = &upstreamKey{b.module(), strings.ToLower(d.args[0])}
		l.upstreams[*in.upstream] = nil
	}
	if len(inner.context) > maxNesting {
		return tooDeep(d.file, d.Line)
	}
	if err := l.block(inner, &in); err != nil {
		return err
	}
	if !l.visiting(len(in.passes) * (1 + len(in.binds))) {
		return tooMuch(d.file, d.Line)
	}
	if isServer {
		l.closeServer(b.module(), d, in.server)
	}
	outer.passes = append(outer.passes, l.settle(in)...)
	return nil
}

// listening reports whether a server block of a module listens. One outside of
// all other blocks, or in events, does not. Third-party modules (rtmp) have
// server blocks as NGINX's own modules do.
func listening(module string) bool { return module != "" && module != "events" }

// closeServer adds the listens of a server block when its names are known.
func (l *loader) closeServer(module string, d *directive, s *server) {
	if !s.has && module == "http" {
		port := uint16(80)
		if l.options.UID != 0 {
			port = 8000
		}
		s.listens = append(s.listens, Listen{Addr: netip.IPv4Unspecified(), First: port,
			Last: port, Transport: "tcp",
			Context: module, Text: fmt.Sprintf("*:%d", port),
			Origin: d.origin()})
		l.results++
	}
	if !s.has && (module == "stream" || module == "mail") {
		l.warn(d, "no-listen", "this "+module+" server has no listen: NGINX refuses it",
			"add a listen")
	}
	for _, listen := range s.listens {
		listen.Servers = s.names
		l.config.Listens = append(l.config.Listens, listen)
	}
}

func (l *loader) warn(d *directive, code, message, hint string) {
	l.results++
	l.config.Warnings = append(l.config.Warnings,
		Warning{Code: code, Message: message, Hint: hint, Origin: d.origin()})
}

// simple takes a directive without block.
func (l *loader) simple(b block, d *directive, s *scope) {
	name := d.Directive.Directive
	switch {
	case name == "pid" && len(b.context) == 0 && len(d.args) > 0:
		l.config.PIDFile = d.args[0]
	case !listening(b.module()) || len(d.args) == 0:
	case name == "server" && s.upstream != nil:
		l.upstreams[*s.upstream] = append(l.upstreams[*s.upstream], d.args[0])
	case name == "server_name" && s.server != nil:
		s.server.names = append(s.server.names, d.args...)
	case name == "listen" && s.server != nil:
		s.server.has = true
		s.server.listens = append(s.server.listens, l.listen(b.module(), d)...)
	case s.server != nil && len(b.context) == 2 && misspelt(name):
		l.warn(d, "parser", fmt.Sprintf("unknown directive %q: lasthop ignores it", name),
			"did you mean listen? `nginx -t` shows whether NGINX accepts the line")
	case strings.HasSuffix(name, "_bind"):
		s.bind(b.module(), d)
	case strings.HasSuffix(name, "_pass"):
		s.passes = append(s.passes, pass{strings.TrimSuffix(name, "_pass"),
			upstreamKey{b.module(), d.args[0]}, s.server})
	}
}

// listen turns one listen directive into its addresses.
func (l *loader) listen(module string, d *directive) []Listen {
	text, params := d.args[0], d.args[1:]
	e, err := parseEndpoint(text)
	if err != nil {
		l.warn(d, "bad-listen", "listen "+text+": "+err.Error()+": NGINX refuses it",
			"correct the address")
		return nil
	}
	if e.unix {
		l.config.Unix++
		return nil
	}
	if e.first == 0 && module == "http" {
		e.first, e.last = 80, 80
	}
	if e.first == 0 {
		l.warn(d, "no-port",
			"listen "+text+": no port, so the kernel chooses one at each start",
			"write a port, or name the address with --listen")
		return nil
	}
	addrs := []netip.Addr{e.addr}
	if e.host != "" {
		if addrs, err = l.resolved(e.host); err != nil {
			l.unresolved(d, text, err)
			return nil
		}
	}
	l.results += len(addrs)
	var listens []Listen
	for _, a := range addrs {
		only := a.Is6() && ipv6Only(module, params)
		if a.Is4In6() && only {
			l.warn(d, "bad-listen", "listen "+text+": NGINX cannot bind an "+
				"IPv4-mapped address to a socket for IPv6 only",
				"write the IPv4 address")
			continue
		}
		listens = append(listens, Listen{Addr: a.Unmap(), First: e.first, Last: e.last,
			Transport: transport(module, params), Context: module, Text: text,
			Params: params, Origin: d.origin(), IPv6Only: only, Host: e.host})
	}
	return listens
}

// unresolved warns of a host name that does not resolve. NGINX looks up a word
// such as 80x, too, and says "host not found"; it is rather a port with a
// mistake.
func (l *loader) unresolved(d *directive, text string, err error) {
	message, fix := err.Error(), "write the address itself, or name it with --listen"
	if text[0] >= '0' && text[0] <= '9' && !strings.ContainsAny(text, ".:") {
		message = "not a valid port; as a host name: " + message
		fix = "write the port as a number from 1 to 65535"
	}
	l.warn(d, "unresolved-host", "listen "+text+": "+message, fix)
}

// transport knows the parameters that make a listen UDP: `quic` in http, `udp`
// elsewhere.
func transport(module string, params []string) string {
	udp := "udp"
	if module == "http" {
		udp = "quic"
	}
	if slices.Contains(params, udp) {
		return "udp"
	}
	return "tcp"
}

// ipv6Only reports whether a socket of an IPv6 address takes IPv6 alone: by
// default in NGINX's own modules, with ipv6only=on in others (ngx_rtmp_core).
func ipv6Only(module string, params []string) bool {
	switch module {
	case "http", "stream", "mail":
		return !slices.Contains(params, "ipv6only=off")
	}
	return slices.Contains(params, "ipv6only=on")
}

// ask returns the addresses of a host name: sorted, each once, at least one
// unless there is an error.
func (o Options) ask(host string) ([]netip.Addr, error) {
	answer, err := o.Resolve(host)
	if err == nil && len(answer) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var addrs []netip.Addr
	for _, a := range answer {
		addrs = append(addrs, a.Unmap().WithZone(""))
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

const (
	// resolveTime bounds one look-up: NGINX itself waits as long as the
	// resolver does.
	resolveTime    = 5 * time.Second
	resolveMost    = 32 // at the same time
	resolveAllTime = 2 * resolveTime
)

// errNotAsked marks a name for the system, which is asked for all names
// together.
var errNotAsked = errors.New("not asked yet")

// resolveAll asks the system for all names, many at the same time, and returns
// the answers.
func resolveAll(names map[string][]netip.Addr) func(host string) ([]netip.Addr, error) {
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveAllTime)
	defer cancel()
	answers := make(map[string]*answer, len(names))
	var tasks sync.WaitGroup
	free := make(chan struct{}, resolveMost)
	for host := range names {
		a := &answer{}
		answers[host] = a
		free <- struct{}{}
		tasks.Go(func() {
			a.addrs, a.err = Lookup(ctx, host)
			<-free
		})
	}
	tasks.Wait()
	return func(host string) ([]netip.Addr, error) {
		return answers[host].addrs, answers[host].err
	}
}

// Lookup asks the system for the addresses of a host name. NGINX asks
// getaddrinfo(3) for both families and uses every answer.
func Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		err = errors.New(dns.Err)
	}
	return addrs, err
}
