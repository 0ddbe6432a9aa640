package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/sys/unix"
)

// defaultConfig is read if it is there.
const defaultConfig = "/etc/lasthop/lasthop.yaml"

// settings are what the user decided: lasthop.yaml, and the flags that win over
// it.
type settings struct {
	policy     routing.Policy
	confs      []string
	listens    []string
	tableNames bool
	metrics    string // address of the endpoint, "" for none
	file       string // "" if there is none
}

// settings reads the file and the flags. All mistakes are reported, not the
// first alone.
func (f *flags) settings() (settings, error) {
	s, fileErr := f.fileSettings()
	p, flagErr := f.policy()
	if err := errors.Join(fileErr, flagErr); err != nil {
		return settings{}, err
	}
	if len(f.confs) > 0 {
		s.confs = f.confs
	}
	if len(f.listens) > 0 {
		s.listens = f.listens
	}
	s.policy.Gateways = override(s.policy.Gateways, p.Gateways,
		func(g routing.GatewayPin) string { return g.Link })
	s.policy.Returns = override(s.policy.Returns, p.Returns,
		func(r routing.ReturnPin) routing.ReturnPin { r.Mode = ""; return r })
	s.policy.Addresses = override(s.policy.Addresses, p.Addresses,
		func(a routing.AddressPin) netip.Addr { return a.Addr })
	s.policy.Direct = append(s.policy.Direct, p.Direct...)
	s.policy.FailClosed = append(s.policy.FailClosed, p.FailClosed...)
	return s, nil
}

// override replaces what the flags speak of, and leaves the rest.
func override[T any, K comparable](file, flags []T, subject func(T) K) []T {
	named := map[K]bool{}
	for _, x := range flags {
		named[subject(x)] = true
	}
	return append(slices.DeleteFunc(file, func(x T) bool { return named[subject(x)] }),
		flags...)
}

// fileSettings reads the file of --config, or the default one if it is there.
func (f *flags) fileSettings() (settings, error) {
	none := settings{policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	path := f.config
	if path == "" {
		return none, nil
	}
	if f.host != "" && (f.given == nil || !f.given("config")) {
		return f.capturedSettings() // the default file is this machine's
	}
	data, err := readConfig(path)
	if errors.Is(err, os.ErrNotExist) && path == defaultConfig &&
		(f.given == nil || !f.given("config")) {
		return none, nil
	}
	if err != nil {
		return none, hint(fmt.Errorf("read settings: %w", err),
			"name another file with --config, or none: --config ''")
	}
	return parseConfig(path, data)
}

// capturedSettings are those of the captured host.
func (f *flags) capturedSettings() (settings, error) {
	s := f.captured.Settings
	p, err := (&flags{gateways: s["gateway"], returns: s["return"], addresses: s["address"],
		direct: s["direct"], failClosed: s["fail-closed"]}).policy()
	if err != nil {
		return settings{}, fmt.Errorf("%s: settings: %w", f.host, err)
	}
	if f.captured.Numbers != (routing.Numbers{}) {
		p.Numbers = f.captured.Numbers
	}
	return settings{policy: p}, nil
}

// captureSettings writes a policy in the words of the flags.
func captureSettings(p routing.Policy) map[string][]string {
	all := map[string][]string{
		"gateway": mapped(p.Gateways, func(g routing.GatewayPin) string {
			switch {
			case g.None:
				return g.Link + "=none"
			case g.Static:
				return g.Link + "=static"
			}
			return g.Link + "=" + g.Addr.String()
		}),
		"return": mapped(p.Returns, func(r routing.ReturnPin) string {
			if r.Addr.IsValid() {
				return r.Addr.String() + "=" + string(r.Mode)
			}
			return r.Link + "=" + string(r.Mode)
		}),
		"address": mapped(p.Addresses, func(a routing.AddressPin) string {
			if a.Gateway.IsValid() {
				return a.Addr.String() + "=" + a.Link + "," + a.Gateway.String()
			}
			return a.Addr.String() + "=" + a.Link
		}),
		"direct":      mapped(p.Direct, netip.Prefix.String),
		"fail-closed": p.FailClosed,
	}
	maps.DeleteFunc(all, func(_ string, values []string) bool { return len(values) == 0 })
	return all
}

func mapped[T, U any](list []T, f func(T) U) []U {
	out := make([]U, 0, len(list))
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}

// maxConfig is far above any file that a person writes.
const maxConfig = 1 << 20

// readConfig never waits for a FIFO.
func readConfig(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a file", path)
	case info.Size() > maxConfig:
		return nil, fmt.Errorf("%s: too large", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: too large", path)
	}
	return data, err
}

// maxNesting is more than any key needs; a parser that calls itself for each
// bracket would end the daemon.
const maxNesting = 50

// nested says whether brackets, or indentation, go deeper than anything that
// makes sense here.
func nested(data []byte) bool {
	depth := 0
	for line := range bytes.Lines(data) {
		if indent := len(line) - len(bytes.TrimLeft(line, " -")); indent > 4*maxNesting {
			return true
		}
	}
	for _, b := range data {
		switch b {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > maxNesting {
			return true
		}
	}
	return false
}

// parseConfig reads a lasthop.yaml. Every error names file, line and key.
func parseConfig(path string, data []byte) (settings, error) {
	c := &configReader{file: path,
		settings: settings{policy: routing.Policy{Numbers: routing.DefaultNumbers},
			file: path}}
	if nested(data) {
		return settings{}, hint(fmt.Errorf("%s: nested too deeply", path),
			"the sample lasthop.yaml shows every key")
	}
	doc, err := parser.ParseBytes(data, 0)
	if syntax := yaml.Error(nil); errors.As(err, &syntax) {
		c.fail(syntax.GetToken().Position.Line, "", errors.New(syntax.GetMessage()))
		return settings{}, c.err()
	}
	if err != nil {
		return settings{}, fmt.Errorf("%s: %w", path, err)
	}
	for i, d := range doc.Docs {
		if d.Body == nil {
			continue
		}
		if i > 0 {
			c.fail(lineOf(d.Body), "",
				hint(errors.New("a second document"), "keep one, without ---"))
			break
		}
		c.mapping(d.Body, "", map[string]visit{"nginx": c.each(&c.settings.confs),
			"listen": c.eachListen, "interfaces": c.interfaces,
			"addresses": c.addresses, "direct": c.direct, "numbers": c.numbers,
			"table_names": c.boolean(&c.settings.tableNames), "metrics": c.metrics})
	}
	return c.settings, c.err()
}

// configReader walks the file, and goes on after a mistake to find the others.
type configReader struct {
	file     string
	settings settings
	errs     []error
}

// visit reads the value of a key; at is the key with those above it.
type visit func(n ast.Node, at string)

func (c *configReader) err() error { return errors.Join(c.errs...) }

func (c *configReader) fail(line int, at string, err error) {
	where := fmt.Sprintf("%s:%d: ", c.file, line)
	if at != "" {
		where += at + ": "
	}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		c.errs = append(c.errs, hint(fmt.Errorf("%s%w", where, err), h.Hint()))
		return
	}
	c.errs = append(c.errs,
		hint(fmt.Errorf("%s%w", where, err), "the sample lasthop.yaml shows every key"))
}

func lineOf(n ast.Node) int { return n.GetToken().Position.Line }

// pairs returns the entries of a map; null is an empty one.
func (c *configReader) pairs(n ast.Node, at string) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	case *ast.NullNode:
		return nil
	}
	c.fail(lineOf(n), at, fmt.Errorf("want keys with values, not %s", kindOf(n)))
	return nil
}

// mapping reads a map with known keys.
func (c *configReader) mapping(n ast.Node, at string, keys map[string]visit) {
	for _, p := range c.pairs(n, at) {
		key := p.Key.GetToken().Value
		read, ok := keys[key]
		if !ok {
			c.fail(lineOf(p), at, hint(fmt.Errorf("unknown key %q", key),
				"the keys here: "+strings.Join(sortedKeys(keys), ", ")))
			continue
		}
		read(p.Value, strings.TrimPrefix(at+"."+key, "."))
	}
}

func sortedKeys(m map[string]visit) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// kindOf names what stands where something else should.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a map; an IPv6 address wants quotes"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "an anchor, alias or tag"
	case *ast.NullNode:
		return "nothing"
	}
	return strconv.Quote(n.GetToken().Value)
}

// scalar reads one word.
func (c *configReader) scalar(n ast.Node, at string, use func(string) error) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if err := use(n.GetToken().Value); err != nil {
			c.fail(lineOf(n), at, err)
		}
	default:
		c.fail(lineOf(n), at, fmt.Errorf("want a word, not %s", kindOf(n)))
	}
}

// list reads a list of words.
func (c *configReader) list(n ast.Node, at string, use func(string) error) {
	switch l := n.(type) {
	case *ast.SequenceNode:
		for _, item := range l.Values {
			c.scalar(item, at, use)
		}
	case *ast.NullNode:
	default:
		c.fail(lineOf(n), at, hint(fmt.Errorf("want a list, not %s", kindOf(n)),
			"write it as [one, two]"))
	}
}

func (c *configReader) each(into *[]string) visit {
	return func(n ast.Node, at string) {
		c.list(n, at, func(s string) error { *into = append(*into, s); return nil })
	}
}

func (c *configReader) boolean(into *bool) visit {
	return func(n ast.Node, at string) {
		c.scalar(n, at, func(s string) error {
			if _, ok := n.(*ast.BoolNode); !ok {
				return fmt.Errorf("want true or false, not %q", s)
			}
			*into = strings.EqualFold(s, "true")
			return nil
		})
	}
}

func (c *configReader) eachListen(n ast.Node, at string) {
	c.list(n, at, func(s string) error {
		if _, err := parseListen(s); err != nil {
			return hint(fmt.Errorf("%q: not an address and port", s),
				"write it as 10.0.1.100:443, [2001:db8::1]:443 or *:53/udp")
		}
		c.settings.listens = append(c.settings.listens, s)
		return nil
	})
}

// interfaces reads interfaces.NAME.{gateways,return,fail_closed}.
func (c *configReader) interfaces(n ast.Node, at string) {
	p := &c.settings.policy
	for _, e := range c.pairs(n, at) {
		link := e.Key.GetToken().Value
		closed := false
		c.mapping(e.Value, at+"."+link, map[string]visit{
			"gateways": func(n ast.Node, at string) {
				c.list(n, at, func(s string) error {
					return appendParsed(&p.Gateways, link+"="+s, parseGateway)
				})
			},
			"return": func(n ast.Node, at string) {
				c.scalar(n, at, func(s string) error {
					return appendParsed(&p.Returns, link+"="+s, parseReturn)
				})
			},
			"fail_closed": c.boolean(&closed),
		})
		if closed {
			p.FailClosed = append(p.FailClosed, link)
		}
	}
}

// addresses reads addresses.ADDR.{interface,gateway,return}.
func (c *configReader) addresses(n ast.Node, at string) {
	p := &c.settings.policy
	for _, e := range c.pairs(n, at) {
		name := e.Key.GetToken().Value
		addr, err := parseAddr(name)
		if err != nil {
			c.fail(lineOf(e), at, err)
			continue
		}
		pin := routing.AddressPin{Addr: addr}
		c.mapping(e.Value, at+"."+name, map[string]visit{
			"interface": func(n ast.Node, at string) {
				c.scalar(n, at, func(s string) error { pin.Link = s; return nil })
			},
			"gateway": func(n ast.Node, at string) {
				c.scalar(n, at, func(s string) (err error) {
					pin.Gateway, err = parseAddr(s)
					return err
				})
			},
			"return": func(n ast.Node, at string) {
				c.scalar(n, at, func(s string) error {
					return appendParsed(&p.Returns, name+"="+s, parseReturn)
				})
			},
		})
		switch {
		case pin.Link != "":
			p.Addresses = append(p.Addresses, pin)
		case pin.Gateway.IsValid():
			c.fail(lineOf(e), at+"."+name,
				hint(errors.New("a gateway without its interface"),
					"add interface: eth1"))
		}
	}
}

func (c *configReader) direct(n ast.Node, at string) {
	c.list(n, at, func(s string) error {
		return appendParsed(&c.settings.policy.Direct, s, parsePrefix)
	})
}

func (c *configReader) metrics(n ast.Node, at string) {
	c.mapping(n, at, map[string]visit{"listen": func(n ast.Node, at string) {
		c.scalar(n, at, func(s string) error {
			if _, err := netip.ParseAddrPort(s); err != nil {
				return hint(fmt.Errorf("%q is no address and port", s),
					"write it as 127.0.0.1:9176; to listen "+
						"everywhere, as 0.0.0.0:9176")
			}
			c.settings.metrics = s
			return nil
		})
	}})
}

// numbers reads numbers.{protocol,group,tables,priority}.
func (c *configReader) numbers(n ast.Node, at string) {
	nums := &c.settings.policy.Numbers
	number := func(low, high int, why string, set func(int)) visit {
		return func(n ast.Node, at string) {
			c.scalar(n, at, func(s string) error {
				x, err := strconv.Atoi(s)
				if err != nil || x < low || high < x {
					return hint(fmt.Errorf("want a number from %d to %d, "+
						"not %q", low, high, s), why)
				}
				set(x)
				return nil
			})
		}
	}
	c.mapping(n, at, map[string]visit{
		"protocol": number(5, 255, "0 to 4 are the kernel's and the administrator's",
			func(x int) { nums.Protocol = uint8(x) }),
		"group": number(1, 1<<31-1, "0 is the group of all links that are in none",
			func(x int) { nums.Group = x }),
		"priority": number(1, 32000, "behind `local` (0) and in front of main (32766) "+
			"and what has no priority of its own", func(x int) { nums.Base = x }),
		"tables": func(n ast.Node, at string) {
			c.scalar(n, at, func(s string) error { return parseTables(nums, s) })
		},
	})
}

// parseTables reads FIRST-LAST.
func parseTables(n *routing.Numbers, s string) error {
	a, b, _ := strings.Cut(s, "-")
	first, err1 := strconv.ParseUint(a, 10, 32)
	last, err2 := strconv.ParseUint(b, 10, 32)
	switch {
	case err1 != nil || err2 != nil || last < first:
		return hint(fmt.Errorf("%q is no range", s), "write it as 20000-20999")
	case first < 256:
		return hint(fmt.Errorf("%q reaches below 256", s),
			"253 to 255 are the kernel's, and those below are everybody's")
	case last-first+1 < 16:
		return hint(fmt.Errorf("%q is too small", s),
			"each way back takes a table; 16 at least")
	}
	n.TableFirst, n.TableLast = uint32(first), uint32(last)
	return nil
}
