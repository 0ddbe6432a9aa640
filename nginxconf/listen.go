package nginxconf

import (
	"encoding/binary"
	"errors"
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

var (
	errNoHost      = errors.New("no host")
	errInvalidHost = errors.New("invalid host")
	errInvalidPort = errors.New("invalid port")
	errInvalidV6   = errors.New("invalid IPv6 address")
)

// parseEndpoint reads the address of a listen directive.
func parseEndpoint(s string) (e endpoint, err error) {
	if len(s) >= 5 && strings.EqualFold(s[:5], "unix:") {
		return endpoint{unix: true}, nil
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		return parseEndpoint6(inner)
	}
	if strings.ContainsAny(s, "/?") {
		return e, errInvalidHost
	}
	host, port, found := strings.Cut(s, ":")
	if !found {
		port = s
	}
	e.first, e.last, err = parsePorts(port)
	switch {
	case !found && err == nil:
		e.addr = netip.IPv4Unspecified()
		return e, nil
	case err != nil && (found || s != "" && strings.Trim(s, "0123456789-") == ""):
		return endpoint{}, err
	}
	e.addr, e.host, err = parseHost(host)
	return e, err
}

func parseEndpoint6(s string) (e endpoint, err error) {
	host, port, found := strings.Cut(s, "]")
	if !found {
		return e, errInvalidHost
	}
	if port != "" {
		number, ok := strings.CutPrefix(port, ":")
		if !ok {
			return e, errInvalidPort
		}
		if e.first, e.last, err = parsePorts(number); err != nil {
			return e, err
		}
	}
	if host == "" {
		return e, errNoHost
	}
	if e.addr, err = netip.ParseAddr(host); err != nil || !e.addr.Is6() || e.addr.Zone() != "" {
		return endpoint{}, errInvalidV6
	}
	return e, nil
}

// parseHost reads what stands before the port: `*`, an IPv4 address, or a host
// name.
func parseHost(s string) (netip.Addr, string, error) {
	switch s {
	case "":
		return netip.Addr{}, "", errNoHost
	case "*":
		return netip.IPv4Unspecified(), "", nil
	}
	for _, parse := range []func(string) (netip.Addr, bool){inetAddr, inetAton} {
		if a, ok := parse(s); ok {
			return a, "", nil
		}
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
	var addr uint32
	for i, part := range parts {
		bits := 8 // the last part fills the remaining bytes
		if i == len(parts)-1 {
			bits = 32 - 8*i
		}
		n, ok := cNumber(part)
		if !ok || n >= 1<<bits {
			return netip.Addr{}, false
		}
		addr = addr<<bits | uint32(n)
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, addr))), true
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
