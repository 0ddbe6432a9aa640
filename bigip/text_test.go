package bigip

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// disguises are what happens to files on their way: the stanzas must stay the
// same.
var disguises = map[string]func(string) string{
	"CRLF":       func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	"byte order": func(s string) string { return "\xef\xbb\xbf" + s },
	"UTF-16": func(s string) string {
		b := []byte("\xff\xfe")
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return string(b)
	},
	"UTF-16 big-endian": func(s string) string {
		b := []byte("\xfe\xff")
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.BigEndian.AppendUint16(b, u)
		}
		return string(b)
	},
	"pager": func(s string) string {
		return strings.ReplaceAll(s, "\n", "\n\x1b[7m---(less 84%)---\x1b[m\r\x1b[K")
	},
	"pager as text": func(s string) string { return strings.ReplaceAll(s, "\n", "\n---(less 7%)---\r") },
	"colours":       func(s string) string { return strings.ReplaceAll(s, "ltm", "\x1b[1;31mltm\x1b[0m") },
	"no last line end": func(s string) string {
		return strings.TrimSuffix(s, "\n")
	},
	"blank lines behind": func(s string) string { return s + "\n\n \n" },
}

func TestDisguises(t *testing.T) {
	names, err := filepath.Glob("../testdata/bigip/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for what, disguise := range disguises {
		t.Run(what, func(t *testing.T) {
			for _, name := range names {
				archive, err := txtar.ParseFile(name)
				if err != nil {
					t.Fatal(err)
				}
				text := string(archive.Files[0].Data)
				want, errWant := Parse("x", []byte(text))
				got, errGot := Parse("x", []byte(disguise(text)))
				if diff := cmp.Diff(dump(want), dump(got)); diff != "" ||
					(errWant == nil) != (errGot == nil) {
					t.Errorf("%s: %v, %v\n-plain +disguised\n%s", name, errWant,
						errGot, diff)
				}
			}
		})
	}
}

// TestPagerLines: the pager's prompt has a line of its own in some captures,
// and stays one, so that line numbers are those of the file.
func TestPagerLines(t *testing.T) {
	const text = "net route NTP {\n    gw 192.0.2.30\n\x1b[7m---(less 84%)\x1b[m\x1b[K\n" +
		"\x1b[K    network 198.51.100.0/24\n}\nltm pool p {\n" +
		"\x1b[7m---(less 7\x1b[m\x1b[K\n\x1b[K}\n"
	c, err := Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const want = `2 stanzas: 2 parsed, 0 named
route /Common/NTP 198.51.100.0/24 domain 0 gateway 192.0.2.30 pool "" interface "" [x:1]
pool /Common/p  [x:6]
`
	if diff := cmp.Diff(want, dump(c)); diff != "" {
		t.Error(diff)
	}
}

// TestBytes: no byte sequence in a value costs a stanza, and what is printed of
// a name is clean.
func TestBytes(t *testing.T) {
	for _, bytes := range []string{"\xff\xfe\xfd", "caf\xe9", "日本語", "\x00", "\x01\x02\x7f",
		"\u202e", "a\x1b[31mb\x1b[0m"} {
		text := "ltm pool /Common/p {\n    description \"" + bytes + "\"\n    comment " +
			bytes + "\n}\nltm virtual /Common/" + bytes +
			"v {\n    destination 192.0.2.1:80\n"
		c, err := Parse("x", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", bytes, err)
		}
		if want := (Count{Found: 2, Parsed: 1, Named: 1}); c.Stanzas != want ||
			len(c.Virtuals) != 1 || len(c.Pools) != 1 {
			t.Errorf("%q: %+v", bytes, c)
		}
		if w := c.Warnings[0]; w.Code != truncated ||
			strings.ContainsAny(w.Subject, "\x00\x01\x1b\x7f\u202e") {
			t.Errorf("%q: %+q", bytes, w)
		}
	}
}

// TestSecrets: nothing of a body but names and addresses is in what Parse
// returns.
func TestSecrets(t *testing.T) {
	data, err := os.ReadFile("../testdata/bigip/trap-secrets.txtar")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("x", txtar.Parse(data).Files[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	if s := cmp.Diff(Config{}, c, byValue); strings.Contains(s, "HUNTER2") ||
		!strings.Contains(s, "auth password") {
		t.Error(s)
	}
}

func TestTypeWord(t *testing.T) {
	for word, want := range map[string]bool{"route-domain": true, "a_1": true, "ltm": true,
		"": false, "1a": false, "-a": false, "Ltm": false, "aB": false, "ü": false,
		"aü": false, "a/b": false} {
		if got := typeWord(word); got != want {
			t.Errorf("typeWord(%q) = %v", word, got)
		}
	}
}
