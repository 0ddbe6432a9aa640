package bigip

import (
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
)

// node is a value of a JSON text.
type node struct {
	key  string // in an object
	text string // of a string, number, true or false
	kind byte   // '{', '[', '"' for a string or number, 't', 'f', or 'n' for null
	list []node
}

// get returns a member of an object; of two of a name the later counts. The
// zero node is none.
func (n node) get(key string) node {
	for i := len(n.list) - 1; i >= 0 && n.kind == '{'; i-- {
		if n.list[i].key == key {
			return n.list[i]
		}
	}
	return node{}
}

// str returns a member of an object that is a string or number; "" if there is
// none.
func (n node) str(key string) string { return n.get(key).text }

// jsonStart is how a JSON text with objects begins. No stanza and no section of
// BigDB.dat does.
var jsonStart = regexp.MustCompile(`\A[\s\[]*\{\s*"`)

// jsonDepth is deeper than any answer of iControl REST, which has 7 levels.
const jsonDepth = 64

// wordsOfNode is about the memory of a node, in words.
const wordsOfNode = 3

var (
	errDeep  = errors.New("is nested deeper than any answer of iControl REST")
	errNodes = errors.New("has more values than any BIG-IP")
)

// jsonReader reads JSON values, one after the other.
type jsonReader struct {
	decoder *json.Decoder
	nodes   int // that may still be made
}

func newJSONReader(text string, nodes int) *jsonReader {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return &jsonReader{d, nodes}
}

// next reads a value with all that is in it. The error is io.EOF behind the
// last one, io.ErrUnexpectedEOF if the text ends inside of one, errDeep,
// errNodes, or one of package json.
func (r *jsonReader) next() (node, error) {
	t, err := r.decoder.Token()
	if err != nil {
		return node{}, err
	}
	n, err := r.value(t, 0)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// value reads the value that begins with a token.
func (r *jsonReader) value(t json.Token, depth int) (node, error) {
	if r.nodes--; r.nodes < 0 {
		return node{}, errNodes
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == jsonDepth {
			return node{}, errDeep
		}
		return r.members(byte(t), depth+1)
	case string:
		return node{kind: '"', text: t}, nil
	case json.Number:
		return node{kind: '"', text: t.String()}, nil
	case bool:
		if t {
			return node{kind: 't', text: "true"}, nil
		}
		return node{kind: 'f', text: "false"}, nil
	}
	return node{kind: 'n'}, nil
}

// members reads an array or an object, behind its opening bracket.
func (r *jsonReader) members(kind byte, depth int) (node, error) {
	n := node{kind: kind}
	for r.decoder.More() {
		t, err := r.decoder.Token()
		key, _ := t.(string)
		if kind == '{' && err == nil {
			t, err = r.decoder.Token()
		}
		if err != nil {
			return node{}, err
		}
		kid, err := r.value(t, depth)
		if err != nil {
			return node{}, err
		}
		if kind == '{' {
			kid.key = key
		}
		n.list = append(n.list, kid)
	}
	_, err := r.decoder.Token()
	return n, err
}
