package capture

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// This file reads JSON so that each error names its place:
// "routes[3].nexthops[0].weight". jsontext checks the syntax; the document
// types, and their tags, say what belongs where. `need` is "always" for a key
// that must be there, and "if any" if the object may be empty: `ip -j` prints
// {} for what its filter leaves out. `is` is one of kinds, or the bounds of a
// number: "0..255"; for a list or a map it is about its values. `again` names
// the owner of a key that may come again.

// maxString bounds a string. Every name, directive and message is far shorter.
const maxString = 64 << 10

// maxPlace bounds the depth of a place. Everything that is read is less deep.
const maxPlace = 8

// reader reads one document from its first byte to its last. It keeps the
// first error; after it, it reads nothing more.
type reader struct {
	data []byte
	dec  *jsontext.Decoder
	path jsontext.Pointer // to the object that is converted
	err  *Error
	// the fields of the document types that were met, by key
	fields map[reflect.Type]map[string]reflect.StructField
}

func newReader(data []byte) *reader {
	// An object with a repeated key is refused only if the key is read:
	// `ip` prints what a tunnel needs between a route's own keys.
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	return &reader{data: data, dec: dec,
		fields: map[reflect.Type]map[string]reflect.StructField{}}
}

// place is the path to a value as errors name it: "rules[0].src".
func place(p jsontext.Pointer) string {
	var b strings.Builder
	for i, key := range slices.Collect(p.Tokens()) {
		if i == maxPlace {
			break
		}
		odd := strings.ContainsFunc(key, func(r rune) bool {
			return r <= ' ' || r == '"' || r >= 0x7f
		})
		switch _, err := strconv.ParseUint(key, 10, 32); {
		case err == nil:
			b.WriteString("[" + key + "]")
		case odd || key == "":
			b.WriteString("." + strconv.Quote(key))
		default:
			b.WriteString("." + key)
		}
	}
	if b.Len() == 0 {
		return "document"
	}
	return strings.TrimPrefix(b.String(), ".")
}

// failAt records an error of a value. The first of a document counts.
func (r *reader) failAt(p jsontext.Pointer, err error) {
	if r.err == nil {
		r.err = &Error{Key: place(p), Err: err}
	}
}

// fail records an error of a part of the object that is converted.
func (r *reader) fail(key, format string, args ...any) {
	r.failAt(r.path+jsontext.Pointer("/"+key), fmt.Errorf(format, args...))
}

// failHere records an error of the value that was read last.
func (r *reader) failHere(err error) { r.failAt(r.dec.StackPointer(), err) }

// check records an error of a member that is not what it has to be.
func (r *reader) check(key string, s scalar, is string) {
	if err := s.check(is); err != nil {
		r.failAt(r.path.AppendToken(key), err)
	}
}

// all converts the objects of a list; one reports whether to keep what it
// returns.
func all[D, T any](r *reader, key string, docs []D, one func(D, *reader) (T, bool)) []T {
	if docs == nil {
		return nil
	}
	outer := r.path
	defer func() { r.path = outer }()
	out := make([]T, 0, len(docs))
	for i, d := range docs {
		r.path = outer.AppendToken(key).AppendToken(strconv.Itoa(i))
		if x, ok := one(d, r); ok {
			out = append(out, x)
		}
	}
	return out
}

// document reads all of the data.
func (r *reader) document(d *document) {
	r.fill(reflect.ValueOf(d).Elem(), "")
	after := r.dec.InputOffset()
	if _, err := r.dec.ReadToken(); err != io.EOF {
		r.failAt("", fmt.Errorf("%s: more after its end", r.position(after)))
	}
}

// syntax records an error of jsontext in what begins at an offset.
func (r *reader) syntax(offset int64, err error) {
	place := r.dec.StackPointer()
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		place, err = s.JSONPointer, s.Err // without the offset
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the document ends too early")
	}
	r.failAt(place, fmt.Errorf("%s: %w", r.position(offset), err))
}

// position returns where the next token after an offset begins.
func (r *reader) position(offset int64) string {
	rest := bytes.TrimLeft(r.data[offset:], " \t\r\n,:")
	head := r.data[:len(r.data)-len(rest)]
	line := 1 + bytes.Count(head, []byte("\n"))
	return fmt.Sprintf("line %d, column %d", line, len(head)-bytes.LastIndexByte(head, '\n'))
}

// token reads a token.
func (r *reader) token() (s scalar) {
	before := r.dec.InputOffset()
	t, err := r.dec.ReadToken()
	if err != nil {
		r.syntax(before, err)
		return s
	}
	s = scalar{t.Kind(), t.String()}
	if n := len(s.text); n > maxString {
		r.failHere(fmt.Errorf("%s: a string of %d bytes, want %d at most",
			r.position(before), n, maxString))
	}
	return s
}

// scalar reads a value. It skips the parts of the value.
func (r *reader) scalar() scalar {
	kind, before := r.dec.PeekKind(), r.dec.InputOffset()
	if kind != '{' && kind != '[' {
		return r.token()
	}
	if err := r.dec.SkipValue(); err != nil {
		r.syntax(before, err)
	}
	return scalar{kind: kind}
}

// parts reads an object or a list; one reads a part.
func (r *reader) parts(kind jsontext.Kind, what string, one func(key string)) {
	if s := r.token(); s.kind != kind {
		r.failHere(s.wrong(what))
	}
	end := kind + 2 // in ASCII
	for r.err == nil && r.dec.PeekKind() != end {
		key := ""
		if kind == '{' {
			key = r.token().text
		}
		one(key)
	}
	if r.err == nil {
		r.token()
	}
}

// fill reads a value of a document type.
func (r *reader) fill(v reflect.Value, is string) {
	value := func() reflect.Value {
		x := reflect.New(v.Type().Elem()).Elem()
		r.fill(x, is)
		return x
	}
	switch x := v.Addr().Interface().(type) {
	case *tunnel:
		x.fill(r)
		return
	case *scalar, encoding.TextUnmarshaler:
		r.leaf(v, is)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		r.parts('[', "a list", func(string) { v.Set(reflect.Append(v, value())) })
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		r.parts('{', "an object", func(name string) {
			key := reflect.ValueOf(name)
			if v.MapIndex(key).IsValid() {
				r.failHere(errTwice)
			}
			v.SetMapIndex(key, value())
		})
	case reflect.Struct:
		r.structure(v)
	default:
		r.leaf(v, is)
	}
}

var (
	errTwice   = errors.New("is there twice")
	errMissing = errors.New("missing key")
	errUnknown = errors.New("unknown key")
)

// structure fills a struct.
func (r *reader) structure(v reflect.Value) {
	fields, seen, empty := r.fieldsOf(v.Type()), map[string]bool{}, true
	outermost := r.dec.StackDepth() == 0
	r.parts('{', "an object", func(key string) {
		empty = false
		f, known := fields[key]
		switch again := f.Tag.Get("again") != ""; {
		case !known && outermost:
			r.failHere(errUnknown)
		case !known, seen[key] && again:
			r.scalar()
		case seen[key]:
			r.failHere(errTwice)
		default:
			seen[key] = true
			r.fill(v.FieldByIndex(f.Index), f.Tag.Get("is"))
		}
	})
	var missing []string
	for key, f := range fields {
		need := f.Tag.Get("need")
		if !seen[key] && (need == "always" || need == "if any" && !empty) {
			missing = append(missing, key)
		}
	}
	if missing != nil {
		r.failAt(r.dec.StackPointer().AppendToken(slices.Min(missing)), errMissing)
	}
}

// fieldsOf returns the fields of a struct by their keys.
func (r *reader) fieldsOf(t reflect.Type) map[string]reflect.StructField {
	if fields := r.fields[t]; fields != nil {
		return fields
	}
	fields := map[string]reflect.StructField{}
	r.fields[t] = fields
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[key] = f
	}
	delete(fields, "") // embedded
	return fields
}

// leaf reads a value without parts.
func (r *reader) leaf(v reflect.Value, is string) {
	s := r.scalar()
	if err := s.check(is); err != nil {
		r.failHere(err)
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *scalar:
		*x = s
	case *bool:
		*x = s.kind != 'f'
	case encoding.TextUnmarshaler:
		if x.UnmarshalText([]byte(s.text)) != nil {
			r.failHere(s.wrong(kinds[is].want))
		}
	default:
		if v.Kind() == reflect.String {
			v.SetString(s.text)
		} else {
			_, _ = fmt.Sscan(s.text, x) // a number within its bounds
		}
	}
}

// scalar is a value without parts, or the kind of an object or a list.
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

// MarshalJSON writes the value.
func (s scalar) MarshalJSON() ([]byte, error) {
	if s.kind == '"' {
		return json.Marshal(s.text)
	}
	return []byte(s.text), nil
}

// check returns an error if the value is not of a kind, or out of bounds.
func (s scalar) check(is string) error {
	kind, ok := kinds[is]
	fits := ok && kind.fits(s)
	if !ok {
		var least, most int64
		_, _ = fmt.Sscanf(is, "%d..%d", &least, &most)
		n, err := strconv.ParseInt(s.text, 10, 64)
		fits = s.kind == '0' && err == nil && least <= n && n <= most
		kind.want = fmt.Sprintf("a number from %d to %d", least, most)
	}
	if !fits {
		return s.wrong(kind.want)
	}
	return nil
}

func (s scalar) wrong(want string) error { return fmt.Errorf("want %s, not %s", want, s) }

// kinds are what values may have to be, in the words of errors.
var kinds = map[string]struct {
	want string
	fits func(scalar) bool
}{
	"any":  {"", like(``)},
	"":     {"a string", like(`^"`)},
	"text": {"a number or a string", like(`^["0]`)},     // `ip -N` prints numbers both ways
	"word": {"one word", like(`^["0][^ \t\n\v\f\r]+$`)}, // that can stand in a line of `ip`
	"name": {"the name of an interface", scalar.isName},
	// a key whose presence means yes; `ip` gives it null or true
	"yes":       {"true, false or null", like(`^[ntf]`)},
	"address":   {"an IP address", func(s scalar) bool { return s.addr().IsValid() }},
	"inet":      {"an IPv4 address", func(s scalar) bool { return s.addr().Is4() }},
	"inet6":     {"an IPv6 address", func(s scalar) bool { return s.addr().Is6() }},
	"prefix":    {"a prefix", like(`^".`)},
	"time":      {"a time like 2026-01-02T03:04:05Z", like(`^"`)},
	"family":    {"inet or inet6", like(`^"inet6?$`)},
	"transport": {"tcp or udp", like(`^"(tcp|udp)$`)},
	"learned":   {"tcp, udp or icmp", like(`^"(tcp|udp|icmp)$`)},
	"type": {"a type of routes",
		like(`^["0](\d|` + strings.Join(typeWords[1:], "|") + `)$`)},
	"version": {strconv.Itoa(Version), like(`^0` + strconv.Itoa(Version) + `$`)},
}

// like matches the kind of a value and its text.
func like(pattern string) func(scalar) bool {
	re := regexp.MustCompile(pattern)
	return func(s scalar) bool { return re.MatchString(string(rune(s.kind)) + s.text) }
}

// isName judges a link's name as the kernel does (dev_valid_name), but allows
// the length of alternative names (ALTIFNAMSIZ).
func (s scalar) isName() bool {
	n := s.text
	return s.kind == '"' && n != "" && len(n) <= 127 && n != "." && n != ".." &&
		!strings.ContainsAny(n, "/: \t\n\v\f\r\x00")
}

// addr is an address without a zone, or the zero Addr.
func (s scalar) addr() netip.Addr {
	a, err := netip.ParseAddr(s.text)
	if s.kind != '"' || err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a
}

// numeral reads a number in a string; zero is a word for 0. Other words are
// names in a file of the captured machine.
func (r *reader) numeral(key, n, zero string, bits int) uint64 {
	if n == "" || n == zero {
		return 0
	}
	i, err := strconv.ParseUint(n, 10, bits)
	if err != nil {
		r.fail(key, "%.40q is not a number of %d bits: capture with ip -N", n, bits)
	}
	return i
}

// part is some words of an `ip` line, and the place that they come from.
type part struct {
	place jsontext.Pointer
	words []string
}

// part appends a keyword and the value of a key, if the object has it.
func (r *reader) part(parts []part, key, keyword, value string) []part {
	if value == "" {
		return parts
	}
	return append(parts, part{r.path.AppendToken(key), []string{keyword, value}})
}

// parse reads a line made of parts. If the line is refused, the error is about
// the first part that makes the parser refuse it. The parts before least are
// known to be good.
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
			r.failAt(parts[i-1].place, e)
			break
		}
	}
	return x
}

// members are those of an object whose keys are not all known.
type members map[string]scalar

// object is such an object while it is converted.
type object struct {
	*reader
	members
}

func (o object) has(key string) bool {
	_, ok := o.members[key]
	return ok
}

// get returns the value of a key as it has to be, "" if there is none.
func (o object) get(key, is string) string {
	s, ok := o.members[key]
	if ok {
		o.check(key, s, is)
	}
	return s.text
}

func (o object) word(key string) string { return o.get(key, "word") }

func (o object) yes(key string) bool { return o.get(key, "yes") != "false" && o.has(key) }

// need returns the word of a key that must be there.
func (o object) need(key string) string {
	if !o.has(key) {
		o.failAt(o.path.AppendToken(key), errMissing)
	}
	return o.word(key)
}
