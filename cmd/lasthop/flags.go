package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

// flags are those that all commands share, as given.
type flags struct {
	confs, listens                                   []string
	gateways, returns, addresses, direct, failClosed []string
	netns, output, host, runDir, config              string
	// whether a flag was on the command line
	given    func(name string) bool
	captured host.Capture // the one of --host
}

// common declares them on the root command, so that each command has them all
// and says itself which it refuses.
func (f *flags) common(root *cobra.Command) {
	s := root.PersistentFlags()
	s.StringArrayVarP(&f.confs, "nginx-conf", "c", nil, "NGINX's main `FILE` (repeatable; "+
		"default: that of every NGINX that runs\nhere, else /etc/nginx/nginx.conf)")
	s.StringArrayVar(&f.listens, "listen", nil,
		"a further listener, `ADDR:PORT[/udp]` (repeatable)")
	s.StringArrayVar(&f.gateways, "gateway", nil,
		"the gateway of an interface, `IF=ADDR|none|static` (repeatable)")
	s.StringArrayVar(&f.returns, "return", nil,
		"how replies go back, `IF|ADDR=strict|main-first|off` (repeatable)")
	s.StringArrayVar(&f.addresses, "address", nil,
		"the interface of an address, `ADDR=IF[,GATEWAY]` (repeatable)")
	s.StringArrayVar(&f.direct, "direct", nil,
		"destinations that keep main's way, `PREFIX` (repeatable)")
	s.StringArrayVar(&f.failClosed, "fail-closed", nil, "drop replies rather than let them "+
		"leave another way when `IF`'s\ngateway is gone; * is every interface (repeatable)")
	s.StringVar(&f.netns, "netns", "", "work in another network namespace, `NAME|PATH|PID`")
	s.StringVarP(&f.output, "output", "o", "text", "`FORMAT` of the result: text, json; of "+
		"plan and migrate also html,\nmarkdown, csv; of plan iproute2, networkd")
	s.StringVar(&f.host, "host", "", "take the host from a `FILE` that capture wrote; for "+
		"plan, check,\nexplain and migrate")
	s.StringVar(&f.config, "config", defaultConfig,
		"settings, a `FILE` in YAML; flags win over it; '' is none")
	s.StringVar(&f.runDir, "run-dir", "/run/lasthop", "`DIR` of locks and undo scripts")
	f.given = s.Changed
	_ = s.MarkHidden("run-dir") // fails only for a flag that does not exist
}

// formats refuses an output format that the command does not have.
func (f *flags) formats(have ...string) error {
	if !slices.Contains(have, f.output) {
		return hint(fmt.Errorf("output format %q: not one of this command", f.output),
			"there are: "+strings.Join(have, ", "))
	}
	return nil
}

// live refuses --host for commands that change the machine.
func (f *flags) live(command string) error {
	if f.host != "" {
		return hint(fmt.Errorf("%s works on this machine's kernel, not on a captured host",
			command),
			"plan it for that host: lasthop plan --host "+f.host+" -o iproute2")
	}
	return nil
}

// decisions are the flags that say what is to be done, by name, in the order of
// help.
func (f *flags) decisions() []decision {
	config := decision{name: "config"}
	if f.given != nil && f.given("config") {
		config.values = []string{f.config}
	}
	return []decision{{"nginx-conf", f.confs}, {"listen", f.listens}, {"gateway", f.gateways},
		{"return", f.returns},
		{"address", f.addresses}, {"direct", f.direct},
		{"fail-closed", f.failClosed}, config}
}

type decision struct {
	name   string
	values []string
}

// decides says whether flags say what is to be done, and not only how and
// where.
func (f *flags) decides() bool {
	some := func(d decision) bool { return len(d.values) > 0 }
	return slices.ContainsFunc(f.decisions(), some)
}

// policy reads what the user decided. All mistakes are reported, not the first
// alone.
func (f *flags) policy() (routing.Policy, error) {
	p := routing.Policy{Numbers: routing.DefaultNumbers, FailClosed: f.failClosed}
	var errs []error
	parse := func(name string, values []string, one func(string) error) {
		for _, v := range values {
			if err := one(v); err != nil {
				errs = append(errs, fmt.Errorf("--%s %s: %w", name, v, err))
			}
		}
	}
	parse("gateway", f.gateways, func(v string) error {
		return appendParsed(&p.Gateways, v, parseGateway)
	})
	parse("return", f.returns, func(v string) error {
		return appendParsed(&p.Returns, v, parseReturn)
	})
	parse("address", f.addresses, func(v string) error {
		return appendParsed(&p.Addresses, v, parseAddress)
	})
	parse("direct", f.direct, func(v string) error {
		return appendParsed(&p.Direct, v, parsePrefix)
	})
	return p, errors.Join(errs...)
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
		return "", "", hint(errors.New("incomplete"), "write it as "+usage)
	}
	return key, value, nil
}

func parseGateway(s string) (routing.GatewayPin, error) {
	link, value, err := pair(s, "IF=ADDR, IF=none or IF=static: --gateway eth1=10.0.1.1")
	if err != nil {
		return routing.GatewayPin{}, err
	}
	switch value {
	case "none":
		return routing.GatewayPin{Link: link, None: true}, nil
	case "static":
		return routing.GatewayPin{Link: link, Static: true}, nil
	}
	addr, err := parseAddr(value)
	return routing.GatewayPin{Link: link, Addr: addr}, err
}

func parseReturn(s string) (routing.ReturnPin, error) {
	subject, value, err := pair(s, "IF=MODE or ADDR=MODE: --return eth1=main-first")
	if err != nil {
		return routing.ReturnPin{}, err
	}
	mode := routing.Return(value)
	if mode != routing.Strict && mode != routing.MainFirst && mode != routing.NoReturn {
		return routing.ReturnPin{}, hint(fmt.Errorf("unknown mode %q", value),
			"the modes are strict, main-first and off")
	}
	if addr, err := netip.ParseAddr(subject); err == nil {
		return routing.ReturnPin{Addr: addr.Unmap(), Mode: mode}, nil
	}
	return routing.ReturnPin{Link: subject, Mode: mode}, nil
}

func parseAddress(s string) (routing.AddressPin, error) {
	subject, value, err := pair(s, "ADDR=IF or ADDR=IF,GATEWAY: --address 192.0.2.7=eth1")
	if err != nil {
		return routing.AddressPin{}, err
	}
	p := routing.AddressPin{}
	if p.Addr, err = parseAddr(subject); err != nil {
		return p, err
	}
	link, gateway, with := strings.Cut(value, ",")
	p.Link = link
	if with {
		p.Gateway, err = parseAddr(gateway)
	}
	return p, err
}

func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, hint(fmt.Errorf("%q is no IP address", s),
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
		return p, hint(fmt.Errorf("%q is no prefix", s), "write it as 10.9.0.0/16")
	}
	return p.Masked(), nil
}

// parseListen reads ADDR:PORT[-PORT][/udp]; * is the IPv4 wildcard, [::] the
// IPv6 one.
func parseListen(s string) (routing.Listener, error) {
	l := routing.Listener{Transport: routing.TCP, Context: "flag", Listen: s,
		Origins: []string{"--listen " + s}}
	bad := hint(fmt.Errorf("--listen %s: not an address and port", s),
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
