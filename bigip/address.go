package bigip

import (
	"net/netip"
	"strconv"
	"strings"

	"go4.org/netipx"

	"lasthop/routing"
)

// noDomain is the route domain of an address without %: that of its partition.
const noDomain = -1

// maxDomain is the largest route domain.
const maxDomain = 65534

// parseAddr reads an address as F5 writes it: 10.0.0.1, 10.0.0.1%47, any, any6.
func parseAddr(s string) (a netip.Addr, domain int, ok bool) {
	s, id, found := strings.Cut(s, "%")
	domain = noDomain
	if found {
		n, err := strconv.ParseUint(id, 10, 16)
		if err != nil || n > maxDomain {
			return netip.Addr{}, 0, false
		}
		domain = int(n)
	}
	switch s {
	case "any", "*":
		return netip.IPv4Unspecified(), domain, true
	case "any6":
		return netip.IPv6Unspecified(), domain, true
	}
	a, err := netip.ParseAddr(s)
	return a, domain, err == nil
}

// parsePrefix reads a network as F5 writes it: 10.0.0.0/8, 10.0.0.11%47/16,
// default, default-inet6, or an address, which keeps its host bits.
func parsePrefix(s string) (p netip.Prefix, domain int, ok bool) {
	text, mask, _ := strings.Cut(s, "/")
	name, _, _ := strings.Cut(text, "%")
	switch name {
	case "default":
		text = "any" + text[len(name):]
	case "default-inet6":
		text = "any6" + text[len(name):]
	}
	a, domain, ok := parseAddr(text)
	if !ok {
		return netip.Prefix{}, 0, false
	}
	bits, ok := maskBits(mask, a)
	return netip.PrefixFrom(a, bits), domain, ok
}

// maskBits returns the length that a mask gives to an address. Without a mask
// it is one address, or all addresses for the unspecified one.
func maskBits(mask string, a netip.Addr) (bits int, ok bool) {
	bits = a.BitLen()
	switch mask {
	case "", "none":
	case "any", "any6":
		bits = 0
	default:
		if strings.ContainsAny(mask, ".:") {
			bits, ok = onesOf(mask, a)
		} else if n, err := strconv.ParseUint(mask, 10, 8); err == nil {
			bits, ok = int(n), int(n) <= a.BitLen()
		}
		if !ok {
			return 0, false
		}
	}
	if a.IsUnspecified() && bits == a.BitLen() {
		bits = 0
	}
	return bits, true
}

// onesOf returns the number of leading ones of a mask in address form. It
// reports whether the mask has no further ones.
func onesOf(mask string, a netip.Addr) (int, bool) {
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != a.BitLen() {
		return 0, false
	}
	n := 0
	raw := m.AsSlice()
	for n < m.BitLen() && raw[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	return n, netip.PrefixFrom(m, n).Masked().Addr() == m
}

// parseRange reads an entry of an address list: an address, a network, or
// FIRST-LAST.
func parseRange(s string) (r netipx.IPRange, domain int, ok bool) {
	if first, last, found := strings.Cut(s, "-"); found && !strings.HasPrefix(s, "default") {
		from, domain, ok1 := parseAddr(first)
		to, _, ok2 := parseAddr(last)
		r = netipx.IPRangeFrom(from, to)
		return r, domain, ok1 && ok2 && r.IsValid()
	}
	p, domain, ok := parsePrefix(s)
	return netipx.RangeOfPrefix(p), domain, ok
}

// anyPort is what 0, any and * mean.
var anyPort = routing.PortRange{First: 1, Last: 65535}

// parsePort reads a port, a range of ports, or a service. It returns an unknown
// service unchanged, without a guess.
func parsePort(s string) (ports []routing.PortRange, service string) {
	switch s {
	case "", "0", "any", "*":
		return []routing.PortRange{anyPort}, ""
	}
	if port, ok := services[s]; ok {
		return []routing.PortRange{{First: port, Last: port}}, ""
	}
	lo, hi, ranged := strings.Cut(s, "-")
	first, err := strconv.ParseUint(lo, 10, 16)
	last := first
	if ranged && err == nil {
		last, err = strconv.ParseUint(hi, 10, 16)
	}
	switch {
	case err != nil || first > last:
		return nil, s
	case last == 0:
		return []routing.PortRange{anyPort}, ""
	}
	// no client connects to port 0
	return []routing.PortRange{{First: uint16(max(first, 1)), Last: uint16(last)}}, ""
}

// splitPort returns the ways to split a destination, without its path, into
// host and port, the likeliest first. The last dot separates the port of an
// IPv6 address, and a name may hold dots.
func splitPort(s string) [][2]string {
	if i := strings.IndexByte(s, '%'); i >= 0 {
		end := i + 1 + len(s[i+1:]) - len(strings.TrimLeft(s[i+1:], "0123456789"))
		return [][2]string{{s[:end], strings.TrimLeft(s[end:], ".:")}}
	}
	colon, dot := strings.LastIndexByte(s, ':'), strings.LastIndexByte(s, '.')
	ways := make([][2]string, 0, 3)
	if strings.Count(s, ":") == 1 {
		ways = append(ways, [2]string{s[:colon], s[colon+1:]})
	}
	ways = append(ways, [2]string{s, ""})
	if dot >= 0 {
		ways = append(ways, [2]string{s[:dot], s[dot+1:]})
	}
	return ways
}
