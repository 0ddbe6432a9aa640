package nginxconf

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// bind is a *_bind directive while its upstreams are being collected.
type bind struct {
	Bind
	off bool
	// $server_addr: the addresses that the server of each pass listens on
	listens bool
	server  *server // that it stands in; nil outside
	passes  []pass
}

// pass is a *_pass directive: what the module of the same prefix connects to.
type pass struct {
	prefix string // "proxy" of proxy_pass
	target upstreamKey
	server *server // nil outside
}

// upstreamKey names an upstream block, or holds the address that a *_pass names
// instead. Each module has its own keys.
type upstreamKey struct{ module, name string }

// bind takes a *_bind directive. NGINX refuses a second one of the same name in
// a block.
func (s *scope) bind(module string, d *directive) {
	value := d.args[0]
	b := bind{off: value == "off", server: s.server, Bind: Bind{
		Directive: d.Directive.Directive, Context: module,
		Text:        value,
		Transparent: slices.Contains(d.args[1:], "transparent"), Origin: d.origin()}}
	if e, err := parseEndpoint(bracketed(value)); err == nil && !strings.Contains(value, "$") {
		b.Addr = e.addr
	}
	b.listens = serverAddr.MatchString(value)
	s.binds = append(s.binds, &b)
}

// serverAddr finds $server_addr, alone or with a port.
var serverAddr = regexp.MustCompile(`^\[?\$(server_addr|\{server_addr\})\]?(:|$)`)

// bracketed turns a plain IPv6 address, which *_bind and upstream servers may
// have, into the form that listen has.
func bracketed(value string) string {
	if a, err := netip.ParseAddr(value); err == nil && a.Is6() {
		return "[" + value + "]"
	}
	return value
}

// settle gives the passes of a block to the binds of that block, and returns
// those that an outer bind may take.
func (l *loader) settle(s scope) []pass {
	open := s.passes
	for _, b := range s.binds {
		var rest []pass
		for _, p := range open {
			if p.prefix+"_bind" == b.Directive {
				b.passes = append(b.passes, p)
			} else {
				rest = append(rest, p)
			}
		}
		open = rest
		if !b.off {
			l.binds = append(l.binds, b)
		}
	}
	return open
}

// finishBinds resolves the targets, now that all upstream blocks are known.
func (l *loader) finishBinds() error {
	for _, b := range l.binds {
		from := map[netip.Addr][]pass{b.Addr: b.passes}
		if b.listens {
			from = l.senders(b)
		}
		for _, addr := range slices.SortedFunc(maps.Keys(from), netip.Addr.Compare) {
			if l.finishBind(b, addr, from[addr]); !l.visiting(1) {
				return tooMuch(b.Origin, 0)
			}
		}
	}
	return nil
}

// senders returns the passes by address, from a bind to what the server of each
// listens on.
func (l *loader) senders(b *bind) map[netip.Addr][]pass {
	from := map[netip.Addr][]pass{}
	if b.server != nil {
		for _, addr := range b.server.addrs() {
			from[addr] = nil
		}
	}
	for _, p := range b.passes {
		for _, addr := range p.server.addrs() {
			if !l.visiting(4) {
				return from
			}
			from[addr] = append(from[addr], p)
		}
	}
	return from
}

// finishBind adds a bind to one address.
func (l *loader) finishBind(b *bind, addr netip.Addr, passes []pass) {
	out := b.Bind
	out.Addr = addr
	l.results++
	for _, p := range passes {
		more := l.literals(p.target)
		if l.results += len(more); !l.visiting(1 + len(more)) {
			break
		}
		out.Upstreams = append(out.Upstreams, more...)
	}
	slices.SortFunc(out.Upstreams, netip.Addr.Compare)
	out.Upstreams = slices.Compact(out.Upstreams)
	l.config.Binds = append(l.config.Binds, out)
}

// addrs returns the possible values of $server_addr in a server: the addresses
// that it listens on, the zero Addr for a wildcard.
func (s *server) addrs() (list []netip.Addr) {
	if s == nil {
		return nil
	}
	for _, x := range s.listens {
		addr := x.Addr
		if addr.IsUnspecified() {
			addr = netip.Addr{}
		}
		list = append(list, addr)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// literals returns the literal addresses that a *_pass reaches.
func (l *loader) literals(t upstreamKey) []netip.Addr {
	if members, ok :=
		l.upstreams[upstreamKey{t.module, strings.ToLower(hostPart(t.name))}]; ok {
		var addrs []netip.Addr
		for _, m := range members {
			addrs = append(addrs, literal(m)...)
		}
		return addrs
	}
	return literal(t.name)
}

// hostPart cuts the scheme and the URI from the argument of a *_pass.
func hostPart(s string) string {
	if _, after, found := strings.Cut(s, "://"); found {
		s = after
	}
	if i := strings.IndexAny(s, "/?"); i >= 0 {
		s = s[:i]
	}
	return s
}

func literal(s string) []netip.Addr {
	e, err := parseEndpoint(bracketed(hostPart(s)))
	if err != nil || !e.addr.IsValid() || e.addr.IsUnspecified() {
		return nil
	}
	return []netip.Addr{e.addr}
}
