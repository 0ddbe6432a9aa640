package nginxconf

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	// blocks inside of blocks, including those of including files: NGINX
	// itself crashes between 10,000 and 20,000
	maxNesting = 1000
	// bytes of one word: NGINX reads no word that is longer than its buffer
	// (NGX_CONF_BUFFER in src/core/ngx_conf_file.c)
	maxWord = 4096
	// words of one directive that is kept
	maxWords = 1 << 17
)

// scanner reads a file as NGINX's ngx_conf_read_token does, byte by byte, and
// writes what the loader uses into text, a statement a line. crossplane, whose
// cost grows with depth, with the length of words and with all that it keeps,
// gets only this text. A few milliseconds a megabyte.
type scanner struct {
	name string
	data []byte
	at   int // the next byte
	line int // of that byte

	words []word // of the last statement; at most maxWords
	many  bool   // it had more

	text  []byte
	lines []int // in data, of each line of text
	kept  int   // what text costs, in units of about 60 bytes of crossplane's memory
	open  []openBlock
}

// word is one argument, or the name of a directive.
type word struct {
	from, to int  // in data, without quotes
	quote    byte // 0 for none
	line     int
}

// openBlock is what text was before a block: an empty block is removed again.
type openBlock struct {
	text, lines, kept int
	inside            int // what kept was behind its brace
	opened            int // its line
	stays             bool
}

// scan reads a whole file. An error is NGINX's own, or a limit.
func scan(name string, data []byte) (*scanner, error) {
	s := &scanner{name: name, data: data, line: 1}
	for {
		end, err := s.statement()
		if err != nil {
			return nil, err
		}
		if end == 0 {
			break
		}
		if err := s.take(end); err != nil {
			return nil, err
		}
	}
	if n := len(s.open); n > 0 {
		return nil, s.fail(s.line, `unexpected end of file, expecting "}" for the `+
			fmt.Sprintf("block of line %d", s.open[n-1].opened))
	}
	return s, nil
}

// take keeps the statement that ends with end, if it matters.
func (s *scanner) take(end byte) error {
	if end == '}' {
		return s.closeBlock()
	}
	name := string(s.data[s.words[0].from:s.words[0].to])
	switch {
	case end == '{' && strings.HasSuffix(name, luaBlock):
		return s.skipLua()
	case end == ';' && !matters(name):
		return nil
	case s.many:
		return s.fail(s.words[0].line, fmt.Sprintf("more than %d words", maxWords))
	case end == '{' && len(s.open) == maxNesting:
		return tooDeep(s.name, s.words[0].line)
	}
	b := openBlock{text: len(s.text), lines: len(s.lines), kept: s.kept,
		opened: s.words[0].line, stays: staysEmpty(name)}
	s.keep(end)
	if end == '{' {
		b.inside = s.kept
		s.open = append(s.open, b)
	}
	return nil
}

func tooDeep(name string, line int) *Error {
	return &Error{File: name, Line: line,
		What: fmt.Sprintf("more than %d nested blocks", maxNesting),
		Fix:  "check that this is an NGINX configuration, or close the blocks before"}
}

// matters reports whether the loader uses a directive without a block (see
// loader.simple). A name with a backslash may be any.
func matters(name string) bool {
	switch name {
	case "include", "listen", "pid", "server", "server_name":
		return true
	}
	return strings.HasSuffix(name, "_bind") || strings.HasSuffix(name, "_pass") ||
		strings.Contains(name, `\`) || misspelt(name)
}

// misspelt reports whether a name is "listen" with a letter too many, missing
// or replaced, with two neighbours exchanged, or with capitals. NGINX has no
// such directive, and lasthop knows no module that has one.
func misspelt(name string) bool {
	const listen = "listen"
	a, b := strings.ToLower(name), listen
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return name != listen && (len(a) <= 1 && len(b) <= 1 ||
		len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0])
}

// staysEmpty reports whether a block counts though nothing in it matters.
func staysEmpty(name string) bool {
	return name == "events" || name == "server" || name == "upstream" ||
		strings.Contains(name, `\`)
}

func (s *scanner) closeBlock() error {
	n := len(s.open) - 1
	if n < 0 {
		return s.fail(s.line, `unexpected "}"`)
	}
	b := s.open[n]
	s.open = s.open[:n]
	if !b.stays && s.kept == b.inside {
		s.text, s.lines, s.kept = s.text[:b.text], s.lines[:b.lines], b.kept
		return nil
	}
	s.text = append(s.text, '}')
	return nil
}

// keep writes the statement and begins a line.
func (s *scanner) keep(end byte) {
	for i, w := range s.words {
		if i > 0 {
			s.text = append(s.text, ' ')
		}
		text := s.data[w.from:w.to]
		quote := w.quote
		if quote == 0 && bytes.IndexByte(text, '}') >= 0 &&
			!bytes.ContainsAny(text, `"\`) {
			quote = '"' // for crossplane, a brace in a word ends a block
		}
		if quote != 0 {
			s.text = append(append(append(s.text, quote), text...), quote)
		} else {
			s.text = append(s.text, text...)
		}
		for range bytes.Count(text, []byte("\n")) {
			s.lines = append(s.lines, s.words[0].line)
		}
	}
	s.text = append(s.text, ' ', end, '\n') // `$ {` is not `${`
	s.lines = append(s.lines, s.words[0].line)
	s.kept += 8 + len(s.words) + len(s.open)/8 // crossplane copies the names around
}

// statement reads up to the `;`, `{` or `}` that ends a statement, and returns
// it: 0 at the end of the file.
func (s *scanner) statement() (end byte, err error) {
	s.words, s.many = s.words[:0], false
	for {
		s.skipSpace()
		if s.at == len(s.data) {
			if len(s.words) > 0 {
				return 0, s.premature(s.words[0].line)
			}
			return 0, nil
		}
		switch c := s.data[s.at]; c {
		case ';', '{':
			if len(s.words) == 0 {
				return 0, s.fail(s.line, fmt.Sprintf("unexpected %q", string(c)))
			}
			s.at++
			return c, nil
		case '}':
			if len(s.words) > 0 {
				return 0, s.fail(s.words[0].line,
					`the directive is not terminated by ";"`)
			}
			s.at++
			return c, nil
		}
		if err := s.word(); err != nil {
			return 0, err
		}
	}
}

// skipSpace skips spaces and comments.
func (s *scanner) skipSpace() {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '\n':
			s.line++
		case c == '#':
			n := bytes.IndexByte(s.data[s.at:], '\n')
			if n < 0 {
				s.at = len(s.data)
				return
			}
			s.at += n - 1
		case !space(c):
			return
		}
	}
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// word reads one word from its first character, and stops at what ends it.
func (s *scanner) word() error {
	w := word{line: s.line, from: s.at}
	if c := s.data[s.at]; c == '"' || c == '\'' {
		w.quote = c
		w.from++
		s.at++
	}
	if !s.wordEnd(w) {
		return s.premature(w.line)
	}
	w.to = s.at
	if w.to-w.from >= maxWord {
		return &Error{File: s.name, Line: w.line, What: fmt.Sprintf(
			"a word of more than %d bytes, which NGINX refuses", maxWord-1),
			Fix: "check whether a quote or a space is missing; " + nginxT}
	}
	if w.quote != 0 {
		s.at++
		if c := s.peek(); !space(c) && c != ';' && c != '{' && c != ')' && c != 0 {
			return s.fail(s.line, "a space is missing behind a quote")
		}
	}
	if len(s.words) == maxWords {
		s.many = true
		return nil
	}
	s.words = append(s.words, w)
	return nil
}

// wordEnd moves to what ends the word that begins here: its quote, or a space,
// `;` or `{`. It returns false at the end of the file.
func (s *scanner) wordEnd(w word) bool {
	variable := false // behind a `$`, whose brace opens no block
	for ; s.at < len(s.data); s.at++ {
		c := s.data[s.at]
		switch {
		case c == '{' && variable:
			continue
		case w.quote != 0 && c == w.quote,
			w.quote == 0 && (space(c) || c == ';' || c == '{'):
			return true
		case c == '\n':
			s.line++
		case c == '\\':
			s.at++
			if s.peek() == '\n' {
				s.line++
			}
		}
		variable = c == '$'
	}
	return false
}

// peek returns the next byte, 0 at the end of the file.
func (s *scanner) peek() byte {
	if s.at >= len(s.data) {
		return 0
	}
	return s.data[s.at]
}

func (s *scanner) premature(line int) error { return s.fail(line, "premature end of file") }

func (s *scanner) fail(line int, what string) error {
	return &Error{File: s.name, Line: line, What: what, Fix: syntaxHint(what)}
}
