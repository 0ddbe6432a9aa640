package bigip

import (
	"cmp"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
)

// rest reads the answers of iControl REST in a JSON text as stanzas: items of
// collections (`GET /mgmt/tm/ltm/virtual`), single items, and arrays and
// objects of these. A property has the name of tmsh, in camelCase.
func (l *loader) rest(file, data string) error {
	r := newJSONReader(data, (l.limits.words-l.words)/wordsOfNode)
	a := answers{file: file, missing: map[string]bool{}}
	for {
		n, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return jsonError(file, data, r.decoder.InputOffset(), err)
		}
		a.take(n, collection{})
	}
	if a.err != nil && a.found {
		return a.err
	}
	l.words = l.limits.words - r.nodes*wordsOfNode + len(a.stanzas)*wordsOfStanza
	if !a.found {
		l.unused(file, data)
		return nil
	}
	l.Version = cmp.Or(l.Version, a.version)
	l.stanzas = append(l.stanzas, a.stanzas...)
	for _, what := range a.order {
		l.say("not-expanded", what, file,
			"this answer has only links to them",
			"request it again, with ?expandSubcollections=true at the end of the URL")
	}
	return nil
}

// jsonError returns what is wrong with a JSON text at an offset.
func jsonError(file, data string, offset int64, err error) *Error {
	const fix = "request the answer of iControl REST again"
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(file, "ends in the middle: the JSON is truncated", fix)
	case errors.Is(err, errDeep), errors.Is(err, errNodes):
		return refuse(file, err.Error(), accepted)
	}
	line := 1 + strings.Count(data[:min(int(offset), len(data))], "\n")
	return &Error{File: file, Line: line, What: "is not readable JSON", Err: err,
		Fix: fix}
}

// answers are the answers of iControl REST in one file.
type answers struct {
	file    string
	version string // of TMOS, as links have it
	stanzas []*stanza
	found   bool
	// subcollections that decide something and that are not in the file, as
	// "ltm pool: members"
	missing map[string]bool
	order   []string
	err     *Error // why they cannot be used
}

// collection is what the items of a collection have from it.
type collection struct {
	kind     string // "ltm virtual"; "" for none
	expanded bool
}

// take reads a value that may be, or hold, answers.
func (a *answers) take(n node, in collection) {
	if n.kind != '{' {
		for _, kid := range n.list {
			a.take(kid, in)
		}
		return
	}
	link := n.str("selfLink")
	if text := n.str("kind"); text != "" || in.kind == "" {
		kind, whole := restKind(text)
		in.kind = kind
		if whole {
			a.found = true
		}
		if whole && n.get("items").kind == 0 {
			return // it is empty
		}
	}
	in.expanded = in.expanded || strings.Contains(link, "expandSubcollections=true")
	a.found = a.found || in.kind != ""
	_, version, _ := strings.Cut(link, "ver=")
	a.version = cmp.Or(a.version, label(version))
	a.refuse(n, in.kind)
	switch items := n.get("items"); {
	case items.kind == '[':
		a.take(items, in)
	case in.kind != "":
		a.item(n, in)
	default:
		for _, kid := range n.list {
			a.take(kid, collection{})
		}
	}
}

// refuse records why answers cannot be used: one has an error, other than that
// of a module that the BIG-IP does not have, or not all properties.
func (a *answers) refuse(n node, kind string) {
	link, code := n.str("selfLink"), n.str("code")
	switch {
	case kind == "" && n.get("message").kind == '"' && len(code) == 3 && code >= "400" &&
		code != "404":
		a.err = refuse(a.file, "has an answer of iControl REST with the error "+
			label(code), "send the request again")
	case kind != "" && (strings.Contains(link, "$select=") ||
		strings.Contains(link, "%24select=")):
		a.err = refuse(a.file, "lacks some properties: the request had "+
			"$select", "request it again without")
	}
}

// restKind returns the words of a stanza for the kind of an answer: "ltm
// virtual" for tm:ltm:virtual:virtualstate and virtualcollectionstate, with
// whole for the latter; "" if it is no kind of a configuration.
func restKind(text string) (kind string, whole bool) {
	rest, tm := strings.CutPrefix(text, "tm:")
	rest, state := strings.CutSuffix(rest, "state")
	words := strings.Split(rest, ":")
	last := len(words) - 1
	if !tm || !state || last < 2 || last > maxWords || !modules[words[0]] ||
		slices.ContainsFunc(words, func(w string) bool { return !typeWord(w) }) {
		return "", false
	}
	return strings.Join(words[:last], " "), strings.HasSuffix(words[last], "collection")
}

// item reads an item as a stanza.
func (a *answers) item(n node, in collection) {
	s := &stanza{kind: in.kind, file: a.file, name: n.str("fullPath")}
	if s.name == "" && n.str("partition") != "" {
		s.name = path.Join("/", n.str("partition"), n.str("subPath"), n.str("name"))
	}
	s.name = cmp.Or(s.name, n.str("name"))
	s.title = strings.TrimSuffix(s.kind+" "+s.name, " ")
	switch text := n.str("apiAnonymous"); {
	case scripts[s.kind] && text == "":
		return // its text cannot be read
	case scripts[s.kind]:
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				s.tcl(line)
			}
		}
	case modelled[s.kind]:
		if !in.expanded {
			a.unexpanded(n, s.kind)
		}
		s.body = tokens(nil).object(n)
	}
	a.stanzas = append(a.stanzas, s)
}

// decisive are the subcollections whose items decide something.
var decisive = set("devicesReference, membersReference, policiesReference")

// unexpanded records the decisive subcollections of an item that are not in it.
func (a *answers) unexpanded(n node, kind string) {
	for _, kid := range n.list {
		what := kind + ": " + strings.TrimSuffix(kid.key, "Reference")
		if decisive[kid.key] && kid.get("isSubcollection").kind == 't' &&
			kid.get("items").kind == 0 && !a.missing[what] {
			a.missing[what] = true
			a.order = append(a.order, what)
		}
	}
}

// about are the members of an item that are no properties.
var about = set("kind, name, fullPath, generation, selfLink, link, isSubcollection, subPath")

// object appends the properties of a JSON object as they stand in a stanza.
func (ts tokens) object(n node) tokens {
	for _, v := range n.list {
		key, reference := strings.CutSuffix(v.key, "Reference")
		if reference {
			v = v.get("items") // the links alone add nothing
		}
		name := tmshName(key)
		if about[key] || v.kind == 0 || v.kind == 'n' || v.kind == 'f' && flags[name] ||
			v.kind != 't' && v.kind != 'f' && v.text == "" && len(v.list) == 0 {
			continue
		}
		ts = append(ts, token{text: name, first: true}).value(v)
	}
	return ts
}

var opening, closing = token{text: "{", brace: true}, token{text: "}", brace: true}

// value appends a JSON value: a word, or a block.
func (ts tokens) value(n node) tokens {
	switch n.kind {
	case '{':
		ts = append(ts, opening).object(n)
		return append(ts, closing)
	case '[':
		ts = append(ts, opening)
		for _, kid := range n.list {
			if name := cmp.Or(kid.str("fullPath"), kid.str("name")); name != "" {
				ts = append(ts, token{text: name})
			}
			ts = ts.value(kid)
		}
		return append(ts, closing)
	}
	return append(ts, token{text: n.text})
}

// tmshName returns the name that a property has in tmsh: auto-lasthop for
// autoLasthop. Names that are taken in REST have tm in front: tmInterface.
func tmshName(key string) string {
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	if len(key) > 2 && key[:2] == "tm" && upper(key[2]) {
		key = strings.ToLower(key[2:3]) + key[3:]
	}
	var b strings.Builder
	for i := range len(key) {
		if upper(key[i]) {
			b.WriteByte('-')
			b.WriteByte(key[i] - 'A' + 'a')
			continue
		}
		b.WriteByte(key[i])
	}
	return b.String()
}
