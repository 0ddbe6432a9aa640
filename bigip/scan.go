package bigip

import (
	"cmp"
	"slices"
	"strings"

	"lasthop/internal/hint"
)

// stanza is one `header { … }` of a file.
type stanza struct {
	title    string // the words of the header: "ltm virtual /Common/web"
	kind     string // "ltm virtual"; of kinds that are not modelled the first two words
	name     string
	file     string
	line     int      // 0 for an item of iControl REST
	body     tokens   // only of modelled kinds
	commands []string // of an iRule: lasthop, nexthop
	calls    []string // of an iRule: those whose procedures it calls
	problem  string   // "", or the code that it is named with
	stopped  int      // the line of the header that ended it, if it is unclosed
}

// module is the first word of the header.
func (s *stanza) module() string {
	module, _, _ := strings.Cut(s.title, " ")
	return module
}

// known reports whether tmsh has its module.
func (s *stanza) known() bool { return s.problem != unknownModule }

// origin is file:line, or for an item of iControl REST "file: name".
func (s *stanza) origin() string {
	if s.line == 0 {
		return s.file + ": " + label(cmp.Or(s.name, s.kind))
	}
	return hint.Origin(s.file, s.line)
}

// subject is what a message may contain of a stanza: its type and name. For an
// unknown module only plain words are certain to be these.
func (s *stanza) subject() string {
	if s.problem == unknownModule {
		return label(s.module())
	}
	return label(s.title)
}

// The codes of a stanza that counts as named.
const (
	unclosed      = "unclosed"
	truncated     = "truncated"
	unknownModule = "unknown-module"
	duplicate     = "duplicate"
)

// modules are tmsh's. A line in column 0 that begins with one and opens a brace
// is a header wherever it stands.
var modules = set("analytics, api-protection, apm, asm, auth, cli, cm, gtm, ilx, ltm, mgmt, net, " +
	"pem, saas, security, sys, transaction, util, vcmp, wam, wom")

// set splits a list at commas.
func set(list string) map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Split(list, ", ") {
		names[name] = true
	}
	return names
}

// scripts are the kinds whose body is a language of its own, mostly Tcl.
var scripts = set("ltm rule, gtm rule, pem irule, cli script, sys application apl-script, " +
	"sys application template, sys icall script")

// scan is the state of one walk through a file.
type scan struct {
	file    string
	data    string
	pos     int
	line    int
	end     int                  // of the line, where it is behind pos
	split   int                  // up to here no word holds braces
	words   int                  // that may still be kept
	body    tokens               // of the stanza that is read, with room for that of the next
	parts   [maxWords + 1]string // of a header
	stanzas []*stanza
	strays  int // lines outside of stanzas that are neither blank nor comments
	stray   int // the first of them
	// behind a `!`: up to the next header this is configuration of imish,
	// or a comment of a collector
	routing bool
	imish   int // the first line of it; 0 for none
	version string
}

// run finds the stanzas of the file. It reports whether there are not too many.
func (s *scan) run() bool {
	for s.line = 1; s.pos < len(s.data) && s.words >= 0; {
		line := s.peek()
		text := strings.TrimSpace(line)
		words, open := header(text, s.parts[:0])
		switch {
		case len(text) == 0:
		case text[0] == '#':
			s.comment(text)
		case text[0] == '!':
			s.routing = true
		case words != nil && modules[words[0]]:
			s.known(words, strings.IndexByte(line, text[0])+open)
			continue
		case s.routing:
			if s.imish == 0 {
				s.imish = s.line
			}
		case words != nil:
			s.open(&stanza{title: strings.Join(words, " "), problem: unknownModule},
				strings.IndexByte(line, text[0])+open)
			continue
		default:
			s.outside(text)
		}
		s.next()
	}
	return s.words >= 0
}

// peek returns the remaining line, without its end. It searches the end once: a
// line can hold a million stanzas.
func (s *scan) peek() string {
	if s.end < s.pos || s.pos == 0 {
		s.end = len(s.data)
		if i := strings.IndexByte(s.data[s.pos:], '\n'); i >= 0 {
			s.end = s.pos + i
		}
	}
	return s.data[s.pos:s.end]
}

// next goes to the next line.
func (s *scan) next() {
	s.pos = min(s.pos+len(s.peek())+1, len(s.data))
	s.line++
}

func (s *scan) comment(text string) {
	if v, ok := strings.CutPrefix(text, "#TMSH-VERSION:"); ok && s.version == "" {
		s.version = label(strings.TrimSpace(v))
	}
}

// outside reads a line that belongs to no stanza. A header without a brace has
// lost its body.
func (s *scan) outside(text string) {
	words := strings.Fields(text[:min(len(text), maxLabel)])
	if len(words) > 1 && len(words) < 5 && modules[words[0]] && typeWord(words[1]) {
		// whether the other words are a name is unknown
		s.add(&stanza{title: strings.Join(words[:2], " "), line: s.line,
			problem: truncated})
		return
	}
	if s.strays == 0 {
		s.stray = s.line
	}
	s.strays++
}

// maxWords is how many words a header may have: `gtm topology ldns: not subnet
// N server: not pool P` has 9.
const maxWords = 16

// header splits a line that opens a stanza: its words, which it appends to
// words, and where the text behind the brace starts. Words are plain or quoted.
func header(text string, words []string) (_ []string, open int) {
	for i := 0; i < len(text) && len(words) <= maxWords; {
		switch c := text[i]; {
		case c == ' ' || c == '\t':
			i++
		case c == '{':
			// NGINX Plus has a block called mgmt
			if len(words) == 0 || len(words) == 1 && modules[words[0]] {
				return nil, 0
			}
			return words, i + 1
		default:
			word, n := headerWord(text[i:])
			if n == 0 || len(words) == 0 && !typeWord(word) || len(words) == 1 &&
				modules[words[0]] && !typeWord(word) {
				return nil, 0
			}
			words, i = append(words, word), i+n
		}
	}
	return nil, 0
}

// headerWord returns the first word and its length, 0 if there is none.
func headerWord(text string) (string, int) {
	if text[0] != '"' {
		n := strings.IndexAny(text, " \t{")
		if n < 0 {
			return "", 0 // a header has a brace after its words
		}
		if strings.IndexByte(text[:n], '"') >= 0 || text[0] == '}' {
			return "", 0
		}
		return text[:n], n
	}
	for n := 1; n < len(text); n++ {
		switch text[n] {
		case '\\':
			n++
		case '"':
			return unquote(text[1:n]), n + 1
		}
	}
	return "", 0
}

// typeWord reports whether a word can be a module or a type.
func typeWord(s string) bool {
	return s != "" && s[0] >= 'a' && s[0] <= 'z' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// unquote removes the backslashes of a quoted string.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// atHeader reports whether the line here is the header of a known module, in
// column 0.
func (s *scan) atHeader() bool {
	if s.pos >= len(s.data) || s.data[s.pos] < 'a' || s.data[s.pos] > 'z' {
		return false
	}
	line := s.peek()
	if i := strings.IndexByte(line, ' '); i < 0 || !modules[line[:i]] {
		return false
	}
	words, _ := header(line, nil)
	return words != nil
}

// known reads the stanza of a known module whose body starts at offset.
func (s *scan) known(words []string, offset int) {
	s.routing = false
	st := &stanza{title: strings.Join(words, " ")}
	st.kind, st.name = kindOf(st.title, words)
	s.open(st, offset)
}

// kindOf splits the title of a stanza, which its words make, into its kind and
// its name.
func kindOf(title string, words []string) (kind, name string) {
	end := len(words[0]) + 1 + len(words[1])
	if len(words) > 2 {
		longer := title[:end+1+len(words[2])]
		if modelled[longer] || scripts[longer] {
			end = len(longer)
		}
	}
	return title[:end], strings.TrimPrefix(title[end:], " ")
}

// open reads the body of a stanza.
func (s *scan) open(st *stanza, offset int) {
	st.line = s.line
	s.pos += offset
	closed := false
	if scripts[st.kind] {
		closed = s.script(st)
	} else {
		closed = s.structured(st)
		st.body = slices.Clip(s.body)
	}
	switch {
	case closed || st.problem != "":
	case s.pos >= len(s.data):
		st.problem = truncated
	default:
		st.stopped, st.problem = s.line, unclosed
	}
	s.add(st)
}

// wordsOfStanza is about the memory of a stanza, in words.
const wordsOfStanza = 16

func (s *scan) add(st *stanza) {
	st.file = s.file
	s.words -= wordsOfStanza
	s.stanzas = append(s.stanzas, st)
}

// tcl reads one line of a script.
func (s *stanza) tcl(line string) {
	s.commands, s.calls = addCommands(s.commands, line), addCalls(s.calls, line)
}

// script reads the body of a script: lines up to the next header. It reports
// whether the last of them closes it.
func (s *scan) script(st *stanza) (closed bool) {
	if rest := strings.TrimSpace(s.peek()); len(rest) > 0 && rest[len(rest)-1] == '}' &&
		strings.Count(rest, "{")+1 == strings.Count(rest, "}") {
		st.tcl(rest)
		s.next()
		return true
	}
	depth, last := 1, ""
	for first := true; s.pos < len(s.data); first = false {
		line := s.peek()
		text := strings.TrimSpace(line)
		if !first && (s.atHeader() || closed && depth == 0 && foreign(line)) {
			return closed
		}
		depth += tclDepth(line)
		if len(text) > 0 && text[0] != '#' {
			closed, last = text[len(text)-1] == '}', line
			st.tcl(text)
		}
		s.next()
	}
	// an odd brace in a comment, or the end is missing
	return closed && (depth <= 0 || last == "}")
}

// foreign reports whether a line after the end of a script belongs to no
// script: imish's routing, or an unknown module.
func foreign(line string) bool {
	if len(line) > 0 && line[0] == '!' {
		return true
	}
	words, _ := header(line, nil)
	return len(words) > 1 && words[0] != "when" && words[0] != "proc" && typeWord(words[1])
}

// tclDepth is by how much a line of Tcl changes the depth of braces. Tcl counts
// them in comments and strings, too.
func tclDepth(line string) int {
	depth := 0
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			depth--
		}
	}
	return depth
}
