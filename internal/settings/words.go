package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// settings reads only the flags.
func (f Flags) settings() (Settings, error) {
	s := Settings{Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	p := &s.Policy
	return s, errors.Join(
		parseAll("fail-closed", f.FailClosed, &p.FailClosed, parseLink),
		parseAll("gateway", f.Gateways, &p.Gateways, parseGateway),
		parseAll("return", f.Returns, &p.Returns, parseReturn),
		parseAll("address", f.Addresses, &p.Addresses, parseAddress),
		parseAll("direct", f.Direct, &p.Direct, parsePrefix),
		parseAll("listen", f.Listens, &s.Listens, ParseListen))
}

// parseAll reads the values of one flag. The error joins those of all values.
func parseAll[T any](flag string, values []string, into *[]T, parse func(string) (T, error)) error {
	var errs []error
	for _, v := range values {
		if err := appendParsed(into, v, parse); err != nil {
			errs = append(errs, fmt.Errorf("--%s %s: %w", flag, v, err))
		}
	}
	return errors.Join(errs...)
}

func appendParsed[T any](list *[]T, s string, parse func(string) (T, error)) error {
	x, err := parse(s)
	if err == nil {
		*list = append(*list, x)
	}
	return err
}

// pair splits KEY=VALUE.
func pair(s, usage string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" || value == "" {
		return "", "", hint.New(errors.New("incomplete"), "write it as "+usage)
	}
	return key, value, nil
}

func parseGateway(s string) (p routing.GatewayPin, err error) {
	link, value, err := pair(s, "IF=ADDR, IF=none or IF=static: --gateway eth1=10.0.1.1")
	if err != nil {
		return p, err
	}
	if p.Link, err = parseLink(link); err != nil {
		return p, err
	}
	switch value {
	case "none":
		p.None = true
	case "static":
		p.Static = true
	default:
		p.Addr, err = ParseAddr(value)
	}
	return p, err
}

func parseReturn(s string) (p routing.ReturnPin, err error) {
	subject, value, err := pair(s, "IF=MODE or ADDR=MODE: --return eth1=main-first")
	if err != nil {
		return p, err
	}
	switch p.Mode = routing.Return(value); p.Mode {
	case routing.Strict, routing.MainFirst, routing.LastHop, routing.NoReturn:
	default:
		return p, hint.New(fmt.Errorf("unknown mode %q", value),
			"the modes are strict, main-first, last-hop and off")
	}
	if addr, err := netip.ParseAddr(subject); err == nil {
		p.Addr = addr.Unmap()
		return p, nil
	}
	p.Link, err = parseLink(subject)
	return p, err
}

// parseLink reads the name of a link, "*" for every one. The kernel has the
// same bounds (dev_valid_name).
func parseLink(s string) (string, error) {
	if s == "" || len(s) > 15 || s == "." || s == ".." ||
		strings.ContainsAny(s, "/: \t\n\v\f\r") {
		return "", hint.New(fmt.Errorf("%.40q is not an interface name", s),
			"`ip link` shows the names; they have at most 15 characters")
	}
	return s, nil
}

func parseAddress(s string) (p routing.AddressPin, err error) {
	subject, value, err := pair(s, "ADDR=IF or ADDR=IF,GATEWAY: --address 192.0.2.7=eth1")
	if err != nil {
		return p, err
	}
	if p.Addr, err = ParseAddr(subject); err != nil {
		return p, err
	}
	link, gateway, with := strings.Cut(value, ",")
	if p.Link, err = parseLink(link); err == nil && with {
		p.Gateway, err = ParseAddr(gateway)
	}
	return p, err
}

// ParseAddr reads an IP address without zone; an IPv4-mapped one is IPv4.
func ParseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, hint.New(fmt.Errorf("%q is not an IP address", s),
			"write it as 10.0.1.1 or 2001:db8::1")
	}
	return addr.Unmap(), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return addr.Unmap().Prefix(addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, hint.New(fmt.Errorf("%q is not a prefix", s), "write it as 10.9.0.0/16")
	}
	return p.Masked(), nil
}

// ParseListen reads ADDR:PORT[-PORT][/udp]; * is the IPv4 wildcard, [::] the
// IPv6 one.
func ParseListen(s string) (routing.Listener, error) {
	l := routing.Listener{Transport: routing.TCP, Context: "flag", Listen: s,
		Origins: []string{"--listen " + s}}
	bad := hint.New(errors.New("not an address and port"),
		"write it as 10.0.1.100:443, [2001:db8::1]:443 or *:53/udp")
	text, transport, with := strings.Cut(s, "/")
	if with {
		l.Transport = routing.Transport(transport)
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 || l.Transport != routing.TCP && l.Transport != routing.UDP {
		return l, bad
	}
	host := strings.TrimSuffix(strings.TrimPrefix(text[:i], "["), "]")
	if host == "*" {
		host = "0.0.0.0"
	}
	var err error
	if l.Addr, err = netip.ParseAddr(host); err != nil || l.Addr.Zone() != "" {
		return l, bad
	}
	l.Addr = l.Addr.Unmap()
	first, last, ranged := strings.Cut(text[i+1:], "-")
	if !ranged {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	z, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || z < a {
		return l, bad
	}
	l.Ports = routing.PortRange{First: uint16(a), Last: uint16(z)}
	return l, nil
}

// Words writes a policy in the words of the flags, by their names.
func Words(p routing.Policy) map[string][]string {
	all := map[string][]string{}
	add := func(flag, value string) { all[flag] = append(all[flag], value) }
	for _, link := range p.FailClosed {
		add("fail-closed", link)
	}
	for _, g := range p.Gateways {
		add("gateway", g.Link+"="+g.String())
	}
	for _, r := range p.Returns {
		add("return", r.Subject()+"="+string(r.Mode))
	}
	for _, a := range p.Addresses {
		add("address", a.Addr.String()+"="+a.String())
	}
	for _, d := range p.Direct {
		add("direct", d.String())
	}
	return all
}
