package bigip

import (
	"iter"
	"strings"
)

// token is a word, or a brace.
type token struct {
	// unquoted; "{" and "}" for braces. A part of the file: values that
	// outlive the parser are copies
	text  string
	brace bool
	first bool // of its line
}

func (t token) is(brace string) bool { return t.brace && t.text == brace }

// tokens are the inside of a block.
type tokens []token

// structured reads the body of a stanza of properties into s.body, behind its
// opening brace. It reports whether it found the closing one; if not, it stops
// at the next header, or at the end.
func (s *scan) structured(st *stanza) bool {
	keep := modelled[st.kind]
	if s.body = s.body[len(s.body):]; cap(s.body) < 64 {
		s.body = make(tokens, 0, 1024)
	}
	first := false
	for depth := 1; s.pos < len(s.data); {
		t := token{first: first}
		switch c := s.data[s.pos]; {
		case c == '\n':
			s.pos++
			s.line++
			first = true
			if s.atHeader() {
				return false
			}
			continue
		case c == ' ' || c == '\t':
			s.pos++
			continue
		case c == '#':
			s.pos += len(s.peek())
			continue
		case c == '{' || c == '}':
			t.text, t.brace = s.data[s.pos:s.pos+1], true
			s.pos++
			if depth++; c == '}' {
				depth -= 2
			}
		case c == '"':
			text, ok := s.quoted()
			if !ok {
				return false
			}
			t.text = text
		default:
			t.text = s.word()
		}
		first = false
		if depth == 0 {
			s.rest()
			return true
		}
		if keep {
			if s.words--; s.words < 0 {
				return false
			}
			s.body = append(s.body, t)
		}
	}
	return false
}

// rest goes to the next line if only blanks and comments are left of this one.
func (s *scan) rest() {
	if text := strings.TrimLeft(s.peek(), " \t"); len(text) == 0 || text[0] == '#' {
		s.next()
	}
}

// quoted reads a string, which may go on for many lines. A header in column 0
// ends it unfinished.
func (s *scan) quoted() (string, bool) {
	s.pos++
	for start := s.pos; s.pos < len(s.data); s.pos++ {
		switch s.data[s.pos] {
		case '"':
			s.pos++
			return unquote(s.data[start : s.pos-1]), true
		case '\n':
			s.line++
			s.pos++
			if s.atHeader() {
				return "", false
			}
			s.pos--
		case '\\':
			if s.pos+1 < len(s.data) && s.data[s.pos+1] != '\n' {
				s.pos++
			}
		}
	}
	return "", false
}

// word reads a bare word: up to a blank, with quotes, backslashes and pairs of
// braces unchanged. A brace without its partner in the same word is not part of
// the word.
func (s *scan) word() string {
	start, end, brace, depth, paired := s.pos, s.pos, -1, 0, true
	for ; end < len(s.data) && s.data[end] > ' '; end++ {
		switch c := s.data[end]; {
		case c == '\\' && end+1 < len(s.data) && s.data[end+1] > ' ':
			end++
			continue
		case c == '{':
			depth++
		case c == '}':
			depth--
		default:
			continue
		}
		if brace < 0 {
			brace = end
		}
		paired = paired && depth >= 0
		if brace < s.split {
			break
		}
	}
	if brace >= 0 && (!paired || depth != 0 || brace < s.split) {
		s.split, end = max(s.split, end), brace
	}
	s.pos = max(end, start+1) // a control character is a word
	return s.data[start:s.pos]
}

// flags are the properties of modelled stanzas that have no value.
var flags = set("blackhole, dhcp-relay, disabled, enabled, internal, ip-forward, l2-forward, " +
	"reject, stateless, tagged, untagged, automap, vlans-disabled, vlans-enabled")

// entries yields the items of a block: each word with the block behind it, if
// it has one. It is the way to read a list.
func (ts tokens) entries() iter.Seq2[string, tokens] {
	return func(yield func(string, tokens) bool) {
		for i := 0; i < len(ts); {
			if ts[i].brace {
				i = ts.end(i)
				continue
			}
			name := strings.Clone(ts[i].text)
			var block tokens
			if i++; i < len(ts) && ts[i].is("{") {
				end := ts.end(i)
				block, i = ts.inside(i), end
			}
			if !yield(name, block) {
				return
			}
		}
	}
}

// end returns the index behind the block that opens at i.
func (ts tokens) end(i int) int {
	for depth := 0; i < len(ts); i++ {
		switch {
		case ts[i].is("{"):
			depth++
		case ts[i].is("}"):
			depth--
		}
		if depth <= 0 {
			return i + 1
		}
	}
	return len(ts)
}

// inside returns the tokens of the block that opens at i. A block that lost its
// end goes to the end of all.
func (ts tokens) inside(i int) tokens {
	end := ts.end(i)
	if end-1 > i && ts[end-1].is("}") {
		return ts[i+1 : end-1]
	}
	return ts[i+1 : end]
}

// properties yields the items of a block as names and values. Each line has one
// property, unless all are on one line, as `tmsh list … one-line` prints them:
// there a property that is not a flag has one value.
func (ts tokens) properties() iter.Seq2[token, tokens] {
	return func(yield func(token, tokens) bool) {
		oneLine := !ts.lines()
		for i := 0; i < len(ts); {
			if ts[i].brace {
				i = ts.end(i)
				continue
			}
			key := ts[i]
			start := i + 1
			i = start
			if oneLine {
				i = ts.oneValue(key, i)
			}
			for !oneLine && i < len(ts) && !(ts[i].first && !ts[i].brace) {
				i = ts.end(i)
			}
			if !yield(key, ts[start:i]) {
				return
			}
		}
	}
}

// oneValue returns the index behind the value of key that starts at i. In a
// virtual address "enabled" is not a flag: it is followed by yes or no.
func (ts tokens) oneValue(key token, i int) int {
	if i < len(ts) && !ts[i].brace &&
		(!flags[key.text] || ts[i].text == "yes" || ts[i].text == "no") {
		i++
	}
	if i < len(ts) && ts[i].is("{") {
		i = ts.end(i)
	}
	return i
}

// lines reports whether a property of the block starts a line.
func (ts tokens) lines() bool {
	for i := 0; i < len(ts); i = ts.end(i) {
		if ts[i].first && !ts[i].brace {
			return true
		}
	}
	return false
}

// block returns the inside of the first block of a value; ok is false if the
// value is a word.
func (ts tokens) block() (inside tokens, ok bool) {
	for i := range ts {
		if ts[i].is("{") {
			return ts.inside(i), true
		}
	}
	return nil, false
}

// first returns the first word of a value; "none", as tmsh prints it, is "".
func (ts tokens) first() string {
	if len(ts) == 0 || ts[0].brace || ts[0].text == "none" {
		return ""
	}
	return strings.Clone(ts[0].text)
}

// names returns the words of a list, with or without braces.
func (ts tokens) names() []string {
	inside, ok := ts.block()
	if !ok {
		inside = ts
	}
	var names []string
	for name := range inside.entries() {
		if name != "none" {
			names = append(names, name)
		}
	}
	return names
}
