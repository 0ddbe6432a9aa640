package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lasthop/routing"
)

// This file reads JSON in such a way that every error names its place:
// "routes[3].nexthops[0].weight". encoding/json alone does not: it has no index
// of a list's element, takes the last of equal keys, and makes a mark of bytes
// that are no UTF-8.

// Limits of a document. `ip` nests six deep, and no name, directive or message
// comes near the length.
const (
	maxDepth  = 12
	maxString = 64 << 10
)

// node is one value of the document.
type node struct {
	in    *node  // the object or list that holds it; nil for the document itself
	key   string // its key in an object
	index int    // its place in a list; -1 in an object
	// nil for null, bool, json.Number, string, []*node for a list, fields
	// for an object, absent
	value any
	err   *CaptureError // of the document itself: the first thing wrong in it
}

// fields are the values of an object, in the order of the document.
type fields []*node

// absent is the value of a key that is not there.
type absent struct{}

// place is the way to the value: "rules[0].src".
func (n *node) place() string {
	if n.in == nil {
		return ""
	}
	before := n.in.place()
	switch {
	case n.index >= 0:
		return fmt.Sprintf("%s[%d]", before, n.index)
	case strings.ContainsFunc(n.key,
		func(r rune) bool { return r <= ' ' || r == '"' || r >= 0x7f }) || n.key == "":
		before += "." + strconv.Quote(n.key)
	default:
		before += "." + n.key
	}
	return strings.TrimPrefix(before, ".")
}

func (n *node) top() *node {
	for n.in != nil {
		n = n.in
	}
	return n
}

// fail notes what is wrong with the value. The first failure of a document
// counts.
func (n *node) fail(format string, args ...any) {
	if top := n.top(); top.err == nil {
		top.err = &CaptureError{Key: n.place(), Err: fmt.Errorf(format, args...)}
		if top.err.Key == "" {
			top.err.Key = "document"
		}
	}
}

func (n *node) want(what string) { n.fail("want %s, not %s", what, n) }

// String shows the value in an error.
func (n *node) String() string {
	switch v := n.value.(type) {
	case nil:
		return "null"
	case string:
		if len(v) > 40 {
			return fmt.Sprintf("%.40q…", v)
		}
		return strconv.Quote(v)
	case []*node:
		return "a list"
	case fields:
		return "an object"
	case absent:
		return "nothing"
	}
	return fmt.Sprintf("%.40s", fmt.Sprint(n.value))
}

func (n *node) absent() bool { return n.value == absent{} }

// must refuses a key that is not there.
func (n *node) must() *node {
	if n.absent() {
		n.fail("missing key")
	}
	return n
}

// field returns the value of a key, or one that is absent. `ip` prints what a
// tunnel (encap) needs beside the route's own keys, so that there are two dst,
// the first of which is the route's; elsewhere nobody could say which of two is
// meant.
func (n *node) field(key string) *node {
	var found *node
	object, ok := n.value.(fields)
	if !ok && !n.absent() {
		n.want("an object")
	}
	for _, f := range object {
		switch {
		case f.key != key:
		case found == nil:
			found = f
		case key != "dst" && key != "tos" || !n.ofRoute():
			f.fail("is there twice")
		}
	}
	if found == nil {
		return &node{in: n, key: key, index: -1, value: absent{}}
	}
	return found
}

func (n *node) ofRoute() bool { return n.in != nil && n.in.key == "routes" }

func (n *node) has(key string) bool { return !n.field(key).absent() }

func (n *node) list() []*node {
	list, ok := n.value.([]*node)
	if !ok && !n.absent() {
		n.want("a list")
	}
	return list
}

func (n *node) string() string {
	s, ok := n.value.(string)
	if !ok && !n.absent() {
		n.want("a string")
	}
	return s
}

func (n *node) strings() []string {
	return mapped(n.list(), (*node).string)
}

// text is a string, or a number that is kept as its digits: `ip -N` prints
// numbers both ways.
func (n *node) text() string {
	if v, ok := n.value.(json.Number); ok {
		return string(v)
	}
	if _, ok := n.value.(string); !ok && !n.absent() {
		n.want("a number or a string")
		return ""
	}
	return n.string()
}

// word is a text that can stand in a line of `ip`.
func (n *node) word() string {
	s := n.text()
	if !n.absent() && (s == "" || strings.ContainsAny(s, " \t\n\v\f\r")) {
		n.want("one word")
	}
	return s
}

// name is a link's name, as the kernel judges it (dev_valid_name), but as long
// as alternative names may be (ALTIFNAMSIZ).
func (n *node) name() string {
	s := n.string()
	if n.absent() {
		return ""
	}
	if s == "" || len(s) > 127 || s == "." || s == ".." ||
		strings.ContainsAny(s, "/: \t\n\v\f\r\x00") {
		n.want("the name of an interface")
	}
	return s
}

func (n *node) number(most int64) int64 { return n.between(0, most) }

func (n *node) between(least, most int64) int64 {
	v, _ := n.value.(json.Number)
	i, err := strconv.ParseInt(string(v), 10, 64)
	if !n.absent() && (err != nil || i < least || i > most) {
		n.want(fmt.Sprintf("a number from %d to %d", least, most))
	}
	return i
}

// numeral is a number as a text; the word stands for 0. Other words are names
// in a file of the captured machine.
func (n *node) numeral(word string, bits int) uint64 {
	s := n.text()
	if s == word || n.absent() {
		return 0
	}
	i, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		n.fail("%q is no number of %d bits: capture with ip -N", s, bits)
	}
	return i
}

// flag is a key whose presence says yes; `ip` gives it null or true.
func (n *node) flag() bool {
	yes, ok := n.value.(bool)
	if !ok && !n.absent() && n.value != nil {
		n.want("true, false or null")
	}
	return yes || n.value == nil
}

func (n *node) addr() netip.Addr {
	s := n.string()
	a, err := netip.ParseAddr(s)
	if !n.absent() && (err != nil || a.Zone() != "") {
		n.want("an IP address")
	}
	return a
}

// part is some words of an `ip` line, and the value that they come from.
type part struct {
	at    *node
	words []string
}

// parse reads a line made of parts. Where it is refused, the part with which it
// is refused first is to blame; the parts before least are known to be good.
func parse[T any](least int, parts []part, read func(line string) (T, error)) T {
	line := func(parts []part) string {
		var w []string
		for _, p := range parts {
			w = append(w, p.words...)
		}
		return strings.Join(w, " ")
	}
	x, err := read(line(parts))
	for i := least; err != nil && i <= len(parts); i++ {
		if _, e := read(line(parts[:i])); e != nil {
			if inner := errors.Unwrap(e); inner != nil {
				e = inner // without the line
			}
			parts[i-1].at.fail("%w", e)
			break
		}
	}
	return x
}

// reader reads a document from its first byte to its last.
type reader struct {
	data []byte
	dec  *json.Decoder
	top  *node
}

func newReader(data []byte) *reader {
	r := &reader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), top: &node{index: -1}}
	r.dec.UseNumber()
	return r
}

func (r *reader) failed() bool { return r.top.err != nil }

// token returns the next token, which belongs to a value or is one of its keys;
// nil after a failure (and for null).
func (r *reader) token(of *node) json.Token {
	before := r.dec.InputOffset()
	t, err := r.dec.Token()
	if err == io.EOF {
		err = errors.New("the document ends too early")
	}
	if err != nil {
		of.fail("%s: %w", r.position(before), err)
		return nil
	}
	s, ok := t.(string)
	switch {
	case !ok:
	case len(s) > maxString:
		of.fail("%s: a string of %d bytes, want %d at most", r.position(before),
			len(s), maxString)
	case !utf8.Valid(r.data[before:r.dec.InputOffset()]):
		of.fail("%s: a string that is no UTF-8", r.position(before))
	}
	return t
}

// position says where the next token begins.
func (r *reader) position(offset int64) string {
	head := r.data[:offset]
	rest := r.data[offset:]
	head = r.data[:len(head)+len(rest)-len(bytes.TrimLeft(rest, " \t\r\n,:"))]
	line := 1 + bytes.Count(head, []byte("\n"))
	return fmt.Sprintf("line %d, column %d", line, len(head)-bytes.LastIndexByte(head, '\n'))
}

// tree reads a value with all that is in it.
func (r *reader) tree(n *node, depth int) {
	t := r.token(n)
	delim, ok := t.(json.Delim)
	switch {
	case r.failed():
	case !ok:
		n.value = t
	case depth == maxDepth:
		n.fail("nested more than %d deep", maxDepth)
	case delim == '[':
		n.value = r.list(n, depth)
	default:
		n.value = r.fields(n, depth)
	}
}

func (r *reader) list(n *node, depth int) []*node {
	list := []*node{}
	r.each(n, func(x *node) {
		r.tree(x, depth+1)
		list = append(list, x)
	})
	return list
}

func (r *reader) fields(n *node, depth int) fields {
	list := fields{}
	for !r.failed() && r.dec.More() {
		key, _ := r.token(n).(string)
		x := &node{in: n, key: key, index: -1}
		if !r.failed() {
			r.tree(x, depth+1)
		}
		list = append(list, x)
	}
	r.end(n)
	return list
}

// each hands out the places of a list that has begun.
func (r *reader) each(n *node, do func(*node)) {
	for i := 0; !r.failed() && r.dec.More(); i++ {
		do(&node{in: n, index: i})
	}
	r.end(n)
}

func (r *reader) end(n *node) {
	if !r.failed() {
		r.token(n)
	}
}

// opened reads the first token of an object or list, and says whether it is
// one.
func (r *reader) opened(n *node, delim json.Delim, what string) bool {
	n.value = r.token(n)
	if got, ok := n.value.(json.Delim); ok {
		n.value = map[json.Delim]any{'[': []*node{}, '{': fields{}}[got]
		if got == delim {
			return !r.failed()
		}
	}
	n.want(what)
	return false
}

// captureKey is a top-level key of a capture.
type captureKey struct {
	required bool
	// of a list: makes it empty, which is not the same as not said
	begin func(*Capture)
	read  func(*Capture, *node) // reads the value, or each of a list's
}

// ipLists are the lists in which `ip -j` prints an empty object for what its
// filter leaves out.
var ipLists = []string{"links", "addrs", "routes", "rules", "neighs"}

var captureKeys = map[string]captureKey{
	"version": {true, nil, func(c *Capture, n *node) {
		if c.Version = int(n.number(1 << 30)); c.Version != CaptureVersion {
			n.fail("want %d, not %s", CaptureVersion, n)
		}
	}},
	"host":   {true, nil, func(c *Capture, n *node) { c.Host.Name = n.string() }},
	"time":   {true, nil, func(c *Capture, n *node) { c.Time = n.time() }},
	"kernel": {true, nil, func(c *Capture, n *node) { c.Host.Kernel = n.string() }},
	"links": elements(true, func(c *Capture) *[]routing.Link { return &c.Host.Links },
		(*node).link),
	"addrs": {true, func(*Capture) {}, func(c *Capture, n *node) {
		c.Host.Addrs = append(c.Host.Addrs, n.addrs()...)
	}},
	"routes": elements(true, func(c *Capture) *[]routing.Route { return &c.Host.Routes },
		(*node).route),
	"rules": elements(true, func(c *Capture) *[]routing.Rule { return &c.Host.Rules },
		(*node).rule),
	"neighs": elements(false, func(c *Capture) *[]routing.Neigh { return &c.Host.Neighs },
		(*node).neigh),
	"leases": elements(false, func(c *Capture) *[]routing.Lease { return &c.Host.Leases },
		(*node).lease),
	"sysctls": {false, nil, func(c *Capture, n *node) { c.Host.Sysctls = n.texts() }},
	"listens": elements(false, func(c *Capture) *[]routing.Listener { return &c.Listens },
		(*node).listener),
	"binds": elements(false, func(c *Capture) *[]routing.Bind { return &c.Binds },
		(*node).bind),
	"inputs": elements(false, func(c *Capture) *[]Input { return &c.Inputs }, (*node).input),
	"warnings": elements(false, func(c *Capture) *[]routing.Finding { return &c.Warnings },
		(*node).warning),
	"flags": {false, nil, func(c *Capture, n *node) { c.Flags = n.flags(captureFlags) }},
	"settings": {false, nil, func(c *Capture, n *node) {
		c.Settings = n.flags(captureSettings)
	}},
	"numbers": {false, nil, func(c *Capture, n *node) { c.Numbers = n.numbers() }},
	"dnats":   elements(false, func(c *Capture) *[]DNAT { return &c.DNATs }, (*node).dnat),
	"sessions": elements(false, func(c *Capture) *[]SessionGroup { return &c.Sessions },
		(*node).sessions),
	"networkd": {false, nil, func(c *Capture, n *node) { c.NetworkFiles = n.texts() }},
}

func elements[T any](required bool, of func(*Capture) *[]T, read func(*node) T) captureKey {
	return captureKey{required, func(c *Capture) { *of(c) = []T{} },
		func(c *Capture, n *node) { *of(c) = append(*of(c), read(n)) }}
}

// capture reads the document, key by key and element by element: a host may
// have very many routes.
func (r *reader) capture() (c Capture) {
	seen := map[string]bool{}
	for r.opened(r.top, '{', "an object"); !r.failed() && r.dec.More(); {
		key, _ := r.token(r.top).(string)
		n := &node{in: r.top, key: key, index: -1}
		known, ok := captureKeys[key]
		switch {
		case r.failed():
		case !ok:
			n.fail("unknown key")
		case seen[key]:
			n.fail("is there twice")
		case known.begin == nil:
			r.tree(n, 1)
			known.read(&c, n)
		case r.opened(n, '[', "a list"):
			known.begin(&c)
			r.each(n, func(x *node) {
				r.tree(x, 2)
				if f, ok := x.value.(fields); !r.failed() &&
					!(ok && len(f) == 0 && slices.Contains(ipLists, key)) {
					known.read(&c, x)
				}
			})
		}
		seen[key] = true
	}
	r.end(r.top)
	for _, key := range sortedKeys(captureKeys) {
		if captureKeys[key].required && !seen[key] {
			(&node{in: r.top, key: key, index: -1}).fail("missing key")
		}
	}
	if after := r.dec.InputOffset(); !r.failed() {
		if _, err := r.dec.Token(); err != io.EOF {
			r.top.fail("%s: more after its end", r.position(after))
		}
	}
	return c
}
