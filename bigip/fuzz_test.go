package bigip

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse: no input crashes or hangs; every stanza is accounted for; each
// result names its origin; the same input gives the same result.
func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("../testdata/bigip/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(data).Files {
			f.Add(file.Data)
		}
	}
	f.Add(tarOf(f, ucs[:7]))
	f.Add(gzipOf(f, tarOf(f, ucs[:7])))
	f.Add([]byte("\x1b[7m---(less 7%)\x1b[m\r\x1b[K ltm pool x {\r\n}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("x", data)
		if err != nil {
			if e, ok := err.(*Error); !ok || e.Hint() == "" {
				t.Fatal("an error without a hint: ", err)
			}
			return
		}
		account(t, c)
		for _, v := range c.Virtuals {
			for _, d := range v.Destinations {
				if d.Origin == "" || len(d.Ports) == 0 && d.Service == "" {
					t.Fatalf("%+v", d)
				}
			}
			for _, i := range c.Ingresses(v) {
				if i.Return == "" || i.Level == "" || i.Value == "" {
					t.Fatalf("%+v", i)
				}
			}
		}
		again, err := Parse("x", data)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatal(err, cmp.Diff(c, again, byValue))
		}
	})
}

// named are the codes of a stanza that was not read whole, is of no known kind,
// or was replaced.
const named = unclosed + " " + truncated + " " + unknownModule + " " + duplicate

// account checks that the stanzas found are those read and those named, each in
// a warning of its own.
func account(t *testing.T, c Config) {
	t.Helper()
	warnings := 0
	for _, w := range c.Warnings {
		if w.Code == "" || w.Message == "" || w.Hint == "" || w.Origin == "" {
			t.Fatalf("%+v", w)
		}
		if strings.Contains(named, w.Code) {
			warnings++
		}
	}
	if n := c.Stanzas; n.Found != n.Parsed+n.Named || n.Named != warnings {
		t.Fatalf("%+v, and %d warnings", n, warnings)
	}
}
