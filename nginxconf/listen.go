package nginxconf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// endpoint is an address as ngx_parse_url reads it (src/core/ngx_inet.c).
type endpoint struct {
	addr        netip.Addr // invalid for a host name or a unix socket
	host        string     // the name to resolve
	unix        bool
	first, last uint16 // 0 if no port is written
}

// String is the canonical way to write the endpoint: it parses to the same
// endpoint.
func (e endpoint) String() string {
	if e.unix {
		return "unix:"
	}
	s := e.host
	if e.addr.IsValid() {
		s = e.addr.String()
	}
	if e.addr.Is6() {
		s = "[" + s + "]"
	}
	switch {
	case e.first == 0:
		return s
	case e.first == e.last:
		return fmt.Sprintf("%s:%d", s, e.first)
	}
	return fmt.Sprintf("%s:%d-%d", s, e.first, e.last)
}

var (
	errNoHost      = errors.New("no host")
	errInvalidHost = errors.New("invalid host")
	errInvalidPort = errors.New("invalid port")
	errInvalidV6   = errors.New("invalid IPv6 address")
)

// parseEndpoint reads the address of a listen directive.
func parseEndpoint(s string) (endpoint, error) {
	if len(s) >= 5 && strings.EqualFold(s[:5], "unix:") {
		return endpoint{unix: true}, nil
	}
	if strings.HasPrefix(s, "[") {
		return parseEndpoint6(s[1:])
	}
	if strings.ContainsAny(s, "/?") {
		return endpoint{}, errInvalidHost
	}
	host, port, found := strings.Cut(s, ":")
	if !found {
		first, last, err := parsePorts(s)
		if err == nil {
			return endpoint{addr: netip.IPv4Unspecified(), first: first, last: last},
				nil
		}
		if s != "" && strings.Trim(s, "0123456789-") == "" {
			return endpoint{}, err
		}
	}
	var e endpoint
	if found {
		first, last, err := parsePorts(port)
		if err != nil {
			return endpoint{}, err
		}
		e.first, e.last = first, last
	}
	var err error
	e.addr, e.host, err = parseHost(host)
	return e, err
}

func parseEndpoint6(s string) (endpoint, error) {
	host, port, found := strings.Cut(s, "]")
	if !found {
		return endpoint{}, errInvalidHost
	}
	var e endpoint
	if port != "" {
		if port[0] != ':' {
			return endpoint{}, errInvalidPort
		}
		first, last, err := parsePorts(port[1:])
		if err != nil {
			return endpoint{}, err
		}
		e.first, e.last = first, last
	}
	if host == "" {
		return endpoint{}, errNoHost
	}
	a, err := netip.ParseAddr(host)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return endpoint{}, errInvalidV6
	}
	e.addr = a
	return e, nil
}

// parseHost reads what stands before the port: `*`, an IPv4 address, or a host
// name.
func parseHost(s string) (netip.Addr, string, error) {
	if s == "" {
		return netip.Addr{}, "", errNoHost
	}
	if s == "*" {
		return netip.IPv4Unspecified(), "", nil
	}
	if a, ok := inetAddr(s); ok {
		return a, "", nil
	}
	if a, ok := inetAton(s); ok {
		return a, "", nil
	}
	return netip.Addr{}, strings.ToLower(s), nil
}

// parsePorts reads `80` or `8000-8005`.
func parsePorts(s string) (first, last uint16, err error) {
	lo, hi, ranged := strings.Cut(s, "-")
	f, ok := atoi(lo)
	l := f
	if ranged && ok {
		l, ok = atoi(hi)
	}
	if !ok || f < 1 || f > l || l > 65535 {
		return 0, 0, errInvalidPort
	}
	return uint16(f), uint16(l), nil
}

// atoi is ngx_atoi: digits only, leading zeros allowed.
func atoi(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// inetAddr is ngx_inet_addr: four decimal octets; leading zeros are decimal
// too, and an empty octet is 0.
func inetAddr(s string) (netip.Addr, bool) {
	if strings.Trim(s, "0123456789.") != "" || strings.Count(s, ".") != 3 {
		return netip.Addr{}, false
	}
	var b [4]byte
	for i, part := range strings.Split(s, ".") {
		n, _ := strconv.ParseUint("0"+part, 10, 64) // out of range gives the maximum
		if n > 255 {
			return netip.Addr{}, false
		}
		b[i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}

// inetAton is inet_aton(3), which getaddrinfo(3) tries before it asks a name
// server: `127.1`, `0x7f000001`, `2130706433`; a leading 0 means octal here.
func inetAton(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var addr uint64
	for i, part := range parts {
		n, ok := cNumber(part)
		last := i == len(parts)-1
		if !ok || !last && n > 255 || last && n >= 1<<(8*(5-len(parts))) {
			return netip.Addr{}, false
		}
		if last {
			addr |= n
		} else {
			addr |= n << (24 - 8*i)
		}
	}
	return netip.AddrFrom4([4]byte{byte(addr >> 24), byte(addr >> 16), byte(addr >> 8),
		byte(addr)}), true
}

// cNumber is strtoul(3) with base 0 for a whole string without sign.
func cNumber(s string) (uint64, bool) {
	base := 10
	switch {
	case len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X"):
		base, s = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, s = 8, s[1:]
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}
