package settings

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

	"lasthop/internal/hint"
	"lasthop/internal/plus"
	"lasthop/routing"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/sys/unix"
)

// MaxFile is the size of the largest lasthop.yaml, in bytes: 7,000 addresses as
// migrate writes them. The time of the YAML parser grows with the square of
// what a mapping holds: it takes a third of a second for as many.
const MaxFile = 256 << 10

const (
	maxMistakes = 20      // that are reported
	maxWord     = 4 << 10 // of one word, a path
	maxFlows    = 1 << 26 // 20 GB
)

// readFile reads a regular file, and with pipe also a pipe without a name: then
// it waits for the writer. It never waits for a FIFO: that may have no writer.
func readFile(path string, pipe bool) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeNamedPipe != 0 && !pipe:
		return nil, fmt.Errorf("%s: not a file but a pipe, which can be read once: only "+
			"lasthop test takes it", path)
	case !info.Mode().IsRegular() && !unnamedPipe(f):
		return nil, fmt.Errorf("%s: not a file", path)
	case info.Size() > MaxFile:
		return nil, tooLarge(path)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1)) // it may grow meanwhile
	if len(data) > MaxFile {
		return nil, tooLarge(path)
	}
	return data, err
}

// unnamedPipe reports whether a file is a pipe without a name. Without a writer
// it is at its end.
func unnamedPipe(f *os.File) bool {
	var s unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &s) == nil && s.Type == unix.PIPEFS_MAGIC
}

func tooLarge(path string) error {
	return fmt.Errorf("%s: too large: settings have at most %d bytes", path, MaxFile)
}

// maxNesting is more than any key needs; a parser that calls itself for each
// bracket would end the daemon.
const maxNesting = 50

// nested reports whether brackets, or indentation, go deeper than anything that
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

// bom is what editors of Windows put in front of UTF-8. YAML allows it (1.2.2,
// section 5.2); the parser treats it as a part of the first key.
const bom = "\ufeff"

// Parse reads a lasthop.yaml. Every error names file, line and key. With an
// error the settings are those that were read without a mistake, else the
// default ones.
func Parse(path string, data []byte) (Settings, error) {
	c := &reader{file: path,
		settings: Settings{Policy: routing.Policy{Numbers: routing.DefaultNumbers},
			File: path, Text: string(data)}}
	if nested(data) {
		return c.settings, hint.New(fmt.Errorf("%s: nested too deeply", path),
			"the sample lasthop.yaml shows every key")
	}
	doc, err := parser.ParseBytes(bytes.TrimPrefix(data, []byte(bom)), 0)
	if syntax := yaml.Error(nil); errors.As(err, &syntax) {
		c.fail(syntax.GetToken().Position.Line, "", errors.New(syntax.GetMessage()))
		return c.settings, c.err()
	}
	if err != nil {
		return c.settings, fmt.Errorf("%s: %w", path, err)
	}
	for i, d := range doc.Docs {
		if d.Body == nil {
			continue
		}
		if i > 0 {
			c.fail(lineOf(d.Body), "",
				hint.New(errors.New("a second document"), "keep one, without ---"))
			break
		}
		s := &c.settings
		c.mapping(d.Body, "", map[string]visit{
			"nginx": c.list(func(conf string) error {
				s.Confs = append(s.Confs, conf)
				return nil
			}),
			"listen": c.list(c.listen), "interfaces": c.interfaces,
			"addresses": c.addresses, "numbers": c.numbers, "metrics": c.metrics,
			"direct":                c.list(parsed(&s.Policy.Direct, "", parsePrefix)),
			"last_hop_flows":        c.word(s.flows),
			"plus_api":              c.word(s.plusAPI),
			"last_hop_trust_kernel": c.boolean(&s.TrustKernel),
			"table_names":           c.boolean(&s.TableNames)})
	}
	return c.settings, c.err()
}

// reader walks the file, and goes on after a mistake to find the next ones.
type reader struct {
	file     string
	settings Settings
	errs     []error
}

// visit reads the value of a key; at is the key with those above it.
type visit func(n ast.Node, at string)

func (c *reader) err() error { return errors.Join(c.errs...) }

// fail records a mistake. The last reported one says that there are more.
func (c *reader) fail(line int, at string, err error) {
	if len(c.errs) > maxMistakes {
		return
	}
	if len(c.errs) == maxMistakes {
		at, err = "", fmt.Errorf("%d mistakes are enough: what comes from here on is "+
			"not reported", maxMistakes)
	}
	where := fmt.Sprintf("%s:%d: ", c.file, line)
	if at != "" {
		where += at + ": "
	}
	remedy := hint.Of(err)
	err = fmt.Errorf("%s%w", where, err)
	if remedy == "" {
		err = hint.New(err, "the sample lasthop.yaml shows every key")
	}
	c.errs = append(c.errs, err)
}

func lineOf(n ast.Node) int { return n.GetToken().Position.Line }

// pairs returns the entries of a map; null is an empty one.
func (c *reader) pairs(n ast.Node, at string) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	case *ast.NullNode:
		return nil
	}
	kind := kindOf(n)
	if at == "" && strings.HasPrefix(kind, `"`) {
		kind = "words" // of a file that is something else, and may be a secret
	}
	c.fail(lineOf(n), at, fmt.Errorf("want keys with values, not %s", kind))
	return nil
}

// mapping reads a map with known keys.
func (c *reader) mapping(n ast.Node, at string, keys map[string]visit) {
	for _, p := range c.pairs(n, at) {
		key := p.Key.GetToken().Value
		if len(key) > maxWord {
			key = "(long)"
		}
		read, ok := keys[key]
		if !ok {
			c.fail(lineOf(p), at, hint.New(fmt.Errorf("unknown key %q", key),
				"the keys here: "+
					strings.Join(slices.Sorted(maps.Keys(keys)), ", ")))
			continue
		}
		read(p.Value, strings.TrimPrefix(at+"."+key, "."))
	}
}

// kindOf names a node that stands where another kind should.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a map; put an IPv6 address in quotes"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "an anchor, alias or tag"
	case *ast.NullNode:
		return "nothing"
	}
	if len(n.GetToken().Value) > maxWord {
		return "a long word"
	}
	return strconv.Quote(n.GetToken().Value)
}

// scalar reads one word.
func (c *reader) scalar(n ast.Node, at string, use func(string) error) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if size := len(n.GetToken().Value); size > maxWord {
			c.fail(lineOf(n), at, fmt.Errorf("a word of %d characters", size))
		} else if err := use(n.GetToken().Value); err != nil {
			c.fail(lineOf(n), at, err)
		}
	default:
		c.fail(lineOf(n), at, fmt.Errorf("want a word, not %s", kindOf(n)))
	}
}

// word visits one word.
func (c *reader) word(use func(string) error) visit {
	return func(n ast.Node, at string) { c.scalar(n, at, use) }
}

// list visits a list of words.
func (c *reader) list(use func(string) error) visit {
	return func(n ast.Node, at string) {
		switch l := n.(type) {
		case *ast.SequenceNode:
			for _, item := range l.Values {
				c.scalar(item, at, use)
			}
		case *ast.NullNode:
		default:
			c.fail(lineOf(n), at, hint.New(fmt.Errorf("want a list, not %s", kindOf(n)),
				"write it as [one, two]"))
		}
	}
}

// parsed appends what parse reads from a word, with its prefix.
func parsed[T any](into *[]T, front string, parse func(string) (T, error)) func(string) error {
	return func(s string) error { return appendParsed(into, front+s, parse) }
}

func (c *reader) boolean(into *bool) visit {
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

// flows reads how many connections the mode last-hop remembers.
func (s *Settings) flows(word string) error {
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > maxFlows {
		return hint.New(fmt.Errorf("want a number from 1 to %d, not %q", maxFlows, word),
			fmt.Sprintf("connections that the mode last-hop remembers; without it %d, "+
				"which take 78 MB", routing.DefaultFlows))
	}
	s.Policy.Flows = n
	return nil
}

// plusAPI reads the address of NGINX Plus' API.
func (s *Settings) plusAPI(word string) error {
	s.PlusAPI = word
	return plus.Check(word)
}

// listen reads one of listen.
func (c *reader) listen(s string) error {
	if err := appendParsed(&c.settings.Listens, s, ParseListen); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	return nil
}

// interfaces reads interfaces.NAME.{gateways,return,fail_closed}.
func (c *reader) interfaces(n ast.Node, at string) {
	p := &c.settings.Policy
	for _, e := range c.pairs(n, at) {
		link, err := parseLink(e.Key.GetToken().Value)
		if err != nil {
			c.fail(lineOf(e), at, err)
			continue
		}
		closed := false
		c.mapping(e.Value, at+"."+link, map[string]visit{
			"gateways":    c.list(parsed(&p.Gateways, link+"=", parseGateway)),
			"return":      c.word(parsed(&p.Returns, link+"=", parseReturn)),
			"fail_closed": c.boolean(&closed),
		})
		if closed {
			p.FailClosed = append(p.FailClosed, link)
		}
	}
}

// addresses reads addresses.ADDR.{interface,gateway,return}.
func (c *reader) addresses(n ast.Node, at string) {
	p := &c.settings.Policy
	for _, e := range c.pairs(n, at) {
		name := e.Key.GetToken().Value
		addr, err := ParseAddr(name)
		if err != nil {
			c.fail(lineOf(e), at, err)
			continue
		}
		pin := routing.AddressPin{Addr: addr}
		c.mapping(e.Value, at+"."+name, map[string]visit{
			"interface": c.word(func(s string) (err error) {
				pin.Link, err = parseLink(s)
				return err
			}),
			"gateway": c.word(func(s string) (err error) {
				pin.Gateway, err = ParseAddr(s)
				return err
			}),
			"return": c.word(parsed(&p.Returns, name+"=", parseReturn)),
		})
		switch {
		case pin.Link != "":
			p.Addresses = append(p.Addresses, pin)
		case pin.Gateway.IsValid():
			c.fail(lineOf(e), at+"."+name,
				hint.New(errors.New("a gateway without its interface"),
					"add interface: eth1"))
		}
	}
}

func (c *reader) metrics(n ast.Node, at string) {
	c.mapping(n, at, map[string]visit{"listen": c.word(func(s string) error {
		if _, err := netip.ParseAddrPort(s); err != nil {
			return hint.New(fmt.Errorf("%q is not an address and port", s),
				"write it as 127.0.0.1:9176; to listen everywhere, as 0.0.0.0:9176")
		}
		c.settings.Metrics = s
		return nil
	}), "hosts": c.list(func(s string) error {
		c.settings.MetricsHosts = append(c.settings.MetricsHosts, s)
		return nil
	})})
}

// numbers reads numbers.{protocol,group,tables,priority}.
func (c *reader) numbers(n ast.Node, at string) {
	nums := &c.settings.Policy.Numbers
	number := func(low, high int, why string, set func(int)) visit {
		return c.word(func(s string) error {
			x, err := strconv.Atoi(s)
			if err != nil || x < low || high < x {
				return hint.New(fmt.Errorf("want a number from %d to %d, not %q",
					low, high, s), why)
			}
			set(x)
			return nil
		})
	}
	c.mapping(n, at, map[string]visit{
		"protocol": number(5, 255, "the kernel and the administrator use 0 to 4",
			func(x int) { nums.Protocol = uint8(x) }),
		"group": number(1, 1<<31-1, "the kernel puts links without a group into group 0",
			func(x int) { nums.Group = x }),
		"priority": number(1, 32000, "greater than 0 (`local`) and smaller than 32766 "+
			"(main) and than rules without a priority of their "+
			"own", func(x int) { nums.Base = x }),
		"tables": c.word(func(s string) error { return parseTables(nums, s) }),
	})
}

// parseTables reads FIRST-LAST.
func parseTables(n *routing.Numbers, s string) error {
	a, b, _ := strings.Cut(s, "-")
	first, err1 := strconv.ParseUint(a, 10, 32)
	last, err2 := strconv.ParseUint(b, 10, 32)
	switch {
	case err1 != nil || err2 != nil || last < first:
		return hint.New(fmt.Errorf("%q is not a range", s), "write it as 20000-20999")
	case first < 256:
		return hint.New(fmt.Errorf("%q reaches below 256", s),
			"the kernel uses 253 to 255, and administrators use those below")
	case last-first+1 < 16:
		return hint.New(fmt.Errorf("%q is too small", s),
			"each path takes a table; give at least 16")
	}
	n.TableFirst, n.TableLast = uint32(first), uint32(last)
	return nil
}
