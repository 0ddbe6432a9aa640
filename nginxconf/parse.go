package nginxconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"lasthop/internal/hint"

	"github.com/nginxinc/nginx-go-crossplane"
)

// source is one file, parsed for one context.
type source struct {
	name string
	// its bytes are no UTF-8 and were read as Latin-1, so that arg can give
	// them back
	latin1 bool
	empty  bool // it contains only spaces
	list   crossplane.Directives
}

// Crossplane's masks for directives, with these names in its analyze.go, which
// does not export them.
const (
	maskBlock = 0x100
	maskExpr  = 0x200
	maskAny   = 0x800
)

// shapes replaces crossplane's tables of directives. Any name may have any
// arguments, with or without a block. So crossplane only reports a directive
// that ends with neither `;` nor a block, and the `if ()` that makes it panic.
func shapes(directive string) ([]uint, bool) {
	if directive == "if" {
		return []uint{maskBlock | maskExpr | maskAny}, true
	}
	return []uint{maskBlock | maskAny, maskAny}, true
}

// parse parses what matters of a file, and returns the cost. What the scanner
// passes on is well formed, in any block.
func parse(name string, data []byte) (s source, cost int, w []Warning, err error) {
	if err := checkText(name, data); err != nil {
		return source{}, 0, nil, err
	}
	scanned, err := scan(name, data)
	if err == nil && scanned.kept > maxKept {
		err = tooMuch(name, 0)
	}
	if err != nil {
		return source{}, 0, nil, err
	}
	text := scanned.text
	s = source{name: name, latin1: !utf8.Valid(text), empty: len(bytes.TrimSpace(data)) == 0}
	if s.latin1 {
		text = fromLatin1(text)
	}
	payload, err := runParser(name, text)
	if err != nil {
		return source{}, 0, nil, err
	}
	w, err = judge(name, scanned.lines, payload.Errors)
	s.list = payload.Config[0].Parsed
	setLines(s.list, scanned.lines)
	return s, scanned.kept, w, err
}

// setLines gives directives the lines that they have in the file.
func setLines(list crossplane.Directives, lines []int) {
	for _, d := range list {
		d.Line = lineOf(lines, d.Line)
		setLines(d.Block, lines)
	}
}

func lineOf(lines []int, n int) int {
	if len(lines) == 0 {
		return 0
	}
	return lines[min(max(n, 1), len(lines))-1]
}

// smallChannel gives crossplane's two halves a channel of 16 words for each
// file. Its own has 2,048: 100 kB to allocate and clear for each of 10,000
// small files.
var smallChannel = sync.OnceFunc(func() { crossplane.SetTokenChanCap(16) })

// runParser calls crossplane, which panics on some input that NGINX refuses.
func runParser(name string, data []byte) (p *crossplane.Payload, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{File: name, What: fmt.Sprintf("parser failed: %v", r),
				Fix: nginxT}
		}
	}()
	smallChannel()
	p, err = crossplane.Parse(name, &crossplane.ParseOptions{
		SingleFile:                true,
		SkipDirectiveContextCheck: true,
		DirectiveSources:          []crossplane.MatchFunc{shapes},
		Open: func(string) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		},
	})
	if err != nil {
		return nil, &Error{File: name, What: unquoted(err.Error()), Fix: nginxT}
	}
	return p, nil
}

const nginxT = "`nginx -t` shows what NGINX says of it; what is installed stays as it is"

// judge separates errors after which the tree cannot be trusted from other
// errors.
func judge(name string, lines []int, errs []crossplane.PayloadError) ([]Warning, error) {
	var warnings []Warning
	for _, e := range errs {
		what, line := e.Error.Error(), 0
		if pe, ok := errors.AsType[*crossplane.ParseError](e.Error); ok {
			what = pe.What
		}
		what = unquoted(what)
		if e.Line != nil {
			line = lineOf(lines, *e.Line)
		}
		// in a map, geo, …: crossplane does not know `geo { volatile;
		// }`
		if what == "invalid number of parameters" {
			warnings = append(warnings, Warning{Code: "parser",
				Message: "the parser does not know this line: " + what,
				Hint:    "harmless if `nginx -t` accepts it",
				Origin:  hint.Origin(name, line)})
			continue
		}
		return nil, &Error{File: name, Line: line, What: what, Fix: syntaxHint(what)}
	}
	return warnings, nil
}

func syntaxHint(what string) string {
	switch {
	case strings.Contains(what, "end of file"):
		return "the file looks truncated or half-written: a `}`, a `;` " +
			"or a quote is missing; " + nginxT
	case strings.Contains(what, `unexpected "}"`):
		return "remove the brace; " + nginxT
	case strings.Contains(what, "not terminated"):
		return "end the directive with `;`"
	}
	return nginxT
}

// checkText finds text that no configuration may hold.
func checkText(name string, data []byte) error {
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return &Error{File: name, Line: 1, What: "starts with a byte order mark",
			Fix: "save the file as UTF-8 without one; NGINX reads it as a " +
				"part of the first directive"}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return &Error{File: name, Line: 1 + bytes.Count(data[:i], []byte("\n")),
			What: "is not a text file: it holds a NUL byte",
			Fix:  "check that this is an NGINX configuration"}
	}
	return nil
}

func fromLatin1(data []byte) []byte {
	wide := make([]byte, 0, len(data)+len(data)/8)
	for _, c := range data {
		wide = utf8.AppendRune(wide, rune(c))
	}
	return wide
}

// arg gives an argument the bytes that NGINX sees: escapes resolved, and
// Latin-1 undone.
func (s source) arg(a string) string {
	if s.latin1 {
		b := make([]byte, 0, len(a))
		for _, r := range a {
			b = append(b, byte(r))
		}
		a = string(b)
	}
	if !strings.Contains(a, `\`) {
		return a
	}
	return unescape.Replace(a)
}

// unescape is ngx_conf_read_token's: other characters keep their backslash.
var unescape = strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`, `\t`, "\t",
	`\r`, "\r", `\n`, "\n")

func (s source) args(d *crossplane.Directive) []string {
	args := make([]string, len(d.Args))
	for i, a := range d.Args {
		args[i] = s.arg(a)
	}
	return args
}
