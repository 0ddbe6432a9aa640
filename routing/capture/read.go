package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// This file reads JSON so that each error names its place:
// "routes[3].nexthops[0].weight". jsontext checks the syntax. Each value is
// then checked against what belongs there.

// maxString bounds a string. No name, directive or message comes near it.
const maxString = 64 << 10

// reader reads one document from its first byte to its last. It keeps the
// first error; after it, it reads nothing more and returns zero values.
type reader struct {
	data []byte
	dec  *jsontext.Decoder
	path []step // to the value that is being read
	err  *Error
}

func newReader(data []byte) *reader {
	// An object is refused for a key that comes twice only if the key is
	// read: `ip` prints what a tunnel needs between a route's own keys.
	dec := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true))
	return &reader{data: data, dec: dec}
}

// step leads into a value: by a key of an object, or by an index of a list.
type step struct {
	key   string
	index int // -1 for a key
}

// place is the way to the value: "rules[0].src".
func (r *reader) place() string {
	var b strings.Builder
	for _, s := range r.path {
		odd := strings.ContainsFunc(s.key, func(r rune) bool {
			return r <= ' ' || r == '"' || r >= 0x7f
		})
		switch {
		case s.index >= 0:
			fmt.Fprintf(&b, "[%d]", s.index)
		case odd || s.key == "":
			b.WriteString("." + strconv.Quote(s.key))
		default:
			b.WriteString("." + s.key)
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}

// fail notes an error of the current value. The first of a document counts.
func (r *reader) fail(format string, args ...any) {
	if r.err != nil {
		return
	}
	r.err = &Error{Key: r.place(), Err: fmt.Errorf(format, args...)}
	if r.err.Key == "" {
		r.err.Key = "document"
	}
}

// in calls do with the value of a key as the current one.
func (r *reader) in(key string, do func()) {
	r.path = append(r.path, step{key, -1})
	do()
	r.path = r.path[:len(r.path)-1]
}

func (r *reader) failIn(key, format string, args ...any) {
	r.in(key, func() { r.fail(format, args...) })
}

// scalar is a value without parts, or the first token of an object or a list.
type scalar struct {
	kind jsontext.Kind
	text string // of a string without its quotes
}

// String returns the value as an error shows it.
func (s scalar) String() string {
	switch {
	case s.kind == '{':
		return "an object"
	case s.kind == '[':
		return "a list"
	case s.kind == '"' && len(s.text) > 40:
		return fmt.Sprintf("%.40q…", s.text)
	case s.kind == '"':
		return strconv.Quote(s.text)
	}
	return fmt.Sprintf("%.40s", s.text)
}

func (r *reader) want(what string, s scalar) { r.fail("want %s, not %s", what, s) }

// next reads a token.
func (r *reader) next() scalar {
	if r.err != nil {
		return scalar{}
	}
	before := r.dec.InputOffset()
	t, err := r.dec.ReadToken()
	if err != nil {
		r.syntax(before, err)
		return scalar{}
	}
	s := scalar{t.Kind(), t.String()}
	if len(s.text) > maxString {
		r.fail("%s: a string of %d bytes, want %d at most", r.position(before),
			len(s.text), maxString)
	}
	return s
}

// any reads a value of any kind. It passes over the parts of the value.
func (r *reader) any() scalar {
	kind, before := r.dec.PeekKind(), r.dec.InputOffset()
	if kind != '{' && kind != '[' {
		return r.next()
	}
	if err := r.dec.SkipValue(); err != nil {
		r.syntax(before, err)
	}
	return scalar{kind: kind}
}

// syntax notes an error of jsontext in what begins at an offset.
func (r *reader) syntax(offset int64, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the document ends too early")
	}
	if s := new(jsontext.SyntacticError); errors.As(err, &s) {
		err = s.Err // without the offset
	}
	r.fail("%s: %w", r.position(offset), err)
}

// position returns where the next token after an offset begins.
func (r *reader) position(offset int64) string {
	rest := bytes.TrimLeft(r.data[offset:], " \t\r\n,:")
	head := r.data[:len(r.data)-len(rest)]
	line := 1 + bytes.Count(head, []byte("\n"))
	return fmt.Sprintf("line %d, column %d", line, len(head)-bytes.LastIndexByte(head, '\n'))
}

// opens reads the first token of an object or a list and reports whether it is
// one.
func (r *reader) opens(kind jsontext.Kind, what string) bool {
	s := r.next()
	if s.kind != kind {
		r.want(what, s)
	}
	return r.err == nil
}

// more reports whether another member or element follows.
func (r *reader) more() bool {
	return r.err == nil && !slices.Contains([]jsontext.Kind{0, ']', '}'}, r.dec.PeekKind())
}

// list reads a list; each reads one element.
func (r *reader) list(each func()) {
	if !r.opens('[', "a list") {
		return
	}
	r.path = append(r.path, step{})
	for i := 0; r.more(); i++ {
		r.path[len(r.path)-1].index = i
		each()
	}
	r.path = r.path[:len(r.path)-1]
	r.next()
}

// listOf reads a list; one reads an element, and reports whether to keep it.
// The result is not nil.
func listOf[T any](r *reader, one func(*reader) (T, bool)) []T {
	out := []T{}
	r.list(func() {
		if x, ok := one(r); ok {
			out = append(out, x)
		}
	})
	return out
}

// scalars reads a list of values without parts.
func scalars[T any](r *reader, convert func(*reader, scalar) T) []T {
	return listOf(r, func(r *reader) (T, bool) { return convert(r, r.next()), true })
}

// object is an object that was read.
type object struct {
	r       *reader
	members []member // without those that nested has read
	nested  []string // the keys of those
}

type member struct {
	key   string
	value scalar
}

// object reads an object. nested has, by key, the readers of lists and
// objects in it.
func (r *reader) object(nested map[string]func()) *object {
	o := &object{r: r}
	if !r.opens('{', "an object") {
		return o
	}
	for r.more() {
		key := r.next().text
		r.in(key, func() {
			read := nested[key]
			switch {
			case read == nil:
				o.members = append(o.members, member{key, r.any()})
			case slices.Contains(o.nested, key):
				r.fail("is there twice")
			default:
				o.nested = append(o.nested, key)
				read()
			}
		})
	}
	r.next()
	return o
}

// empty reports whether the object has no member. `ip -j` prints {} for what
// its filter leaves out.
func (o *object) empty() bool { return len(o.members)+len(o.nested) == 0 }

func (o *object) has(key string) bool {
	return slices.ContainsFunc(o.members, func(m member) bool { return m.key == key })
}

// keepFirst drops later members of a key.
func (o *object) keepFirst(key string) {
	first := true
	o.members = slices.DeleteFunc(o.members, func(m member) bool {
		later := m.key == key && !first
		first = first && m.key != key
		return later
	})
}

// field converts the value of a key, if the object has it.
func field[T any](o *object, key string, convert func(*reader, scalar) T) (x T) {
	found := false
	for _, m := range o.members {
		if m.key != key {
			continue
		}
		o.r.in(key, func() {
			if found {
				o.r.fail("is there twice")
			}
			x = convert(o.r, m.value)
		})
		found = true
	}
	return x
}

// required is field for a key that must be there.
func required[T any](o *object, key string, convert func(*reader, scalar) T) T {
	if !o.has(key) {
		o.r.failIn(key, "missing key")
	}
	return field(o, key, convert)
}

// whole is the value as it is.
func whole(_ *reader, s scalar) scalar { return s }

// str is a string.
func str(r *reader, s scalar) string {
	if s.kind != '"' {
		r.want("a string", s)
	}
	return s.text
}

// text is a string, or a number as its digits: `ip -N` prints numbers both
// ways.
func text(r *reader, s scalar) string {
	if s.kind != '"' && s.kind != '0' {
		r.want("a number or a string", s)
	}
	return s.text
}

// word is a text that can stand in a line of `ip`.
func word(r *reader, s scalar) string {
	if w := text(r, s); w == "" || strings.ContainsAny(w, " \t\n\v\f\r") {
		r.want("one word", s)
	}
	return s.text
}

// name is a link's name, as the kernel judges it (dev_valid_name), but as long
// as alternative names may be (ALTIFNAMSIZ).
func name(r *reader, s scalar) string {
	n := str(r, s)
	if n == "" || len(n) > 127 || n == "." || n == ".." ||
		strings.ContainsAny(n, "/: \t\n\v\f\r\x00") {
		r.want("the name of an interface", s)
	}
	return n
}

// number is a number within bounds.
func number(least, most int64) func(*reader, scalar) int64 {
	return func(r *reader, s scalar) int64 {
		i, err := strconv.ParseInt(s.text, 10, 64)
		if s.kind != '0' || err != nil || i < least || i > most {
			r.want(fmt.Sprintf("a number from %d to %d", least, most), s)
		}
		return i
	}
}

// numeral is a number as a text; zero is a word for 0. Other words are names in
// a file of the captured machine.
func numeral(zero string, bits int) func(*reader, scalar) uint64 {
	return func(r *reader, s scalar) uint64 {
		n := text(r, s)
		if n == zero {
			return 0
		}
		i, err := strconv.ParseUint(n, 10, bits)
		if err != nil {
			r.fail("%.40q is no number of %d bits: capture with ip -N", n, bits)
		}
		return i
	}
}

// yes is a key whose presence says yes; `ip` gives it null or true.
func yes(r *reader, s scalar) bool {
	if s.kind != 'n' && s.kind != 't' && s.kind != 'f' {
		r.want("true, false or null", s)
	}
	return s.kind != 'f'
}

func addr(r *reader, s scalar) netip.Addr {
	a, err := netip.ParseAddr(str(r, s))
	if err != nil || a.Zone() != "" {
		r.want("an IP address", s)
	}
	return a
}

func prefix(r *reader, s scalar) netip.Prefix {
	p, err := netip.ParsePrefix(str(r, s))
	if err != nil {
		r.want("a prefix", s)
	}
	return p
}

// part is some words of an `ip` line, and the key that they come from.
type part struct {
	key   string
	words []string
}

// part appends a keyword and the value of a key, if the object has it.
func (o *object) part(parts []part, key, keyword string) []part {
	if !o.has(key) {
		return parts
	}
	return append(parts, part{key, []string{keyword, field(o, key, word)}})
}

// parse reads a line made of parts. If the line is refused, the error is about
// the part with which it is refused first; the parts before least are known to
// be good.
func parse[T any](r *reader, least int, parts []part, read func(line string) (T, error)) T {
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
			r.failIn(parts[i-1].key, "%w", e)
			break
		}
	}
	return x
}
